"""The grammar that keeps calls in a learned syntax well-formed, as llguidance Lark.

    auto              text is free until what begins a call; from there one call of an allowed tool
    required, named   (think block) then calls of allowed tools: several for `required` with parallel calls, else one
    none              anything but what begins a call
    text schema       (think block) then JSON; with `auto` and tools: either calls or JSON

What stands around name and arguments is the template's own text, control tokens as tokens; ids and the numbers of calls in
it are free. Where calls are bare JSON nothing tells them from text, so `auto` and `none` are not ruled.
"""

from collections.abc import Sequence

from hotloop.errors import UnsupportedValue
from hotloop.formats.generic.content_mask import ContentMask
from hotloop.formats.generic.parser import ThinkMarks
from hotloop.formats.generic.syntax import CallSyntax
from hotloop.formats.grammar import parts
from hotloop.formats.grammar.parts import SPACED, AllowedTool
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer

_ID = "/[A-Za-z0-9_.-]{1,40}/"


class GrammarWriter:
    """Grammars in one template's syntax."""

    def __init__(self, syntax: CallSyntax | None, mask: ContentMask, tokenizer: Tokenizer) -> None:
        self._syntax = syntax
        self._mask = mask
        self._tokenizer = tokenizer

    def constraint(self, context: PromptContext, rules: CallRules, think: ThinkMarks | None) -> Constraint | None:
        """The grammar for `rules`. Raises InvalidRequest where a call is required and none is possible."""
        plan = parts.plan(context, rules, SPACED)
        match plan:
            case parts.Anything():
                return None
            case parts.NoCalls():
                return self._without_calls()
            case parts.FreeText():
                return self._free_text(plan, think)
            case parts.Forced():
                return self._forced(plan, think)

    def _forced(self, plan: parts.Forced, think: ThinkMarks | None) -> Constraint:
        answers: list[str] = []
        lines: list[str] = []
        if plan.tools:
            answers.append("calls")
            syntax = self._known()
            first, last = self._expression(syntax.first.text), self._expression(syntax.last.text)
            lines = [f"calls: {first} {self._one_or_more(syntax, several=plan.several)} {last}".rstrip()]
            lines += self._call_rules(plan.tools, syntax)
        if plan.schema is not None:
            answers.append("json")
            lines.append(f"json: {plan.schema}")
        block = None if think is None else self._think_block(think)
        return parts.ruled(answers, lines, think=block, must_think=think is not None and think.is_open)

    def _free_text(self, plan: parts.FreeText, think: ThinkMarks | None) -> Constraint | None:
        syntax = self._known()
        if not syntax.trigger:
            return None
        mark = self._trigger_mark(syntax)
        begun = syntax.trigger if mark is None else mark
        rest = self._expression(syntax.first.text[len(begun) :])
        last = self._expression(syntax.last.text)
        lines = [f"call: {rest} {self._one_or_more(syntax, several=plan.several)} {last}".rstrip()]
        lines += self._call_rules(plan.tools, syntax)
        token = None if mark is None else self._tokenizer.special(mark)
        block = self._think_block(think) if think is not None and token is None else None
        return parts.after_trigger(token, begun, lines, once=not plan.several, think=block)

    def _without_calls(self) -> Constraint | None:
        syntax = self._syntax
        if syntax is None or not syntax.trigger:
            return None
        mark = self._trigger_mark(syntax)
        token = None if mark is None else self._tokenizer.special(mark)
        return parts.without(token, syntax.trigger)

    def _one_or_more(self, syntax: CallSyntax, *, several: bool) -> str:
        if not several or syntax.between is None:
            return "one"
        return f"one ({self._expression(syntax.between.text)} one)*"

    def _call_rules(self, tools: Sequence[AllowedTool], syntax: CallSyntax) -> list[str]:
        middle = self._expression(syntax.middle.text)
        calls = [f"{parts.literal(tool.name)} {middle} arguments_{index}" for index, tool in enumerate(tools)]
        values = [f"arguments_{index}: {parts.arguments(tool, SPACED)}" for index, tool in enumerate(tools)]
        return [parts.choices("one", calls), *values]

    def _think_block(self, think: ThinkMarks) -> str:
        opening = "" if think.is_open else parts.mark(self._tokenizer.special(think.opening), think.opening)
        return f"{parts.think_block(opening, self._tokenizer.special(think.closing), think.closing)} /[\\n]*/"

    def _trigger_mark(self, syntax: CallSyntax) -> str | None:
        """The control token that a call begins with."""
        begin = self._mask.pieces(syntax.trigger)
        return begin[0][1] if begin and begin[0][2] else None

    def _known(self) -> CallSyntax:
        if self._syntax is None:
            raise UnsupportedValue("How this model writes tool calls is not known.", param="tool_choice")
        return self._syntax

    def _expression(self, text: str) -> str:
        """Fixed text of the syntax: literals, control tokens, holes for ids."""
        symbols: list[str] = []
        for _, piece, is_mark in self._mask.pieces(text):
            if is_mark:
                symbols.append(parts.mark(self._tokenizer.special(piece), piece))
                continue
            for index, literal in enumerate(piece.split("\0")):
                if index:
                    symbols.append(_ID)
                if literal:
                    symbols.append(parts.literal(literal))
        return " ".join(symbols)
