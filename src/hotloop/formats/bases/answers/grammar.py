"""The grammar of calls that stand in a row behind an opening."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotloop.formats.bases.answers.section_calls import CallMarks
from hotloop.formats.grammar.answer import Calls, WriteRules, argument_rules
from hotloop.formats.grammar.parts import AllowedTool, choices, literal, mark


@dataclass(frozen=True, slots=True)
class Opening:
    """How calls begin: free text runs until `trigger`; `before` stands in front of it and `behind` after it."""

    trigger: int | None
    spelling: str
    before: str = ""
    behind: str = ""


def row_of_calls(opening: Opening, write: WriteRules) -> Calls:
    """One row of calls behind the opening. `write` gives the rule `row`, everything behind it, and the rules it needs."""

    def behind(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        return [f"call: {_joined(_text(opening.behind), 'row')}", *write(tools, several)]

    def forced(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        marker = mark(opening.trigger, opening.spelling)
        calls = _joined(_text(opening.before), marker, _text(opening.behind), "row")
        return [f"calls: {calls}", *write(tools, several)]

    return Calls(opening.trigger, opening.spelling, behind, forced)


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
) -> WriteRules:
    """Calls between markers. `frame` gives, for a tool's name, the expressions in front of the separator, between it and the
    arguments, and behind them (empty for none); `between` stands between two calls."""

    def write(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        begin, separator, end = (mark(ids(one), one) for one in (marks.call, marks.separator, marks.call_end))
        more = f" ({literal(between)} one)*" if between else " one*"
        lines = [f"row: one{more if several else ''} {mark(ids(marks.section_end), marks.section_end)}"]
        ones: list[str] = []
        for index, allowed in enumerate(tools):
            header, before, after = frame(allowed.name)
            ones.append(_joined(begin, header, separator, before, f"arguments_{index}", after, end))
        return [*lines, *argument_rules(tools), choices("one", ones)]

    return write
