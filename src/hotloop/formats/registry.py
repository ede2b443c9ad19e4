"""Finds the format for a model: by family name, or by what its chat template does."""

from collections.abc import Callable, Mapping
from datetime import date
from functools import partial

from hotloop.formats.bases.answers.dialect import Dialect as AnswerDialect
from hotloop.formats.bases.answers.format import AnswerFormat
from hotloop.formats.bases.chat.dialect import Dialect as ChatDialect
from hotloop.formats.bases.chat.format import ChatFormat
from hotloop.formats.families import deepseek, kimi
from hotloop.formats.families.chatml import CODER_SYSTEM, QWEN3_CODER, QWEN35, ChatML
from hotloop.formats.families.glm import GLM_46, GLM_47
from hotloop.formats.families.harmony import Harmony
from hotloop.formats.families.llama3 import Llama3
from hotloop.formats.families.mistral import V3, V11, V13, V13_THINKING, Mistral, default_system
from hotloop.formats.generic import GenericFormat
from hotloop.seams.format import Format
from hotloop.seams.tokenizer import Tokenizer

GENERIC = "generic"  # any chat template; needs the template itself
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
MIMO_SYSTEM = "You are MiMo, an AI assistant developed by Xiaomi."


class UnknownFormat(ValueError):
    """There is no format of this name. The message names those known."""


_CHAT_DIALECTS: tuple[ChatDialect, ...] = (
    ChatML(),
    ChatML("qwen2.5", default_system=QWEN_SYSTEM),
    ChatML("mimo", default_system=MIMO_SYSTEM),
    ChatML("qwen3", thinks=True),
    ChatML("qwen3-thinking", thinks=True, opens_think=True),
    ChatML("qwq", thinks=True, opens_think=True, separates_tools=True, off_block=("\n", "")),
    QWEN3_CODER,
    QWEN35,
    GLM_46,
    GLM_47,
)
_ANSWER_DIALECTS: tuple[AnswerDialect, ...] = (
    deepseek.R1,
    deepseek.V31,
    deepseek.V32,
    deepseek.V4,
    deepseek.V4_FLASH,
    kimi.INSTRUCT,
    kimi.INSTRUCT_FIRST,
    kimi.THINKING,
    kimi.THINKING_ONCE,
)
_MISTRAL = {version.name: version for version in (V3, V11, V13, V13_THINKING)}
FAMILIES: dict[str, Callable[[Tokenizer], Format]] = {
    **{dialect.name: partial(ChatFormat, dialect=dialect) for dialect in _CHAT_DIALECTS},
    "harmony": Harmony,
    "llama3": Llama3,
    **{dialect.name: partial(AnswerFormat, dialect=dialect) for dialect in _ANSWER_DIALECTS},
    **{name: partial(Mistral, version=version) for name, version in _MISTRAL.items()},
}


def format_named(family: str, tokenizer: Tokenizer) -> Format:
    """The format of a family; raises UnknownFormat, or ValueError if the vocabulary does not fit the family."""
    if family == GENERIC:
        raise ValueError("the generic format needs the chat template it writes")
    make = FAMILIES.get(family)
    if make is None:
        raise UnknownFormat(f"unknown format {family!r}; known are {_known()}")
    return make(tokenizer)


def format_for_template(
    template: str,
    tokenizer: Tokenizer,
    *,
    family: str | None = None,
    variables: Mapping[str, object] | None = None,
    stop_tokens: frozenset[int] = frozenset(),
    today: date | None = None,
) -> Format:
    """The format that writes what the Jinja `template` writes: its family's, else the generic one.

    `family` overrides what the template looks like. The rest is for the generic format (`GenericFormat`). Raises
    UnknownFormat, or ValueError if template or vocabulary cannot be used.
    """
    chosen = family or family_of(template) or GENERIC
    if chosen in _MISTRAL:
        return Mistral(tokenizer, _MISTRAL[chosen], default_system(template))
    if chosen != GENERIC:
        return format_named(chosen, tokenizer)
    return GenericFormat(tokenizer, template, variables=variables, stop_tokens=stop_tokens, today=today)


