import re

import pytest
from tests.contracts.deepseek_cases import DEEPSEEK_SPECIALS
from tests.contracts.kimi_cases import KIMI_SPECIALS
from tests.support.toy_tokenizer import QWEN_SPECIALS, ToyTokenizer
from tests.support.vocabularies import HARMONY_IDS, MISTRAL_MARKS

from hotloop.formats import FAMILIES, UnknownFormat, family_of, format_for_template, format_named
from hotloop.formats.registry import QWEN_SYSTEM

ANY = (
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
CALLS = '<|im_start|> <tool_response> \'<tool_call>\\n{"name": "\''


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_is_found_by_its_name(family: str) -> None:
    specials = (*QWEN_SPECIALS, *HARMONY_IDS, *DEEPSEEK_SPECIALS, *KIMI_SPECIALS, *MISTRAL_MARKS)
    assert format_named(family, ToyTokenizer(tuple(dict.fromkeys(specials)))).name == family


@pytest.mark.parametrize(
    ("template", "family"),
    [
        (CALLS, "chatml"),
        (CALLS.replace('"', '\\"'), "chatml"),
        (CALLS + QWEN_SYSTEM, "qwen2.5"),
        (CALLS + "enable_thinking reasoning_content </think>", "qwen3"),
        (CALLS + "'<think>\\n' reasoning_content", None),
        (CALLS + "<function=", None),
        ("<|im_start|>{{ message.role }}", None),
        ("[INST]", None),
    ],
)
def test_a_template_is_known_by_the_markers_it_writes(template: str, family: str | None) -> None:
    assert family_of(template) == family


def test_a_known_template_gives_its_format() -> None:
    assert format_for_template(CALLS, ToyTokenizer()).name == "chatml"


def test_a_template_of_no_family_gives_the_generic_format() -> None:
    format = format_for_template(ANY, ToyTokenizer())
    assert format.name == "generic"


def test_a_family_may_be_forced_upon_a_template() -> None:
    assert format_for_template(CALLS, ToyTokenizer(), family="qwen3").name == "qwen3"
    assert format_for_template(ANY, ToyTokenizer(), family="generic").name == "generic"


def test_what_is_not_known_names_what_is() -> None:
    known = re.escape(", ".join([*sorted(FAMILIES), "generic"]))
    with pytest.raises(UnknownFormat, match=f"'gpt'; known are {known}"):
        format_named("gpt", ToyTokenizer())
    with pytest.raises(UnknownFormat, match=f"'gpt'; known are {known}"):
        format_for_template(ANY, ToyTokenizer(), family="gpt")
    with pytest.raises(ValueError, match="needs the chat template"):
        format_named("generic", ToyTokenizer())
