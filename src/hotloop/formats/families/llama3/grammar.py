"""The grammar that keeps Llama's calls and JSON answers well-formed, as llguidance Lark.

    auto              one call of an allowed tool, or text that does not begin like a call
    required, named   one call of an allowed tool
    none              text that does not begin like a call
    text schema       JSON; with `auto` and tools: either a call or JSON

No control token announces a call, so it rules from the first token. There is one call to an output, whatever parallel calls
would be allowed: the family's templates know no more.
"""

from collections.abc import Sequence

from hotloop.formats.grammar.parts import (
    SPACED,
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


def _not_begun_like_a_call() -> str:
    """Texts that do not begin with `{"name"`, blanks aside, said without a negation, which not every engine has."""
    rest = ""
    for blanks, char in reversed([(r"\s*", "{"), (r"\s*", '"'), *(("", char) for char in 'name"')]):
        code = rf"\x{{{ord(char):x}}}"
        rest = rf"{blanks}(?:[^{code}{blanks[:2]}](?s:.*)" + (f"|{code}{rest})?" if rest else ")?")
    return f"/{rest}/"


_TEXT = ["text: TEXT", f"TEXT: {_not_begun_like_a_call()}"]


def build_constraint(context: PromptContext, rules: CallRules) -> Constraint | None:
    """The grammar for `rules`. Raises InvalidRequest where nothing is allowed."""
    match plan(context, rules, SPACED):
        case Anything():
            return None
        case NoCalls():
            return ruled(["text"], _TEXT)
        case FreeText(tools, _):
            return ruled(["call", "text"], [*_call_rules(tools, beside_json=False), *_TEXT])
        case Forced(tools, _, schema):
            answers = ["call"] if tools else []
            lines = _call_rules(tools, beside_json=schema is not None) if tools else []
            if schema is not None:
                answers.append("json")
                lines.append(f"json: {schema}")
            return ruled(answers, lines)


def _call_rules(tools: Sequence[AllowedTool], *, beside_json: bool) -> list[str]:
    calls: list[str] = []
    lines: list[str] = []
    for index, allowed in enumerate(tools):
        head = _head(allowed.name, beside_json=beside_json)
        calls.append(f'{head} arguments_{index} "}}"')
        lines.append(f"arguments_{index}: {arguments(allowed, SPACED)}")
    return [choices("call", calls), *lines]


def _head(name: str, *, beside_json: bool) -> str:
    """A call up to its arguments. The lexer takes the longest match and never goes back: beside JSON it has to be cut as JSON
    is, beside free text it must be in one piece."""
    pieces = ("{", '"name"', ": ", f'"{name}"', ", ", '"parameters"', ": ")
    return " ".join(map(literal, pieces)) if beside_json else literal("".join(pieces))