def family_of(template: str) -> str | None:
    """The family a template belongs to, by what it writes; None if it is none of ours. Look-alikes are told apart."""
    if "<｜User｜>" in template:
        return _deepseek_of(template)
    if "<|tool_calls_section_begin|>" in template and "<|im_middle|>" in template:
        return _kimi_of(template)
    if "[TOOL_CALLS]" in template and "[INST]" in template:
        return _mistral_version(template)
    template = template.replace('\\"', '"')
    found = next((family for family, marks in _MARKS if all(mark in template for mark in marks)), None)
    if found is None and all(mark in template for mark in _QWEN_CALLS):
        return None if "think>" in template or "<function=" in template else "chatml"
    return found


# What no other template writes, the first that fits. Quotation marks are not escaped.
_QWEN_CALLS = ("<|im_start|>", '<tool_call>\\n{"name": ', "<tool_response>")
_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("harmony", ("<|start|>", "<|channel|>analysis<|message|>", "# Valid channels:")),
    ("qwen3-coder", ("<|im_start|>", "<function=", CODER_SYSTEM)),
    ("qwen3.5", ("<|im_start|>", "<function=", "No user query found in messages.")),
    ("qwen3", (*_QWEN_CALLS, "</think>", "enable_thinking is false", "reasoning_content")),
    ("qwen3-thinking", (*_QWEN_CALLS, "</think>", "<|im_start|>assistant\\n<think>\\n", "reasoning_content")),
    ("qwq", (*_QWEN_CALLS, "content.split('</think>')[-1]", "<|im_start|>assistant\\n<think>\\n")),
    ("qwen2.5", (*_QWEN_CALLS, QWEN_SYSTEM)),
    ("mimo", (*_QWEN_CALLS, MIMO_SYSTEM)),
    (
        "llama3",
        ("<|start_header_id|>", "Cutting Knowledge Date", "tools_in_user_message", "<|python_tag|>", "builtin_tools"),
    ),
    ("llama3", ("<|start_header_id|>", "Cutting Knowledge Date", "tools_in_user_message", "strftime_now")),
    ("glm-4.6", ("[gMASK]<sop>", "<arg_key>", "<|observation|>", "/nothink")),
    ("glm-4.7", ("[gMASK]<sop>", "<arg_key>", "<|observation|>", "clear_thinking")),
)


def _deepseek_of(template: str) -> str | None:
    """DeepSeek's version; the distilled models of R1 know no tools and lose calls, so they are none of these."""
    if "<function_results>" in template:
        return "deepseek-v3.2" if "function_calls>" in template else None
    if "<tool_result>" in template and "'tool_calls>" in template:
        return "deepseek-v4-flash" if "reasoning_effort_high" in template else "deepseek-v4"
    if "<｜tool▁sep｜>" not in template:
        return None
    if "ns.is_last_user" in template:
        return "deepseek-v3.1"
    return "deepseek-r1" if "{%- macro flush_tool_outputs() -%}" in template else None


def _kimi_of(template: str) -> str | None:
    """Kimi K2's version; Thinking looks for an answer without calls: for the last one if its loop breaks off there."""
    if "hist_msgs" in template:
        return "kimi-k2-thinking" if "break" in template else "kimi-k2-thinking-once"
    if "tool_call_counter" in template:
        return "kimi-k2"
    return "kimi-k2-first" if "loop.index0|string" in template else None


def _mistral_version(template: str) -> str | None:
    if "[SYSTEM_PROMPT]" not in template:
        return V3.name if "[AVAILABLE_TOOLS][" in template and '"call_id": "' in template else None
    if "[ARGS]" not in template:
        return None  # v7, which lists its calls behind a system prompt
    if "[CALL_ID]" in template:
        return V11.name if "[TOOL_CONTENT]" in template else None
    return V13_THINKING.name if "[/THINK]" in template else V13.name


def _known() -> str:
    return ", ".join([*sorted(FAMILIES), GENERIC])
