"""The grammar that keeps Mistral's calls well-formed.

Where calls carry an id the model may give one, of nine letters or digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hotloop.formats.families.mistral.text import CALLS, THINK_END
from hotloop.formats.grammar.answer import Calls, answer_constraint, argument_rules
from hotloop.formats.grammar.parts import AllowedTool, choices, literal, think_block
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
    """See `answer_constraint`."""
    is_list = markers.args is None

    def behind(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        return _call_rules(tools, markers, several=several)

    def forced(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        more = "+" if several and not is_list else ""
        return [f"calls: (<[{markers.calls}]> call){more}", *behind(tools, several)]

    think = None
    if markers.think is not None:
        think = think_block(f"<[{markers.think}]>", markers.think_end, THINK_END)
    return answer_constraint(context, rules, Calls(markers.calls, CALLS, behind, forced, is_last=is_list), think=think)


def _call_rules(tools: Sequence[AllowedTool], markers: Markers, *, several: bool) -> list[str]:
    """The rule `call`: what follows `[TOOL_CALLS]`. `several`: a list may hold more than one."""
    lines = argument_rules(tools)
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
