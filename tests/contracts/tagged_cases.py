"""Cases of the Format suite for calls in tags: Qwen3-Coder, Qwen3.5 and GLM, each against its own template."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.contracts.format_case import BRIEF, FormatCase, real
from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape
from tests.support.real_templates import ChatMessage, Style
from tests.support.tagged_arguments import glm_arguments, qwen_arguments
from tests.support.toy_tokenizer import GLM_SPECIALS
from tests.support.vocabularies import gguf

from hotloop.formats import format_named
from hotloop.seams.prompt import PromptContext


def _has_no(*marks: str) -> Callable[[str], bool]:
    def is_clean(text: str) -> bool:
        return text == text.strip() and not any(mark in text for mark in marks)

    return is_clean


def _with_empty_reasoning(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Reasoning is given apart from the text, so that the template does not look for it there."""
    return [
        {**message, "reasoning_content": message.get("reasoning_content", "")}
        if message["role"] == "assistant"
        else message
        for message in messages
    ]


def _tagged(name: str, family: str, template: str, context: PromptContext, shape: Shape, **options: Any) -> FormatCase:
    variables: dict[str, object] = {}
    if context.reasoning_effort == "none":
        variables["enable_thinking"] = False
    if context.keep_reasoning:
        variables["clear_thinking"] = False
    style = Style(finish=_with_empty_reasoning, variables=variables)
    return FormatCase(
        name=name,
        make=lambda tokenizer: format_named(family, tokenizer),
        context=context,
        render=real(template, context, style),
        shape=shape,
        deviations=(
            "reasoning is never looked for in the text of an answer",
            "the text of an answer is trimmed always (qwen3-coder)",
            "an open think block that was ended at once stays empty until the next question (glm-4.7)",
        ),
        **options,
    )


def _untyped(_tool: str, arguments: str) -> str:
    return qwen_arguments("", arguments)


def _is_asked(text: str) -> bool:
    """Qwen3.5's template refuses a conversation whose only user messages read like tool outputs."""
    return not (text.strip().startswith("<tool_response>") and text.strip().endswith("</tool_response>"))


_STRIPPED = Shape(said=_has_no("<tool_call>"), thought=_has_no("</think>"), arguments=qwen_arguments)
_CODER = replace(_STRIPPED, reasoning=False)
_CODER_BARE = replace(_CODER, developer=False, arguments=_untyped)
_QWEN35 = replace(_STRIPPED, reasoning=True, developer=False, question=_is_asked)
_GLM = replace(_STRIPPED, reasoning=True, said=_has_no(), arguments=glm_arguments)
_OFF = PromptContext("Be brief.", TOOLS, reasoning_effort="none")
_KEEP = PromptContext(None, TOOLS, keep_reasoning=True)
_GLM_OPTIONS = {"specials": GLM_SPECIALS, "keeps_stop_token": False}

TAGGED_CASES = [
    _tagged("qwen3-coder", "qwen3-coder", "Qwen3-Coder", BRIEF, _CODER, vocabulary=lambda: gguf("qwen35")),
    _tagged(
        "qwen3-coder-bare",
        "qwen3-coder",
        "Qwen3-Coder",
        PromptContext(),
        replace(_CODER, developer=False, arguments=_untyped),
    ),
    _tagged(
        "qwen3-coder-spelled",
        "qwen3-coder",
        "Qwen3-Coder",
        PromptContext(None, TOOLS),
        replace(_CODER, developer=False),
        specials=("<|im_start|>", "<|im_end|>"),
    ),
    _tagged("qwen3.5", "qwen3.5", "Qwen3.5-4B", BRIEF, _QWEN35, vocabulary=lambda: gguf("qwen35")),
    _tagged("qwen3.5-off", "qwen3.5", "Qwen3.5-4B", _OFF, replace(_QWEN35, reasoning=False)),
    _tagged("glm-4.6", "glm-4.6", "GLM-4.6", BRIEF, _GLM, **_GLM_OPTIONS),
    _tagged("glm-4.6-off", "glm-4.6", "GLM-4.6", _OFF, replace(_GLM, reasoning=False), **_GLM_OPTIONS),
    _tagged("glm-4.7", "glm-4.7", "GLM-4.7-Flash", BRIEF, replace(_GLM, always_reasons=True), **_GLM_OPTIONS),
    _tagged("glm-4.7-off", "glm-4.7", "GLM-4.7-Flash", _OFF, replace(_GLM, reasoning=False), **_GLM_OPTIONS),
    _tagged("glm-4.7-keep", "glm-4.7", "GLM-4.7-Flash", _KEEP, replace(_GLM, always_reasons=True), **_GLM_OPTIONS),
]
