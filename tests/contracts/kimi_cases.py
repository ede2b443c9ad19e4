"""Kimi K2 for the Format suite, with the deviations `formats/families/kimi.py` lists. No real vocabulary can be had."""

from collections.abc import Sequence

from tests.contracts.format_case import BRIEF, FormatCase, real
from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape
from tests.support.real_templates import ChatMessage, Edit, Style

from hotloop.formats import format_named
from hotloop.seams.prompt import PromptContext

KIMI_SPECIALS = (
    "<|im_end|>",
    "<|im_system|>",
    "<|im_user|>",
    "<|im_assistant|>",
    "<|im_middle|>",
    "[EOS]",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<think>",
    "</think>",
)

# The published templates change a list in place, which transformers' sandbox refuses.
QUEUE_EDITS: tuple[Edit, ...] = (
    (
        "set _ = tool_response_queue.ids.append(formatted_id)",
        "set tool_response_queue.ids = tool_response_queue.ids + [formatted_id]",
    ),
    (
        "{%- set tool_call_id = tool_response_queue.ids.pop(0) -%}",
        "{%- set tool_call_id = tool_response_queue.ids[0] -%}"
        "{%- set tool_response_queue.ids = tool_response_queue.ids[1:] -%}",
    ),
)
# Reasoning stays until a question follows the answer.
_QUESTION_EDIT = (
    "and not messages[idx].get('tool_calls') -%}",
    "and not messages[idx].get('tool_calls') and not keep and 'user' in (messages[idx:] | map(attribute='role') | list) -%}",
)
LAST_ANSWER_EDIT = (
    "{%- set ns.last_non_tool_call_assistant_msg = idx -%}",
    "{%- set ns.last_non_tool_call_assistant_msg = idx -%}{%- break -%}",
)


def _call_id(index: int, name: str) -> str:
    return f"functions.{name}:{index}"


def without_names(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Outputs as the Responses API has them: it knows no name of the tool."""
    for message in messages:
        message.pop("name", None)
    return messages


def _as_called(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Outputs under the ids that the first template gives to calls."""
    waiting: list[str] = []
    for message in messages:
        if "tool_calls" in message:
            waiting = [_call_id(at, call["function"]["name"]) for at, call in enumerate(message["tool_calls"])]
        elif message["role"] == "tool":
            message["tool_call_id"] = waiting.pop(0)
    return without_names(messages)


def _kimi(
    family: str,
    template: str,
    name: str,
    context: PromptContext,
    *,
    style: Style,
    edits: Sequence[Edit] = (),
    thinks: bool = False,
    escaped_arguments: bool = True,
) -> FormatCase:
    return FormatCase(
        name=f"{family}-{name}",
        make=lambda tokenizer: format_named(family, tokenizer),
        context=context,
        render=real(template, context, style, edits),
        # Without instructions a developer message in front would be the system message of the template.
        shape=Shape(
            reasoning=thinks,
            call_id=_call_id,
            escaped_arguments=escaped_arguments,
            developer=context.instructions is not None,
        ),
        specials=KIMI_SPECIALS,
    )


def _instruct(name: str, context: PromptContext) -> FormatCase:
    style = Style(reasoning=None, arguments="text", finish=without_names)
    return _kimi("kimi-k2", "Kimi-K2-Instruct", name, context, style=style, edits=QUEUE_EDITS)


def _thinking(family: str, name: str, context: PromptContext, *edits: Edit) -> FormatCase:
    style = Style(arguments="text", variables={"keep": context.keep_reasoning}, finish=without_names)
    edits = (*QUEUE_EDITS, _QUESTION_EDIT, *edits)
    return _kimi(family, "Kimi-K2-Thinking", name, context, style=style, edits=edits, thinks=True)


KIMI_CASES = [
    _instruct("toy", BRIEF),
    _instruct("default", PromptContext(None, TOOLS)),
    _kimi(
        "kimi-k2-first",
        "moonshotai-Kimi-K2",
        "toy",
        BRIEF,
        style=Style(reasoning=None, finish=_as_called),
        escaped_arguments=False,
    ),
    _thinking("kimi-k2-thinking", "toy", BRIEF, LAST_ANSWER_EDIT),
    _thinking("kimi-k2-thinking", "keep", PromptContext(None, TOOLS, keep_reasoning=True), LAST_ANSWER_EDIT),
    _thinking("kimi-k2-thinking-once", "toy", BRIEF),
]
