"""The grammar that keeps calls in tags well-formed.

The arguments of a strict tool come in the order of its schema, every required one; each value fits its own schema. A text may
hold anything but the tag behind it, within its `pattern`, or else its lengths, or else its `format`; see `values`. Any
other function tool gets arguments of any name that are any text: the parser types them. A custom tool's text is `input`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from hotloop.formats.bases.tags.values import Values, looks_like
from hotloop.formats.grammar.answer import Calls, answer_constraint
from hotloop.formats.grammar.parts import (
    ANY_TEXT,
    AllowedTool,
    argument_schema,
    choices,
    literal,
    mark,
    raw_input,
    raw_input_until,
)
from hotloop.formats.parsing.argument_types import types_of
from hotloop.formats.parsing.call_syntax import CALL, CALL_END
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext


@dataclass(frozen=True, slots=True)
class TagGrammar:
    """Fixed text of a call in tags, exactly as the family's template writes it, and what stands around calls.

    `before_answer` stands in front of calls and text. `python`: values that are no text are written as Python writes them.
    """

    before_name: str
    behind_name: str
    before_key: str
    before_value: str
    after_value: str
    after_arguments: str
    between_calls: str
    python: bool
    before_answer: str = ""


def build_constraint(
    context: PromptContext, rules: CallRules, grammar: TagGrammar, marks: Mapping[str, int], *, think: str | None
) -> Constraint | None:
    """See `answer_constraint`. `think`: a think block that must come first."""
    writer = _Rules(grammar, marks)

    def forced(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        opening = mark(marks.get(CALL), CALL)
        lead = f"{literal(grammar.before_answer)} " if grammar.before_answer else ""
        between = f"{literal(grammar.between_calls)} " if grammar.between_calls else ""
        more = f" ({between}{opening} call)*" if several else ""
        return [f"calls: {lead}{opening} call{more}", *writer.call(tools)]

    calls = Calls(marks.get(CALL), CALL, lambda tools, _: writer.call(tools), forced, before=grammar.before_answer)
    return answer_constraint(context, rules, calls, think=think, must_think=True)


class _Rules:
    """Writes the rule `call` and the rules of its values."""

    def __init__(self, grammar: TagGrammar, marks: Mapping[str, int]) -> None:
        self._grammar = grammar
        self._marks = marks
        self._lines: list[str] = []

    def call(self, tools: Sequence[AllowedTool]) -> list[str]:
        """One call, from behind its opening marker to the closing one."""
        closing = mark(self._marks.get(CALL_END), CALL_END)
        grammar = self._grammar
        calls: list[str] = []
        for index, allowed in enumerate(tools):
            arguments = self._arguments(allowed, f"value_{index}")
            head = literal(f"{grammar.before_name}{allowed.name}{grammar.behind_name}")
            tail = f"{literal(grammar.after_arguments)} " if grammar.after_arguments else ""
            calls.append(" ".join([head, *arguments, tail + closing]))
        return [choices("call", calls), *self._lines]

    def _arguments(self, allowed: AllowedTool, name: str) -> list[str]:
        grammar = self._grammar
        if allowed.is_custom:
            return [self._key("input"), self._custom_value(allowed)]
        schema = argument_schema(allowed)
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            if schema.get("additionalProperties") is False:
                return []
            before, behind = self._tags(grammar.before_key), self._tags(grammar.before_value)
            self._lines.append(f"{name}: {before} /[^<>\\n]+/ {behind} {self._text(ANY_TEXT)}")
            return [f"{name}*"]
        required = schema.get("required")
        needed = cast("list[object]", required) if isinstance(required, list) else []
        out: list[str] = []
        for place, (key, one) in enumerate(cast("dict[str, object]", properties).items()):
            self._lines.append(f"{name}_{place}: {self._key(key)} {self._value(one, schema, allowed)}")
            out.append(f"{name}_{place}" if key in needed else f"{name}_{place}?")
        return out

    def _custom_value(self, allowed: AllowedTool) -> str:
        spelled = self._spelled_end()
        if spelled is None:
            return f"{raw_input(allowed)} {self._tags(self._grammar.after_value)}"
        return raw_input_until(allowed, spelled)

    def _value(self, schema: object, root: dict[str, object], allowed: AllowedTool) -> str:
        """A value and its end."""
        values = Values(root, f"{allowed.param}.parameters", python=self._grammar.python)
        values.add(schema)
        types = types_of(schema, root)
        if "string" in types and types <= values.free:
            return self._text(ANY_TEXT)
        others = values.json if values.texts else [*values.words, *values.json]
        ways = [f"{self._choice(others)} {self._tags(self._grammar.after_value)}"] if others else []
        if values.texts:
            ways.append(self._text(" | ".join(values.texts), looks_like(types), values.words))
        return ways[0] if len(ways) == 1 else self._choice(ways)

    def _choice(self, kinds: Sequence[str]) -> str:
        rules: list[str] = []
        for kind in kinds:
            rules.append(f"kind_{len(self._lines)}")
            self._lines.append(f"{rules[-1]}: {kind}")
        return f"({' | '.join(rules)})"

    def _text(self, expression: str, without: str = "", words: Sequence[str] = ()) -> str:
        """A text that does not fit the regular expression `without`, or one of `words`; and its end."""
        rules = ""
        if without or words or "|" in expression:
            text = f"({expression})" + (f" & ~/{without}/" if without else "")
            rules = "\nTEXT: " + " | ".join([f"({text})" if words else text, *words])
            expression = "TEXT"
        spelled = self._spelled_end()
        if spelled is not None:
            return f"%lark {{\nstart: text\ntext[suffix={literal(spelled)}]: {expression}{rules}\n}}"
        if rules:
            expression = f"%lark {{\nstart: TEXT{rules}\n}}"
        return f"{expression} {self._tags(self._grammar.after_value)}"

    def _spelled_end(self) -> str | None:
        """What ends a value, if no control token does."""
        end = self._grammar.after_value
        return None if any(end.startswith(tag) for tag in self._marks) else end

    def _key(self, name: str) -> str:
        return f"{self._tags(self._grammar.before_key)} {literal(name)} {self._tags(self._grammar.before_value)}"

    def _tags(self, text: str) -> str:
        """Fixed text with the tags in it that are control tokens."""
        parts: list[str] = []
        while text:
            found = [(at, tag) for tag in self._marks if (at := text.find(tag)) >= 0]
            at, tag = min(found, default=(len(text), ""))
            if at:
                parts.append(literal(text[:at]))
            if tag:
                parts.append(mark(self._marks[tag], tag))
            text = text[at + len(tag) :]
        return " ".join(parts)
