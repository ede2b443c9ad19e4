"""A model family small enough to check by eye: one token per character, one token per marker.

<sys> instructions tool names <end>   <user> text <end>   <result> text <end>   <reply> output <end>
output: <text> … | <think> … | <tool> name <args> … | <custom> name <args> …
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    Reasoning,
    text_of,
)
from hotloop.protocol.tools import HostedTool
from hotloop.seams.engine import Constraint, TokenLogprob
from hotloop.seams.format import Extension, Fallback, ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.prompt import CallRules, PromptContext

MARKS = ("<sys>", "<user>", "<result>", "<reply>", "<text>", "<think>", "<tool>", "<custom>", "<args>", "<end>")
_FIRST_MARK = 0x110000
SYS, USER, RESULT, REPLY, TEXT, THINK, TOOL, CUSTOM, ARGS, END = range(_FIRST_MARK, _FIRST_MARK + len(MARKS))

Rewrites = Literal["never", "rewind", "fallback", "rewind_at_commit"]


class CharTokenizer:
    """Implements `seams.tokenizer.Tokenizer`: a token is a code point."""

    vocabulary_size = _FIRST_MARK + len(MARKS)

    def encode(self, text: str) -> "array[int]":
        return array("I", map(ord, text))

    def special(self, text: str) -> int | None:
        return _FIRST_MARK + MARKS.index(text) if text in MARKS else None

    def piece(self, token: int) -> bytes:
        return (MARKS[token - _FIRST_MARK] if token >= _FIRST_MARK else chr(token)).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class ToyState:
    """Where the last output begins, and that output."""

    output_start: int = 0
    output: tuple[Item, ...] = ()


class ToyFormat:
    """Implements `seams.format.Format`. `rewrites` says what a new user message does to reasoning before it.

    `parser_fault` makes the parser fail on that character, as a bug would.
    """

    name = "toy"
    stop_tokens = frozenset([END])

    def __init__(self, rewrites: Rewrites = "never", parser_fault: str = "") -> None:
        self.rewrites = rewrites
        self.parser_fault = parser_fault
        self.extended_items = 0

    def begin(self, context: PromptContext) -> Extension:
        names = " ".join(tool.name for tool in context.tools if not isinstance(tool, HostedTool))
        return Extension(0, array("I", [SYS, *map(ord, (context.instructions or "") + names), END]), ToyState())

    def extend(self, state: object, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        assert isinstance(state, ToyState)
        self.extended_items += len(new_items)
        drops = any(isinstance(item, Reasoning) for item in state.output) and any(map(_is_user, new_items))
        if drops and self.rewrites == "fallback":
            return Fallback("reasoning_rewritten")
        if drops and self.rewrites == "rewind":
            kept = [item for item in state.output if not isinstance(item, Reasoning)]
            tokens = self._render([*kept, *new_items])
            return Extension(state.output_start, tokens, ToyState(), reason="reasoning_dropped")
        return Extension(length, self._render(new_items), ToyState())

    def generation_prompt(self, state: object) -> "array[int]":
        return array("I", [REPLY])

    def commit(self, state: object, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        written = array("I", [REPLY, *sampled])
        if not sampled or sampled[-1] != END:
            written.append(END)
        if self.rewrites == "rewind_at_commit":  # as if the family wrote the last prompt token otherwise
            return Extension(length - 1, written, ToyState(), reason="rewritten_at_commit")
        return Extension(length, written, ToyState(length, tuple(output)))

    def parser(self, context: PromptContext) -> "ToyParser":
        return ToyParser(self.parser_fault)

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        return Constraint("start: /.*/", TOOL) if rules.choice in ("required", "named") else None

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        return array("I", [*_output_tokens(items), END])

    def _render(self, items: Sequence[Item]) -> "array[int]":
        out = array("I")
        said: list[Item] = []  # a run of the model's own items is one reply
        for item in [*items, None]:
            if item is not None and _is_said(item):
                said.append(item)
                continue
            if said:
                out.extend([REPLY, *_output_tokens(said), END])
                said = []
            match item:
                case Message():
                    out.extend([USER, *map(ord, text_of(item.content)), END])
                case FunctionCallOutput() | CustomToolCallOutput():
                    out.extend([RESULT, *map(ord, text_of(item.output)), END])
                case _:
                    pass
        return out


def say(text: str) -> list[int]:
    """The ids of a message."""
    return [TEXT, *map(ord, text), END]


def call(name: str, arguments: str) -> list[int]:
    """The ids of a function call."""
    return [TOOL, *map(ord, name), ARGS, *map(ord, arguments), END]


def think(text: str, then: list[int]) -> list[int]:
    """The ids of reasoning, then more."""
    return [THINK, *map(ord, text), *then]


def _is_user(item: Item) -> bool:
    return isinstance(item, Message) and item.role == "user"


def _is_said(item: Item) -> bool:
    if isinstance(item, Message):
        return item.role == "assistant"
    return isinstance(item, FunctionCall | CustomToolCall | Reasoning)


def _output_tokens(items: Sequence[Item]) -> list[int]:
    out: list[int] = []
    for item in items:
        match item:
            case Message():
                out += [TEXT, *map(ord, text_of(item.content))]
            case Reasoning():
                out += [THINK, *map(ord, text_of(item.content or []))]
            case FunctionCall():
                out += [TOOL, *map(ord, item.name), ARGS, *map(ord, item.arguments)]
            case CustomToolCall():
                out += [CUSTOM, *map(ord, item.name), ARGS, *map(ord, item.input)]
            case _:
                pass
    return out


class ToyParser:
    """Implements `seams.format.Parser`."""

    def __init__(self, fault: str = "") -> None:
        self._fault = fault
        self._is_open = False
        self._call: Literal["function_call", "custom_tool_call"] | None = None
        self._name = ""
        self.reasoning_tokens = 0
        self._thinks = False

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        events: list[ParsedEvent] = []
        text = ""
        entries: list[TokenLogprob] = []

        def flush() -> None:
            nonlocal text, entries
            if text:
                events.append(ItemDelta(text, tuple(entries)))
            text, entries = "", []

        for index, token in enumerate(ids):
            if token in (TEXT, THINK, TOOL, CUSTOM, END):
                flush()
                if self._is_open:
                    events.append(ItemClosed())
                self._is_open = token in (TEXT, THINK)
                self._thinks = token == THINK
                if self._is_open:
                    events.append(ItemOpened("message" if token == TEXT else "reasoning"))
                self._call = {TOOL: "function_call", CUSTOM: "custom_tool_call"}.get(token)  # type: ignore[assignment]  # mypy widens the literals
                self._name = ""
            elif token == ARGS and self._call is not None:
                events.append(ItemOpened(self._call, self._name))
                self._is_open, self._call = True, None
            elif self._call is not None:
                self._name += chr(token)
            elif self._is_open:
                if self._fault and chr(token) == self._fault:
                    raise LookupError("a fault planted by the test")
                self.reasoning_tokens += self._thinks
                text += chr(token)
                if logprobs:
                    entries.append(logprobs[index])
        flush()
        return events

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        if not self._is_open:
            return []
        self._is_open = False
        return [ItemClosed(complete)]
