"""The grammar that keeps calls in JSON between `<tool_call>` and `</tool_call>` well-formed.

A custom tool's text is the string `input`, ruled inside the string.
"""

from collections.abc import Mapping, Sequence

from hotloop.formats.bases.answer import THINK, THINK_END
from hotloop.formats.grammar.answer import Calls, answer_constraint, argument_rules
from hotloop.formats.grammar.parts import AllowedTool, choices, literal, mark, think_block
from hotloop.formats.parsing.call_syntax import CALL, CALL_END
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext


def build_constraint(
    context: PromptContext, rules: CallRules, marks: Mapping[str, int], *, thinks: bool, is_open: bool = False
) -> Constraint | None:
    """See `answer_constraint`. `marks`: ids of the markers that the vocabulary has as control tokens.

    `thinks`: a think block may come first. `is_open`: the generation prompt has opened it, so that it must be ended.
    """

    def call(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        heads = (literal(f'\n{{"name": "{allowed.name}", "arguments": ') for allowed in tools)
        closing = mark(marks.get(CALL_END), CALL_END)
        calls = [f'{head} arguments_{index} "}}\\n" {closing}' for index, head in enumerate(heads)]
        return [choices("call", calls), *argument_rules(tools)]

    def forced(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        opening = mark(marks.get(CALL), CALL)
        more = f' ("\\n" {opening} call)*' if several else ""
        return [f"calls: {opening} call{more}", *call(tools, several)]

    think = _think(marks, is_open=is_open) if thinks else None
    return answer_constraint(
        context, rules, Calls(marks.get(CALL), CALL, call, forced), think=think, must_think=is_open
    )


def _think(marks: Mapping[str, int], *, is_open: bool) -> str | None:
    if is_open:
        return think_block("", marks.get(THINK_END), THINK_END, "\n\n")
    if THINK not in marks or THINK_END not in marks:
        return None
    return think_block(f"<[{marks[THINK]}]>", marks[THINK_END], THINK_END, "\n\n")
