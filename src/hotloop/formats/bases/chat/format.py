"""Conversations of messages, append-only: what the families told apart by a `Dialect` have in common.

Append-only inside a tool loop. Where a family drops the reasoning of earlier loops as soon as the user asks something new, the
chain is then rewound to the last question and what followed is written again without reasoning (`reasoning_dropped`). What
has to be remembered for that, the items since the last question, is shared with the chain, not copied.

In every family here:
* Two answers with no input between them stay two messages in the chain; written in full they may be one.
* Item types that are carried but not interpreted become a system message holding their JSON.
* The spelling of a control token inside any content stays text.
* Without any question from the user nothing counts as earlier: reasoning stays.
"""

from array import array
from collections.abc import Sequence
from functools import partial
from typing import Literal

import msgspec

from hotloop.formats.bases.answer import PHASES, THINK, THINK_END, Phase, joins
from hotloop.formats.bases.chat.dialect import Dialect, answer_text, is_rendered, reasoning_text
from hotloop.formats.bases.chat.frame import Frame, frame_of, written_in_frames
from hotloop.formats.bases.chat.parser import FIRST_MODES, Begin, ChatMLParser, Reading
from hotloop.formats.bases.chat.writer import MessageWriter
from hotloop.formats.parsing.call_syntax import CALL, CALL_END
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder
from hotloop.formats.writing.item_text import call_arguments, not_sampled
from hotloop.formats.writing.text_only import refuse_unsupported
from hotloop.formats.writing.token_writer import TokenWriter, known_tokens, required_token, written
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    Reasoning,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Extension, Fallback, RenderState
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.item_log import ItemLog


class ChatState(msgspec.Struct, frozen=True):
    """What is remembered of a chain."""

    context: PromptContext
    phase: Phase  # of the last message: a first new item that belongs into it reopens it
    boundary: int  # chain length behind the last question, where dropping reasoning rewinds to
    since: ItemLog  # items behind the boundary; kept only where reasoning can be dropped
    is_rewritten: bool  # the next question changes what stands behind the boundary


