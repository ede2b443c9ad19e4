import re

import pytest
from tests.support.toy_tokenizer import QWEN_SPECIALS, ToyTokenizer
from tests.support.vocabularies import HARMONY_IDS

from hotloop.formats import FAMILIES, UnknownFormat, family_of, format_for_template, format_named
from hotloop.formats.registry import QWEN_SYSTEM

CALLS = '<|im_start|> <tool_response> \'<tool_call>\\n{"name": "\''


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_is_found_by_its_name(family: str) -> None:
    assert format_named(family, ToyTokenizer((*QWEN_SPECIALS, *HARMONY_IDS))).name == family


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


def test_what_is_not_known_names_what_is() -> None:
    known = re.escape(", ".join(sorted(FAMILIES)))
    with pytest.raises(UnknownFormat, match=f"'gpt'; known are {known}"):
        format_named("gpt", ToyTokenizer())
    with pytest.raises(UnknownFormat, match=f"chat template .* known are {known}"):
        format_for_template("[INST]", ToyTokenizer())
