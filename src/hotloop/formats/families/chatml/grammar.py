"""The grammar that keeps ChatML calls and JSON answers well-formed, as llguidance Lark.

    auto              text is free until `<tool_call>`; from there one call of an allowed tool
    required, named   (think block) then calls of allowed tools: several for `required` with parallel calls, else one
    none              anything but `<tool_call>`
    text schema       (think block) then JSON; with `auto` and tools: either calls or JSON

JSON is written the way `json.dumps` writes it, as in the training data: `{"a": 1, "b": 2}`. The arguments of a strict tool
fit its schema, those of any other function tool are some JSON object. A custom tool's text is the string `input`, ruled
inside the string.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hotloop.formats.grammar.parts import (
    SPACED,
    AllowedTool,
    Anything,
    Forced,
    FreeText,
    NoCalls,
    after_trigger,
    arguments,
    choices,
    literal,
    mark,
    plan,
    ruled,
    think_block,
    without,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext


@dataclass(frozen=True, slots=True)
class Markers:
    """Ids of the family's inner markers; None where the vocabulary spells them as text."""

    think: int | None
    think_end: int | None
    call: int | None
    call_end: int | None


def build_constraint(
    context: PromptContext, rules: CallRules, markers: Markers, *, thinks: bool, is_open: bool = False
) -> Constraint | None:
    """The grammar for `rules`. Raises InvalidRequest where nothing is allowed.

    `thinks`: a think block may come first. `is_open`: the generation prompt has opened it, so that it must be ended.
    """
    think = _think(markers, is_open=is_open) if thinks else None
    match plan(context, rules, SPACED):
        case Anything():
            return None
        case NoCalls():
            return without(markers.call, "<tool_call>")
        case FreeText(tools, several):
            calls = _call_rules(tools, markers)
            return after_trigger(markers.call, "<tool_call>", calls, once=not several, think=think)
        case Forced(tools, several, schema):
            answers: list[str] = []
            lines: list[str] = []
            if tools:
                answers.append("calls")
                lines += _calls(tools, markers, several=several)
            if schema is not None:
                answers.append("json")
                lines.append(f"json: {schema}")
            return ruled(answers, lines, think=think, must_think=is_open)


def _think(markers: Markers, *, is_open: bool) -> str | None:
    if is_open:
        return think_block("", markers.think_end, "</think>", "\n\n")
    if markers.think is None or markers.think_end is None:
        return None
    return think_block(f"<[{markers.think}]>", markers.think_end, "</think>", "\n\n")


def _calls(tools: Sequence[AllowedTool], markers: Markers, *, several: bool) -> list[str]:
    opening = mark(markers.call, "<tool_call>")
    more = f' ("\\n" {opening} call)*' if several else ""
    return [f"calls: {opening} call{more}", *_call_rules(tools, markers)]


def _call_rules(tools: Sequence[AllowedTool], markers: Markers) -> list[str]:
    closing = mark(markers.call_end, "</tool_call>")
    calls: list[str] = []
    lines: list[str] = []
    for index, allowed in enumerate(tools):
        head = literal(f'\n{{"name": "{allowed.name}", "arguments": ')
        calls.append(f'{head} arguments_{index} "}}\\n" {closing}')
        lines.append(f"arguments_{index}: {arguments(allowed, SPACED)}")
    return [choices("call", calls), *lines]
