"""ChatML as the Qwen2.5 and Qwen3 families write it, with Qwen's tool calls; also the format of our demonstration model.

Append-only inside a tool loop. Qwen3 drops the reasoning of earlier loops as soon as the user asks something new: the chain
is then rewound to the last question and what followed is written again without reasoning (`reasoning_dropped`). What has to
be remembered for that, the items since the last question, is shared with the chain, not copied.

Where it differs from the published templates, on purpose:
* An empty think block (thinking switched off) stays in the text until the next question, as the model wrote behind it; the
  template drops it one step later, which would cost a rewind per tool call.
* Without any question from the user nothing counts as earlier: reasoning stays.
* A first developer message stays a message of its own behind the instructions.
* Item types that are carried but not interpreted become a system message holding their JSON.
* The spelling of a control token inside any content stays text.
* Two answers with no input between them stay two messages in the chain; written in full they may be one.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotloop.formats.chatml_grammar import Markers, build_constraint
from hotloop.formats.chatml_parser import ChatMLParser
from hotloop.formats.chatml_text import (
    CALL,
    CALL_END,
    END_OF_TEXT,
    IM_END,
    IM_START,
    THINK,
    THINK_END,
    ItemWriter,
    Phase,
    custom_arguments,
    custom_names,
    end_message,
    is_query,
    is_rendered,
    joins,
    reasoning_text,
    refuse_unsupported,
    write_call,
    write_preamble,
    write_think,
)
from hotloop.formats.text_decoder import PieceTable
from hotloop.formats.token_writer import TokenWriter
from hotloop.protocol.items import CustomToolCall, FunctionCall, Item, Message, Reasoning, text_of
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Extension, Fallback, RenderState
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.item_log import ItemLog


@dataclass(frozen=True, slots=True)
class ChatState:
    """What ChatML remembers of a chain."""

    context: PromptContext
    phase: Phase  # of the last message: a first new item that belongs into it reopens it
    boundary: int  # chain length behind the last question, where dropping reasoning rewinds to
    since: ItemLog  # items behind the boundary; kept only where reasoning can be dropped
    has_think: bool  # a think block stands behind the boundary


class ChatML:
    """Implements `seams.format.Format`.

    Args:
        tokenizer: of the model; needs `<|im_start|>` and `<|im_end|>` as control tokens.
        thinking: the model reasons in think blocks; otherwise reasoning items are left out and `<think>` is text.
        default_system: what the system message says when the request has no instructions.
        name: family name.

    Raises:
        ValueError: the vocabulary lacks a control token that the family cannot do without.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, thinking: bool, default_system: str | None = None, name: str = "chatml"
    ) -> None:
        self._tokenizer = tokenizer
        self._thinking = thinking
        self._default_system = default_system
        self._name = name
        self._table = PieceTable(tokenizer.piece)
        self._im_end = self._required(IM_END)
        self._required(IM_START)
        end_of_text = tokenizer.special(END_OF_TEXT)
        self._stops = frozenset([self._im_end] if end_of_text is None else [self._im_end, end_of_text])
        special = tokenizer.special
        self._markers = Markers(special(THINK), special(THINK_END), special(CALL), special(CALL_END))
        self._end = self._written(end_message)
        self._prompt = self._written(_write_generation_prompt)
        self._prompt_without_thinking = self._written(_write_generation_prompt_without_thinking)

    @property
    def name(self) -> str:
        """Short name of the family."""
        return self._name

    @property
    def stop_tokens(self) -> frozenset[int]:
        """End of message and, where the vocabulary has it, end of text."""
        return self._stops

    def begin(self, context: PromptContext) -> Extension:
        """The system message with instructions and tools."""
        writer = TokenWriter(self._tokenizer)
        write_preamble(writer, context, self._default_system)
        tokens = writer.tokens()
        state = ChatState(context, phase="", boundary=len(tokens), since=ItemLog(), has_think=False)
        return Extension(0, tokens, state, tuple(writer.checkpoints))

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        """See `Format.extend`; never a Fallback. Rewinds for `reasoning_dropped` and `message_reopened`."""
        assert isinstance(state, ChatState)
        refuse_unsupported(new_items)
        query = _last_query(new_items) if self._drops_reasoning(state.context) else -1
        if query >= 0 and state.has_think:
            replayed = tuple(state.since)
            items = (*replayed, *new_items)
            return self._write(state, state.boundary, "", items, query + len(replayed), "reasoning_dropped")
        return self._write(state, length, state.phase, new_items, query, None)

    def _write(
        self, state: ChatState, keep: int, phase: Phase, items: Sequence[Item], query: int, reason: str | None
    ) -> Extension:
        rendered = [(index, item) for index, item in enumerate(items) if is_rendered(item, thinks=self._thinking)]
        if phase and rendered and joins(phase, rendered[0][1]):
            keep -= len(self._end)
            reason = reason or "message_reopened"
        elif rendered:
            phase = ""
        writer = TokenWriter(self._tokenizer, keep)
        out = ItemWriter(writer, phase, empty_think=self._is_off(state.context))
        boundary = state.boundary
        for index, item in rendered:
            out.write(item, shows_reasoning=self._thinking and index > query)
            if index == query:
                boundary = writer.checkpoints[-1]
        last_phase = out.phase
        if rendered:
            out.end()
        drops = self._drops_reasoning(state.context)
        since = ItemLog(items[query + 1 :]) if query >= 0 else state.since.extended(items if drops else ())
        has_think = drops and (out.wrote_think or (query < 0 and state.has_think))
        new_state = ChatState(state.context, last_phase, boundary, since, has_think)
        return Extension(keep, writer.tokens(), new_state, tuple(writer.checkpoints), reason)

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """The head of an assistant message, with an empty think block if thinking is switched off."""
        assert isinstance(state, ChatState)
        return self._generation_prompt(state.context)[:]

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """Generation prompt, sampled ids, end of message. Output without items leaves nothing behind."""
        assert isinstance(state, ChatState)
        if not output:
            return Extension(length, array("I"), state)
        tokens = self._generation_prompt(state.context)[:]
        body = sampled[:-1] if sampled and sampled[-1] in self._stops else sampled
        tokens.extend(body)
        if isinstance(output[-1], Reasoning) and self._markers.think_end not in body:
            tokens.extend(self._written(_write_think_end))
        tokens.extend(self._end)
        drops = self._drops_reasoning(state.context)
        thought = (
            self._is_off(state.context)
            or self._markers.think in body
            or any(isinstance(item, Reasoning) for item in output)
        )
        end = length + len(tokens)
        new_state = ChatState(
            state.context,
            _phase_after(output[-1]),
            state.boundary,
            state.since.extended(output if drops else ()),
            drops and (state.has_think or thought),
        )
        return Extension(length, tokens, new_state, (end,))

    def parser(self, context: PromptContext) -> ChatMLParser:
        """A parser for one response. Calls of tools that were not offered come back as function calls."""
        return ChatMLParser(
            self._table, self._markers, self._stops, thinking=self._thinking, custom=custom_names(context.tools)
        )

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See `chatml_grammar`."""
        return build_constraint(context, rules, self._markers, thinks=self._thinking and not self._is_off(context))

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample for `items`: reasoning, text and calls in any order."""
        writer = TokenWriter(self._tokenizer)
        wrote: type[Item] | None = None
        for item in items:
            match item:
                case Reasoning():
                    if self._thinking:
                        write_think(writer, reasoning_text(item))
                    continue
                case FunctionCall():
                    _separate(writer, wrote)
                    write_call(writer, item.name, item.arguments)
                case CustomToolCall():
                    _separate(writer, wrote)
                    write_call(writer, item.name, custom_arguments(item.input))
                case Message():
                    _separate(writer, wrote)
                    writer.text(text_of(item.content))
                case _:
                    raise ValueError(f"a model does not write items of type {type(item).__name__}")
            wrote = type(item)
        writer.mark(IM_END)
        return writer.tokens()

    def _required(self, mark: str) -> int:
        token = self._tokenizer.special(mark)
        if token is None:
            raise ValueError(f"the vocabulary has no control token {mark!r}, which the {self._name} format needs")
        return token

    def _written(self, write: Callable[[TokenWriter], None]) -> "array[int]":
        writer = TokenWriter(self._tokenizer)
        write(writer)
        return writer.tokens()

    def _generation_prompt(self, context: PromptContext) -> "array[int]":
        return self._prompt_without_thinking if self._is_off(context) else self._prompt

    def _is_off(self, context: PromptContext) -> bool:
        return self._thinking and context.reasoning_effort == "none"

    def _drops_reasoning(self, context: PromptContext) -> bool:
        return self._thinking and not context.keep_reasoning


def _separate(writer: TokenWriter, wrote: type[Item] | None) -> None:
    if wrote is not None:
        writer.text("\n")


def _write_generation_prompt(writer: TokenWriter) -> None:
    writer.mark(IM_START)
    writer.text("assistant\n")


def _write_generation_prompt_without_thinking(writer: TokenWriter) -> None:
    _write_generation_prompt(writer)
    write_think(writer, "")


def _write_think_end(writer: TokenWriter) -> None:
    writer.text("\n")
    writer.mark(THINK_END)
    writer.text("\n\n")


def _last_query(items: Sequence[Item]) -> int:
    for index in range(len(items) - 1, -1, -1):
        if is_query(items[index]):
            return index
    return -1


def _phase_after(item: Item) -> Phase:
    match item:
        case Reasoning():
            return "thought"
        case FunctionCall() | CustomToolCall():
            return "calls"
        case _:
            return "text"
