"""The grammar of an answer, around calls that a marker announces.

    auto              text is free until the marker; from there calls of allowed tools
    required, named   (think block) then calls of allowed tools: several for `required` with parallel calls, else one
    none              anything but the marker
    text schema       (think block) then JSON; with `auto` and tools: either calls or JSON

JSON is written the way `json.dumps` writes it, as in the models' training data: `{"a": 1, "b": 2}`. The arguments of a strict
tool fit its schema, those of any other function tool are some JSON object.
"""

from collections.abc import Callable, Sequence
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
    literal,
    plan,
    ruled,
    without,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

# Rules for calls of these tools, several or one.
WriteRules = Callable[[Sequence[AllowedTool], bool], list[str]]


@dataclass(frozen=True, slots=True)
class Calls:
    """How a family writes calls.

    Args:
        marker: id of the marker, None where the vocabulary has none; `spelling` is its text.
        behind: the rule `call`, what follows a marker in free text, and the rules it needs.
        forced: the rule `calls`, from the marker on, and the rules it needs.
        is_last: nothing follows the calls behind a marker.
        before: what stands in front of calls and of JSON.
    """

    marker: int | None
    spelling: str
    behind: WriteRules
    forced: WriteRules
    is_last: bool = False
    before: str = ""


def answer_constraint(
    context: PromptContext, rules: CallRules, calls: Calls, *, think: str | None, must_think: bool = False
) -> Constraint | None:
    """The grammar for `rules`. `think`: what may, or must, stand first. Raises InvalidRequest where nothing is allowed."""
    match plan(context, rules, SPACED):
        case Anything():
            return None
        case NoCalls():
            return without(calls.marker, calls.spelling)
        case FreeText(tools, several):
            once = calls.is_last or not several
            return after_trigger(calls.marker, calls.spelling, calls.behind(tools, several), once=once, think=think)
        case Forced(tools, several, schema):
            lines = calls.forced(tools, several) if tools else []
            answers = ["calls"] if tools else []
            if schema is not None:
                answers.append("json")
                lines += _json_rules(calls.before, schema)
            return ruled(answers, lines, think=think, must_think=must_think)


def _json_rules(before: str, schema: str) -> list[str]:
    return [f"json: {literal(before)} json_text", f"json_text: {schema}"] if before else [f"json: {schema}"]


def argument_rules(tools: Sequence[AllowedTool]) -> list[str]:
    """The rules `arguments_0`, `arguments_1` and so on: the JSON arguments of each tool."""
    return [f"arguments_{index}: {arguments(allowed, SPACED)}" for index, allowed in enumerate(tools)]
