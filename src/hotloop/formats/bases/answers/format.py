"""The format of the families whose answers are reasoning, text and calls, one message each: DeepSeek and Kimi.

Append-only inside a tool loop. Where the template leaves old reasoning out (`Dialect.forgets`), the chain is rewound to the
last place where it did, and what followed is written again without (`reasoning_dropped`). What has to be remembered for that,
the items since then, is shared with the chain, not copied.
"""

from array import array
from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec.structs import replace

from hotloop.formats.bases.answer import THINK_END, joins, phase_after
from hotloop.formats.bases.answers.dialect import (
    AFTER,
    Dialect,
    Forgets,
    Tail,
    answers_without_calls,
    is_rendered,
    last_question,
    reasoning_text,
)
from hotloop.formats.bases.answers.parser import AnswerParser
from hotloop.formats.bases.answers.writer import AnswerWriter
from hotloop.formats.parsing.mark_scanner import MarkTable
from hotloop.formats.parsing.text_decoder import PieceTable
from hotloop.formats.writing.item_text import call_arguments, not_sampled
from hotloop.formats.writing.text_only import refuse_unsupported
from hotloop.formats.writing.token_writer import TokenWriter, known_tokens, required_token, written
from hotloop.protocol.items import CustomToolCall, FunctionCall, Item, Message, Reasoning, text_of
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Extension, Fallback, RenderState
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.item_log import ItemLog


class AnswerState(msgspec.Struct, frozen=True):
    """What is remembered of a chain."""

    context: PromptContext
    tail: Tail
    boundary: int  # chain length where leaving reasoning out rewinds to
    boundary_tail: Tail
    since: ItemLog  # items behind the boundary; kept only where reasoning can be left out
    has_think: bool = False  # a think block stands behind the boundary
    is_settled: bool = False  # what could be left out has been: no rewind comes any more


