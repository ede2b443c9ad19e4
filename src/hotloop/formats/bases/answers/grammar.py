"""The grammar of calls that stand between markers, and the frame of an answer around calls of any kind.

    auto              text is free until the marker that opens calls; from there one row of calls of allowed tools
    required, named   (reasoning) then a row of calls: several for `required` with parallel calls, else one
    none              anything but the marker
    text schema       (reasoning) then JSON; with `auto` and tools: either calls or JSON

A family gives the row of calls as rules of which `calls` is everything behind the opening marker.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotloop.formats.bases.answers.section_calls import CallMarks
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
    without,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

# The rules behind the marker that opens calls: `calls` for one or several.
WriteCalls = Callable[[Sequence[AllowedTool], bool], list[str]]


@dataclass(frozen=True, slots=True)
class Opening:
    """How calls begin: free text runs until `trigger`; `before` stands in front of it and `behind` after it."""

    trigger: int | None
    spelling: str
    before: str = ""
    behind: str = ""


def answer_constraint(
    context: PromptContext,
    rules: CallRules,
    opening: Opening,
    calls: WriteCalls,
    *,
    think: str | None,
    must_think: bool,
) -> Constraint | None:
    """The grammar for `rules`. `think`: what may, or must, stand first. Raises InvalidRequest where nothing is allowed."""
    match plan(context, rules, SPACED):
        case Anything():
            return None
        case NoCalls():
            return without(opening.trigger, opening.spelling)
        case FreeText(tools, several):
            call = f"call: {_joined(_text(opening.behind), 'calls')}"
            row = [call, *calls(tools, several)]
            return after_trigger(opening.trigger, opening.spelling, row, once=not several, think=think)
        case Forced(tools, several, schema):
            answers: list[str] = []
            lines: list[str] = []
            if tools:
                answers.append("section")
                marker = mark(opening.trigger, opening.spelling)
                section = _joined(_text(opening.before), marker, _text(opening.behind), "calls")
                lines += [f"section: {section}", *calls(tools, several)]
            if schema is not None:
                answers.append("json")
                lines.append(f"json: {schema}")
            return ruled(answers, lines, think=think, must_think=must_think)


def _text(text: str) -> str:
    return literal(text) if text else ""


def _joined(*expressions: str) -> str:
    return " ".join(one for one in expressions if one)


def section_calls(
    ids: Callable[[str], int | None],
    marks: CallMarks,
    frame: Callable[[str], tuple[str, str, str]],
    *,
    between: str = "",
) -> WriteCalls:
    """Calls between markers. `frame` gives, for a tool's name, the expressions in front of the separator, between it and the
    arguments, and behind them (empty for none); `between` stands between two calls."""

    def write(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        begin, separator, end = (mark(ids(one), one) for one in (marks.call, marks.separator, marks.call_end))
        more = f" ({literal(between)} one)*" if between else " one*"
        lines = [f"calls: one{more if several else ''} {mark(ids(marks.section_end), marks.section_end)}"]
        ones: list[str] = []
        for index, allowed in enumerate(tools):
            header, before, after = frame(allowed.name)
            ones.append(_joined(begin, header, separator, before, f"arguments_{index}", after, end))
            lines.append(f"arguments_{index}: {arguments(allowed, SPACED)}")
        return [*lines, choices("one", ones)]

    return write
