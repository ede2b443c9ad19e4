"""The grammar that keeps Mistral's calls and JSON answers well-formed, as llguidance Lark.

    auto              text is free until `[TOOL_CALLS]`; from there calls of allowed tools
    required, named   (think block) then calls of allowed tools: several for `required` with parallel calls, else one
    none              anything but `[TOOL_CALLS]`
    text schema       (think block) then JSON; with `auto` and tools: either calls or JSON

JSON is written the way `json.dumps` writes it. Where calls carry an id the model may give one, of nine letters or digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hotloop.formats.families.mistral.text import CALLS, THINK_END
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
    plan,
    ruled,
    think_block,
    without,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

_NINE = "/[A-Za-z0-9]{9}/"


@dataclass(frozen=True, slots=True)
class Markers:
    """Ids of the inner markers; None where the version has none."""

    calls: int
    call_id: int | None = None
    args: int | None = None  # None: calls are one JSON list
    think: int | None = None
    think_end: int | None = None


def build_constraint(context: PromptContext, rules: CallRules, markers: Markers) -> Constraint | None:
    """The grammar for `rules`. Raises InvalidRequest where nothing is allowed."""
    think = None
    if markers.think is not None:
        think = think_block(f"<[{markers.think}]>", markers.think_end, THINK_END)
    match plan(context, rules, SPACED):
        case Anything():
            return None
        case NoCalls():
            return without(markers.calls, CALLS)
        case FreeText(tools, several):
            is_list = markers.args is None
            rules_of_calls = _call_rules(tools, markers, several=several and is_list)
            return after_trigger(markers.calls, CALLS, rules_of_calls, once=is_list or not several)
        case Forced(tools, several, schema):
            answers: list[str] = []
            lines: list[str] = []
            if tools:
                answers.append("calls")
                lines += _forced_calls(tools, markers, several=several)
            if schema is not None:
                answers.append("json")
                lines.append(f"json: {schema}")
            return ruled(answers, lines, think=think)


def _forced_calls(tools: Sequence[AllowedTool], markers: Markers, *, several: bool) -> list[str]:
    is_list = markers.args is None
    more = "+" if several and not is_list else ""
    return [f"calls: (<[{markers.calls}]> call){more}", *_call_rules(tools, markers, several=several and is_list)]


def _call_rules(tools: Sequence[AllowedTool], markers: Markers, *, several: bool) -> list[str]:
    """The rule `call`: what follows `[TOOL_CALLS]`. `several`: a list may hold more than one."""
    lines = [f"arguments_{index}: {arguments(allowed, SPACED)}" for index, allowed in enumerate(tools)]
    if markers.args is not None:
        call_id = "" if markers.call_id is None else f"(<[{markers.call_id}]> {_NINE})? "
        calls = [
            f"{literal(allowed.name)} {call_id}<[{markers.args}]> arguments_{index}"
            for index, allowed in enumerate(tools)
        ]
        return [choices("call", calls), *lines]
    opening, quote, closing = literal(', "id": "'), literal('"'), literal("}")
    call_id = f"({opening} {_NINE} {quote})?"
    listed: list[str] = []
    for index, allowed in enumerate(tools):
        head = literal(f'{{"name": "{allowed.name}", "arguments": ')
        listed.append(f"{head} arguments_{index} {call_id} {closing}")
    more = ' (", " listed)*' if several else ""
    return [f'call: "[" listed{more} "]"', choices("listed", listed), *lines]