class ChatFormat:
    """Implements `seams.format.Format` for one dialect.

    Raises:
        ValueError: the vocabulary lacks a control token that the family cannot do without.
    """

    def __init__(self, tokenizer: Tokenizer, dialect: Dialect) -> None:
        self._tokenizer = tokenizer
        self._dialect = dialect
        for mark in dialect.required:
            required_token(tokenizer, mark, dialect.name)
        self._stops = known_tokens(tokenizer, dialect.stops)
        marks = {mark: tokenizer.special(mark) for mark in (THINK, THINK_END, CALL, CALL_END, *dialect.calls.marks)}
        self._marks = {mark: token for mark, token in marks.items() if token is not None}
        self._reading = Reading(
            PieceTable(tokenizer.piece),
            self._marks,
            self._stops,
            thinks=dialect.thinks,
            strips=dialect.strips,
            calls=dialect.calls,
        )
        self._end = written(tokenizer, dialect.write_end)
        self._prompts = {off: written(tokenizer, partial(dialect.write_prompt, off=off)) for off in (False, True)}
        self._thinks = dialect.thinks
        self._trims = dialect.trims
        begin: Begin = "text" if not dialect.thinks else "thought" if dialect.opens_think else "block"
        self._first_modes = {False: FIRST_MODES[begin], True: FIRST_MODES["text"]}  # by whether thinking is off
        self._frames = {off: self._framed(off=off) if dialect.is_verbatim(off=off) else {} for off in (False, True)}

    @property
    def name(self) -> str:
        """Short name of the family."""
        return self._dialect.name

    @property
    def stop_tokens(self) -> frozenset[int]:
        """What ends an output, as far as the vocabulary has it."""
        return self._stops

    def begin(self, context: PromptContext) -> Extension:
        """Instructions and tools."""
        writer = TokenWriter(self._tokenizer)
        self._dialect.write_preamble(writer, context)
        tokens = writer.tokens()
        checkpoints = (len(tokens),) if len(tokens) else ()
        state = ChatState(context, phase="", boundary=len(tokens), since=ItemLog(), is_rewritten=False)
        return Extension(0, tokens, state, checkpoints)

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        """See `Format.extend`; never a Fallback. Rewinds for `reasoning_dropped` and `message_reopened`."""
        assert isinstance(state, ChatState)
        extension = self._extend_by_texts(state, length, new_items)
        return self._extend_by_any(state, length, new_items) if extension is None else extension

    def _extend_by_texts(self, state: ChatState, length: int, items: Sequence[Item]) -> Extension | None:
        """By messages and outputs that consist of one text each: what most turns bring. None for anything else."""
        context = state.context
        frames = self._frames[self._thinks and context.reasoning_effort == "none"]
        drops = self._thinks and not context.keep_reasoning
        kind: str
        content: str | Sequence[object]
        phase = state.phase
        query = asked = -1  # the last query, and its place among the messages
        messages: list[tuple[Frame, list[str]]] = []
        for index, item in enumerate(items):
            if type(item) is FunctionCallOutput or type(item) is CustomToolCallOutput:
                kind, content = "output", item.output
            elif type(item) is Message:
                kind, content = item.role, item.content
            else:
                return None
            frame = frames.get(kind)
            if frame is None:
                return None
            if not isinstance(content, str):
                if len(content) != 1 or type(part := content[0]) is not InputText:
                    return None
                content = part.text
            if self._trims:
                content = content.strip()
            if kind != "output":
                phase = ""
                if drops and kind == "user" and self._dialect.is_query(item):
                    if state.is_rewritten:
                        return None
                    query, asked = index, len(messages)
            elif phase != "outputs":
                phase = "outputs"
            elif messages:
                messages[-1][1].append(content)
                continue
            else:  # it joins the chain's last message, which is reopened
                return None
            messages.append((frame, [content]))
        tokens, ends = written_in_frames(messages, length, self._tokenizer.encode)
        if not drops:
            new_state = ChatState(context, phase, state.boundary, state.since, False)
        elif query < 0:
            new_state = ChatState(context, phase, state.boundary, state.since.extended(items), state.is_rewritten)
        else:
            new_state = ChatState(context, phase, ends[asked], ItemLog(items[query + 1 :]), False)
        return Extension(length, tokens, new_state, ends)

    def _framed(self, *, off: bool) -> dict[str, Frame]:
        """What stands around the texts of each kind of message."""
        dialect = self._dialect

        def message(role: Literal["user", "system"]) -> Frame:
            def write(writer: TokenWriter, texts: Sequence[str]) -> None:
                dialect.write_message(writer, role, texts[0], off=off)
                dialect.write_end(writer)

            return frame_of(self._tokenizer, write, joins=False)

        def write_outputs(writer: TokenWriter, texts: Sequence[str]) -> None:
            phase: Phase = ""
            for text in texts:
                dialect.write_output(writer, text, phase)
                phase = "outputs"
            dialect.write_end(writer)

        system = message("system")
        outputs = frame_of(self._tokenizer, write_outputs, joins=True)
        return {"user": message("user"), "system": system, "developer": system, "output": outputs}

    def _extend_by_any(self, state: ChatState, length: int, new_items: Sequence[Item]) -> Extension:
        refuse_unsupported(new_items)
        query = self._last_query(new_items) if self._drops_reasoning(state.context) else -1
        if query >= 0 and state.is_rewritten:
            replayed = tuple(state.since)
            items = (*replayed, *new_items)
            return self._write(state, state.boundary, "", items, query + len(replayed), "reasoning_dropped")
        return self._write(state, length, state.phase, new_items, query, None)

    def _write(
        self, state: ChatState, keep: int, phase: Phase, items: Sequence[Item], query: int, reason: str | None
    ) -> Extension:
        rendered = [(index, item) for index, item in enumerate(items) if is_rendered(item, self._dialect)]
        if phase and rendered and joins(phase, rendered[0][1]):
            keep -= len(self._end)
            if len(self._end):
                reason = reason or "message_reopened"
        elif rendered:
            phase = ""
        writer = TokenWriter(self._tokenizer, keep)
        out = MessageWriter(self._dialect, writer, phase, off=self._is_off(state.context))
        boundary = state.boundary
        for index, item in rendered:
            out.write(item, shows_reasoning=self._dialect.thinks and index > query)
            if index == query:
                boundary = writer.checkpoints[-1]
        last_phase = out.phase
        if rendered:
            out.end()
        drops = self._drops_reasoning(state.context)
        since = ItemLog(items[query + 1 :]) if query >= 0 else state.since.extended(items if drops else ())
        is_rewritten = drops and (out.wrote_rewritten or (query < 0 and state.is_rewritten))
        new_state = ChatState(state.context, last_phase, boundary, since, is_rewritten)
        return Extension(keep, writer.tokens(), new_state, tuple(writer.checkpoints), reason)

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """The head of an assistant message, with what the template puts there for thinking switched off or on."""
        assert isinstance(state, ChatState)
        return self._prompts[self._thinks and state.context.reasoning_effort == "none"][:]

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """Generation prompt, sampled ids, end of message. Output without items leaves nothing behind."""
        assert isinstance(state, ChatState)
        if not output:
            return Extension(length, array("I"), state)
        context = state.context
        off = self._thinks and context.reasoning_effort == "none"
        tokens = self._prompts[off][:]
        body = sampled[:-1] if sampled and sampled[-1] in self._stops else sampled
        tokens.extend(body)
        last = output[-1]
        if isinstance(last, Reasoning) and self._marks.get(THINK_END) not in body:
            tokens.extend(written(self._tokenizer, self._dialect.write_thought_end))
        tokens.extend(self._end)
        end = length + len(tokens)
        phase = PHASES.get(type(last), "text")
        if not self._thinks or context.keep_reasoning:
            new_state = ChatState(context, phase, state.boundary, state.since, False)
            return Extension(length, tokens, new_state, (end,))
        thought = self._marks.get(THINK) in body or any(isinstance(item, Reasoning) for item in output)
        rewritten = self._dialect.is_rewritten(off=off, thought=thought or (self._dialect.opens_think and not off))
        is_rewritten = state.is_rewritten or rewritten
        since = state.since.extended(output)
        new_state = ChatState(context, phase, state.boundary, since, is_rewritten)
        return Extension(length, tokens, new_state, (end,))

    def parser(self, context: PromptContext) -> ChatMLParser:
        """A parser for one response. Calls of tools that were not offered come back as function calls."""
        first = self._first_modes[self._thinks and context.reasoning_effort == "none"]
        reading = self._reading
        return ChatMLParser(reading, context.tools, first, TextDecoder(reading.table), ItemStream(context.tools))

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See the dialect's grammar."""
        return self._dialect.constraint(context, rules, self._marks, off=self._is_off(context))

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample for `items`: reasoning, text and calls in any order."""
        writer = TokenWriter(self._tokenizer)
        dialect = self._dialect
        phase: Phase = ""
        if dialect.thinks and not self._is_off(context) and not (items and isinstance(items[0], Reasoning)):
            dialect.write_thought(writer, "")
        for item in items:
            match item:
                case Reasoning():
                    if dialect.thinks:
                        dialect.write_thought(writer, reasoning_text(item, strips=dialect.strips))
                case FunctionCall() | CustomToolCall():
                    dialect.write_call(writer, item.name, call_arguments(item), phase)
                    phase = "calls"
                case Message():
                    if phase:
                        writer.text("\n")
                    dialect.write_text(writer, answer_text(item, strips=dialect.strips), behind_block=False)
                    phase = "text"
                case _:
                    raise not_sampled(item)
        writer.mark(dialect.stop_after(items))
        return writer.tokens()

    def _last_query(self, items: Sequence[Item]) -> int:
        is_query = self._dialect.is_query
        for at in range(len(items) - 1, -1, -1):
            if is_query(items[at]):
                return at
        return -1

    def _is_off(self, context: PromptContext) -> bool:
        return self._thinks and context.reasoning_effort == "none"

    def _drops_reasoning(self, context: PromptContext) -> bool:
        return self._thinks and not context.keep_reasoning