class AnswerFormat:
    """Implements `seams.format.Format` for a dialect.

    Raises:
        ValueError: the vocabulary lacks a control token that the family cannot do without.
    """

    def __init__(self, tokenizer: Tokenizer, dialect: Dialect) -> None:
        self._tokenizer = tokenizer
        self._dialect = dialect
        self._pieces = PieceTable(tokenizer.piece)
        for mark in dialect.required:
            required_token(tokenizer, mark, dialect.name)
        self._stops = known_tokens(tokenizer, (dialect.required[0], *dialect.stops))
        self._marks = MarkTable(dialect.marks, tokenizer.special)
        self._end = written(tokenizer, dialect.write_end)
        self._calls_end = written(tokenizer, dialect.write_calls_end)
        self._prompts = {
            (after, thinks): written(tokenizer, partial(dialect.write_prompt, after=after, thinks=thinks))
            for after in AFTER
            for thinks in (False, True)
        }

    @property
    def name(self) -> str:
        """Short name of the family."""
        return self._dialect.name

    @property
    def stop_tokens(self) -> frozenset[int]:
        """What ends an answer and, where the vocabulary has it, the text."""
        return self._stops

    def begin(self, context: PromptContext) -> Extension:
        """Instructions and tools."""
        writer = TokenWriter(self._tokenizer)
        self._dialect.write_preamble(writer, context)
        length = writer.checkpoint()
        return Extension(0, writer.tokens(), AnswerState(context, Tail(), length, Tail(), ItemLog()), (length,))

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        """See `Format.extend`; never a Fallback. Rewinds for `reasoning_dropped` and `message_reopened`."""
        assert isinstance(state, AnswerState)
        refuse_unsupported(new_items)
        forgets = self._forgets(state)
        if forgets == "never":
            return self._write(state, length, state.tail, new_items, -1, None)
        old = tuple(state.since) if last_question(new_items, self._dialect) >= 0 else ()
        cut = self._cut((*old, *new_items), forgets)
        if cut >= 0 and state.has_think:
            items = (*old, *new_items)
            return self._write(state, state.boundary, state.boundary_tail, items, cut, "reasoning_dropped")
        if (
            0 <= cut < len(old)
        ):  # nothing to leave out: the boundary moves up to here, even into a message that is reopened
            is_settled = forgets == "at_first_answer"
            moved = replace(state, boundary=length, boundary_tail=state.tail, since=ItemLog(), is_settled=is_settled)
            return self._write(moved, length, moved.tail, new_items, -1, None)
        return self._write(state, length, state.tail, new_items, max(cut - len(old), -1), None)

    def _write(
        self, state: AnswerState, keep: int, tail: Tail, items: Sequence[Item], cut: int, reason: str | None
    ) -> Extension:
        thinks = self._dialect.thinks(state.context)
        lines = self._dialect.think_lines
        rendered = [(index, item) for index, item in enumerate(items) if is_rendered(item, thinks=thinks, lines=lines)]
        if rendered and tail.phase and joins(tail.phase, rendered[0][1]):
            keep -= tail.closing
            tail = replace(tail, closing=0)
            reason = reason or "message_reopened"
        elif rendered:
            tail = replace(tail, phase="", closing=0)
        writer = TokenWriter(self._tokenizer, keep)
        out = AnswerWriter(self._dialect, writer, tail, thinks=thinks)
        boundary, boundary_tail = state.boundary, state.boundary_tail
        for index, item in rendered:
            out.write(item, shown=index > cut)
            if index == cut:
                out.end()
                boundary, boundary_tail = writer.checkpoints[-1], out.tail
        if rendered:
            out.end()
        forgets = self._forgets(state)
        is_settled = state.is_settled or (cut >= 0 and forgets == "at_first_answer")
        may_forget = forgets != "never" and not is_settled
        since = ItemLog(items[cut + 1 :]) if cut >= 0 else state.since.extended(items)
        new_state = AnswerState(
            state.context,
            out.tail,
            boundary,
            boundary_tail,
            since=since if may_forget else ItemLog(),
            has_think=may_forget and (out.wrote_think or (cut < 0 and state.has_think)),
            is_settled=is_settled,
        )
        return Extension(keep, writer.tokens(), new_state, tuple(writer.checkpoints), reason)

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """The head of an answer."""
        assert isinstance(state, AnswerState)
        return self._prompts[state.tail.after, self._dialect.thinks(state.context)][:]

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """Generation prompt, sampled ids, end of the answer. Output without items leaves nothing behind."""
        assert isinstance(state, AnswerState)
        if not output:
            return Extension(length, array("I"), state)
        tokens = self.generation_prompt(state)
        body = array("I", sampled[:-1] if sampled and sampled[-1] in self._stops else sampled)
        tokens.extend(body)
        last = output[-1]
        if isinstance(last, Reasoning) and not self._ends_thought(body):
            tokens.extend(written(self._tokenizer, self._dialect.write_thought_end))
        tokens.extend(self._end)
        may_forget = self._forgets(state) != "never"
        new_state = replace(
            state,
            tail=self._tail_behind(state.tail, body, output),
            since=state.since.extended(output) if may_forget else state.since,
            has_think=may_forget and (state.has_think or self._has_thought(output)),
        )
        return Extension(length, tokens, new_state, (length + len(tokens),))

    def parser(self, context: PromptContext) -> AnswerParser:
        """A parser for one response. Calls of tools that were not offered come back as function calls."""
        dialect = self._dialect
        return AnswerParser(
            self._pieces,
            self._marks,
            self._stops,
            context.tools,
            dialect.calls_reader,
            in_think=dialect.opens_think and dialect.thinks(context),
            think_lines=dialect.think_lines,
            separator=dialect.separator,
        )

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See the family's dialect."""
        return self._dialect.constraint(self._tokenizer.special, context, rules)

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample for `items`: reasoning, text and calls."""
        dialect = self._dialect
        thinks = dialect.thinks(context)
        writer = TokenWriter(self._tokenizer)
        tail = dialect.encoding_tail(items)
        in_calls = False
        if thinks and not (items and isinstance(items[0], Reasoning)):
            dialect.write_thought(writer, "")
        for item in items:
            if in_calls and not isinstance(item, FunctionCall | CustomToolCall):
                writer.tokens()
                dialect.write_calls_end(writer)
                in_calls = False
            match item:
                case Reasoning():
                    if thinks:
                        dialect.write_thought(writer, reasoning_text(item, lines=dialect.think_lines))
                case FunctionCall() | CustomToolCall():
                    tail = dialect.write_call(writer, tail, item.name, call_arguments(item), is_first=not in_calls)
                    in_calls = True
                case Message():
                    writer.text(text_of(item.content))
                case _:
                    raise not_sampled(item)
        if in_calls:
            writer.tokens()  # as `AnswerWriter` does: what closes the calls is tokens of its own
            dialect.write_calls_end(writer)
        writer.mark(dialect.required[0])
        return writer.tokens()

    # --- what is left out, and when ---

    def _forgets(self, state: AnswerState) -> Forgets:
        context = state.context
        if context.keep_reasoning or state.is_settled or not self._dialect.thinks(context):
            return "never"
        return self._dialect.forgets(context)

    def _cut(self, items: Sequence[Item], forgets: Forgets) -> int:
        """The last of the items that the template shows without reasoning; -1 for none."""
        if forgets == "at_questions":
            return last_question(items, self._dialect)
        ends = answers_without_calls(items, self._dialect)
        if not ends:
            return -1
        return ends[0] if forgets == "at_first_answer" else ends[-1]

    def _has_thought(self, output: Sequence[Item]) -> bool:
        return self._dialect.opens_think or any(isinstance(item, Reasoning) for item in output)

    # --- the model's own answer ---

    def _tail_behind(self, tail: Tail, body: "array[int]", output: Sequence[Item]) -> Tail:
        names = [item.name for item in output if isinstance(item, FunctionCall | CustomToolCall)]
        if names:
            tail = self._dialect.sampled_calls(tail, names, self._headers(body))
        phase = phase_after(output[-1])
        closing = len(self._end)
        if phase == "calls":
            whole = len(self._calls_end) > 0 and body[-len(self._calls_end) :] == self._calls_end
            phase, closing = ("calls", closing + len(self._calls_end)) if whole else ("", 0)
        return replace(tail, after="answer", phase=phase, closing=closing)

    def _ends_thought(self, body: "array[int]") -> bool:
        end = self._tokenizer.special(THINK_END)
        return end is not None and end in body

    def _headers(self, body: "array[int]") -> list[str]:
        """What stands between the markers around each call's name, where both are control tokens."""
        begin, end = (self._tokenizer.special(mark) for mark in self._dialect.header_marks)
        headers: list[str] = []
        start = -1
        for index, token in enumerate(body):
            if token == begin:
                start = index + 1
            elif token == end and start >= 0:
                name = b"".join(self._tokenizer.piece(one) for one in body[start:index])
                headers.append(name.decode("utf-8", "replace"))
                start = -1
        return headers
