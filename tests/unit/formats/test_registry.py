import re

import pytest
from tests.contracts.deepseek_cases import DEEPSEEK_SPECIALS
from tests.contracts.kimi_cases import KIMI_SPECIALS
from tests.contracts.llama_cases import LLAMA_SPECIALS
from tests.support.real_templates import template_names, template_source
from tests.support.toy_tokenizer import GLM_SPECIALS, QWEN_SPECIALS, ToyTokenizer
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
    families = (
        QWEN_SPECIALS,
        HARMONY_IDS,
        DEEPSEEK_SPECIALS,
        KIMI_SPECIALS,
        GLM_SPECIALS,
        LLAMA_SPECIALS,
        MISTRAL_MARKS,
    )
    specials = tuple(dict.fromkeys(special for family_specials in families for special in family_specials))
    assert format_named(family, ToyTokenizer(specials)).name == family


@pytest.mark.parametrize(
    ("template", "family"),
    [
        (CALLS, "chatml"),
        (CALLS.replace('"', '\\"'), "chatml"),
        (CALLS + QWEN_SYSTEM, "qwen2.5"),
        (CALLS + "enable_thinking is false reasoning_content </think>", "qwen3"),
        (CALLS + "'<|im_start|>assistant\\n<think>\\n' reasoning_content </think>", "qwen3-thinking"),
        (CALLS + "'<think>\\n' reasoning_content", None),
        (CALLS + "<function=", None),
        ("<|im_start|>{{ message.role }}", None),
        ("[INST]", None),
    ],
)
def test_a_template_is_known_by_the_markers_it_writes(template: str, family: str | None) -> None:
    assert family_of(template) == family


# Every real template that a family here writes; all others are none of ours.
REAL = {
    "GLM-4.6": "glm-4.6",
    "GLM-4.7-Flash": "glm-4.7",
    "Kimi-K2-Instruct": "kimi-k2",
    "Kimi-K2-Thinking": "kimi-k2-thinking-once",
    "MiMo-VL": "mimo",
    "Mistral-Small-3.2-24B-Instruct-2506": "mistral-v11",
    "Qwen-QwQ-32B": "qwq",
    "Qwen-Qwen2.5-7B-Instruct": "qwen2.5",
    "Qwen-Qwen3-0.6B": "qwen3",
    "Qwen3-Coder": "qwen3-coder",
    "Qwen3.5-4B": "qwen3.5",
    "deepseek-ai-DeepSeek-V3.1": "deepseek-v3.1",
    "deepseek-ai-DeepSeek-V3.2": "deepseek-v3.2",
    "deepseek-ai-DeepSeek-V4": "deepseek-v4",
    "deepseek-ai-DeepSeek-V4-Flash-0731": "deepseek-v4-flash",
    "llama-cpp-deepseek-r1": "deepseek-r1",
    "meta-llama-Llama-3.1-8B-Instruct": "llama3",
    "meta-llama-Llama-3.2-3B-Instruct": "llama3",
    "meta-llama-Llama-3.3-70B-Instruct": "llama3",
    "mistralai-Ministral-3-14B-Reasoning-2512": "mistral-v13-thinking",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral-v3",
    "moonshotai-Kimi-K2": "kimi-k2-first",
    "openai-gpt-oss-120b": "harmony",
    "unsloth-mistral-Devstral-Small-2507": "mistral-v13",
}


def test_real_templates_are_told_from_their_look_alikes() -> None:
    known = {name: family_of(template_source(name)) for name in template_names()}
    assert {name: family for name, family in known.items() if family is not None} == REAL


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
