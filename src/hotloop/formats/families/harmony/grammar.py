"""The grammar that keeps Harmony calls and JSON answers well-formed, as llguidance Lark.

    auto              messages of any channel; a call names an allowed tool and has fitting arguments
    required, named   analysis, then one call of an allowed tool
    none              messages, but no call
    text schema       analysis and preambles, then JSON on the final channel, or a call where one may be made

It rules from the first token, because a recipient may stand in front of the channel, where no control token announces it.
The model ends its output with a call, so there is one call to an output, whatever parallel calls would be allowed. JSON is
written without blanks, as the model does by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hotloop.formats.families.harmony.text import NAMESPACE
from hotloop.formats.grammar.parts import (
    ANY_TEXT,
    COMPACT,
    AllowedTool,
    Anything,
    Forced,
    FreeText,
    NoCalls,
    arguments,
    choices,
    literal,
    plan,
    ruled,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext


@dataclass(frozen=True, slots=True)
class Markers:
    """Ids of the control tokens that stand inside an output."""

    start: int
    end: int
    message: int
    channel: int
    constrain: int


def build_constraint(context: PromptContext, rules: CallRules, markers: Markers) -> Constraint | None:
    """The grammar for `rules`. Raises InvalidRequest where nothing is allowed."""
    match plan(context, rules, COMPACT):
        case Anything():
            return None
        case NoCalls():
            return _messages((), ANY_TEXT, markers)
        case FreeText(tools, _):
            return _messages(tools, ANY_TEXT, markers)
        case Forced(tools, _, schema):
            return _messages(tools, schema, markers)


def _messages(tools: Sequence[AllowedTool], answer: str | None, markers: Markers) -> Constraint:
    """Leading messages, then a call of one of `tools` or a final message of `answer`, as far as there are any."""
    channel, message = f"<[{markers.channel}]>", f"<[{markers.message}]>"
    following = f'<[{markers.end}]> <[{markers.start}]> "assistant"'
    lead = ["analysis"] if answer is None else ["analysis", "commentary"]
    channels = " | ".join(literal(name) for name in lead)
    lines = [f"lead: {channel} ({channels}) {message} text {following}", f"text: {ANY_TEXT}"]
    answers: list[str] = []
    if tools:
        answers.append("lead* call")
        lines += _call_rules(tools, markers)
    if answer is not None:
        answers.append("lead* final")
        lines += [f'final: {channel} "final" {message} content', f"content: {answer}"]
    return ruled(answers, lines)


def _call_rules(tools: Sequence[AllowedTool], markers: Markers) -> list[str]:
    channel, message = f"<[{markers.channel}]>", f"<[{markers.message}]>"
    kind = f'(<[{markers.constrain}]>)? "json"'
    calls: list[str] = []
    lines: list[str] = []
    for index, allowed in enumerate(tools):
        recipient = literal(f" to={NAMESPACE}.{allowed.name}")
        head = f'({recipient} {channel} "commentary " | {channel} "commentary" {recipient} " ")'
        calls.append(f"{head} {kind} {message} arguments_{index}")
        lines.append(f"arguments_{index}: {arguments(allowed, COMPACT)}")
    return [choices("call", calls), *lines]
