"""Harmony, the format of gpt-oss.

Append-only until the model gives a final answer. From then on its reasoning is shown to it no more: the next turn rewinds
to the answer before that and writes what followed again without reasoning (`reasoning_dropped`). What has to be remembered
for that, the items since the last answer, is shared with the chain, not copied. A user message alone drops nothing.

`<|return|>`, which ends the output, stands in the chain as `<|end|>`, as the template has it in every later turn.

Where it differs from the published template, on purpose:
* No line with the current date: a chain has to read the same tomorrow. (The published encoder leaves it out too, unless told.)
* A developer or system message behind the first place, which the template drops, is a developer message of its own; so is a
  first one where there are instructions besides it. (Without them it is the instructions: `first_message_instructs` writes
  the chain's start anew.)
* A message of phase `commentary` goes to the commentary channel; the template has no such messages.
* An output is under the name of the tool that was called with its id; the template takes the last call for it. Without a
  call the author is `functions` alone; the template raises.
* Reasoning that no call follows is shown until there is a final answer; several items of it are several messages.
* Arguments of a call stand verbatim. An empty text of them is `{}`.
* Text that spells `<|channel|>analysis` and the like stays text; the template raises.
* A tool without a description has no comment line; the template raises.
* Item types that are carried but not interpreted become a developer message holding their JSON.
"""

import dataclasses
from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

from hotloop.formats.families.harmony.grammar import Markers, build_constraint
from hotloop.formats.families.harmony.parser import HarmonyParser
from hotloop.formats.families.harmony.text import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    END_OF_TEXT,
    MESSAGE,
    RETURN,
    START,
    ItemWriter,
    is_final,
    write_call_body,
    write_channel,
    write_generation_prompt,
    write_output_head,
    write_preamble,
)
from hotloop.formats.parsing.text_decoder import PieceTable
from hotloop.formats.writing.first_message import after_start, first_instructions
from hotloop.formats.writing.item_text import not_sampled, reasoning_text
from hotloop.formats.writing.text_only import refuse_unsupported
from hotloop.formats.writing.token_writer import TokenWriter, known_tokens, required_token, written
from hotloop.protocol.items import CustomToolCall, FunctionCall, Item, Message, Reasoning, text_of
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Extension, Fallback, RenderState
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.item_log import ItemLog

_HEADS = 256  # of outputs, by the tool's name, that are kept: more than an agent has tools
_NAME_CHARS = 128  # of a tool's name; that in an item may be of any length
_NO_CALLS: Mapping[str, str] = MappingProxyType({})


class _Calls(msgspec.Struct, frozen=True):
    """Names of tools called: by id while the output is to come, and the last one."""

    open: Mapping[str, str] = _NO_CALLS
    last: str = ""


class HarmonyState(msgspec.Struct, frozen=True):
    """What Harmony remembers of a chain."""

    context: PromptContext
    calls: _Calls
    boundary: int  # chain length behind the last answer, where dropping reasoning rewinds to
    calls_there: _Calls
    since: ItemLog  # items behind the boundary; kept only where reasoning can be dropped
    has_analysis: bool = False  # some stands behind the boundary
    is_answered: bool = False  # and behind that a final answer
    is_start: bool = False  # nothing has been given yet


class Harmony:
    """Implements `seams.format.Format`.

    Args:
        tokenizer: of the model; needs Harmony's control tokens.

    Raises:
        ValueError: the vocabulary lacks one of them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._table = PieceTable(tokenizer.piece)
        self._ids = {
            mark: required_token(tokenizer, mark, self.name)
            for mark in (START, END, MESSAGE, CHANNEL, CONSTRAIN, RETURN, CALL)
        }
        self._stops = known_tokens(tokenizer, (RETURN, CALL, END_OF_TEXT))
        self._marks = {token: mark for mark, token in self._ids.items() if token not in self._stops}
        self._markers = Markers(*(self._ids[mark] for mark in (START, END, MESSAGE, CHANNEL, CONSTRAIN)))
        self._prompt = written(tokenizer, write_generation_prompt)
        self._known_heads = lru_cache(_HEADS)(self._written_head)

    @property
    def name(self) -> str:
        """Short name of the family."""
        return "harmony"

    @property
    def stop_tokens(self) -> frozenset[int]:
        """End of an answer, end of a call and, where the vocabulary has it, end of text."""
        return self._stops

    def begin(self, context: PromptContext) -> Extension:
        """The system message and the developer message with instructions and tools."""
        writer = TokenWriter(self._tokenizer)
        write_preamble(writer, context)
        tokens = writer.tokens()
        state = HarmonyState(context, _Calls(), len(tokens), _Calls(), ItemLog(), is_start=True)
        return Extension(0, tokens, state, tuple(writer.checkpoints))

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        """See `Format.extend`; never a Fallback. Rewinds for `reasoning_dropped` and `first_message_instructs`."""
        assert isinstance(state, HarmonyState)
        refuse_unsupported(new_items)
        instructions = first_instructions(new_items) if state.is_start else None
        if instructions is not None and state.context.instructions is None:
            start = self.begin(dataclasses.replace(state.context, instructions=instructions))
            return after_start(start, self.extend(start.state, len(start.tokens), new_items[1:]))
        final = -1 if state.context.keep_reasoning else _last_final(new_items)
        if state.has_analysis and (final >= 0 or state.is_answered):
            items = (*state.since, *new_items)
            cleared = replace(state, calls=state.calls_there, since=ItemLog(), has_analysis=False, is_answered=False)
            return self._write(cleared, state.boundary, items, _last_final(items), "reasoning_dropped")
        return self._write(state, length, new_items, final, None)

    def _write(
        self, state: HarmonyState, keep: int, items: Sequence[Item], final: int, reason: str | None
    ) -> Extension:
        writer = TokenWriter(self._tokenizer, keep)
        out = ItemWriter(writer, dict(state.calls.open), state.calls.last, self._output_head)
        answered = state
        for index, item in enumerate(items):
            out.write(item, shows_reasoning=index > final)
            if index == final:
                calls = _Calls(dict(out.calls), out.last_call)
                answered = HarmonyState(state.context, calls, writer.checkpoints[-1], calls, ItemLog())
        since = items[final + 1 :] if not state.context.keep_reasoning else ()
        new_state = replace(
            answered,
            calls=_Calls(out.calls, out.last_call),
            since=answered.since.extended(since),
            has_analysis=not state.context.keep_reasoning and (answered.has_analysis or out.wrote_analysis),
            is_answered=False,
            is_start=state.is_start and not items,
        )
        return Extension(keep, writer.tokens(), new_state, tuple(writer.checkpoints), reason)

    def _output_head(self, name: str) -> "array[int]":
        return self._known_heads(name) if len(name) <= _NAME_CHARS else self._written_head(name)

    def _written_head(self, name: str) -> "array[int]":
        return written(self._tokenizer, partial(write_output_head, name=name))

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """The head of a message from the assistant; channel and recipient are the model's choice."""
        return self._prompt[:]

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """Generation prompt, sampled ids, end of the message. Output without items leaves nothing behind."""
        assert isinstance(state, HarmonyState)
        if not output:
            return Extension(length, array("I"), state)
        body = sampled[:-1] if sampled and sampled[-1] in self._stops else sampled
        tokens = self._prompt[:]
        tokens.extend(body)
        tokens.extend(self._closing(body, output[-1]))
        end = length + len(tokens)
        return Extension(length, tokens, self._committed(state, end, output), (end,))

    def _closing(self, body: Sequence[int], last: Item) -> "list[int]":
        """What makes `body` end with a whole message: in the middle of a head it becomes an empty one."""
        end = self._ids[CALL] if isinstance(last, FunctionCall | CustomToolCall) else self._ids[END]
        structure = (self._ids[START], self._ids[CHANNEL], self._ids[MESSAGE], self._ids[END], self._ids[CALL])
        mark = next((token for token in reversed(body) if token in structure), None)
        if mark in (self._ids[END], self._ids[CALL]):
            return []
        return [end] if mark == self._ids[MESSAGE] else [self._ids[MESSAGE], end]

    def _committed(self, state: HarmonyState, end: int, output: Sequence[Item]) -> HarmonyState:
        calls = dict(state.calls.open)
        last = state.calls.last
        for item in output:
            if isinstance(item, FunctionCall | CustomToolCall):
                calls[item.call_id] = last = item.name
        now = _Calls(calls, last)
        if state.context.keep_reasoning:
            return replace(state, calls=now, is_start=False)
        has_analysis = state.has_analysis or any(isinstance(item, Reasoning) for item in output)
        if is_final(output[-1]) and not has_analysis:
            return HarmonyState(state.context, now, end, now, ItemLog())
        return replace(
            state,
            is_start=False,
            calls=now,
            since=state.since.extended(output),
            has_analysis=has_analysis,
            is_answered=_last_final(output) >= 0,
        )

    def parser(self, context: PromptContext) -> HarmonyParser:
        """A parser for one response. Calls of tools that were not offered come back as function calls."""
        return HarmonyParser(self._table, self._marks, self._stops, context.tools)

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See `grammar`."""
        return build_constraint(context, rules, self._markers)

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample for `items`: reasoning, messages and calls in any order."""
        writer = TokenWriter(self._tokenizer)
        for index, item in enumerate(items):
            if index:
                write_generation_prompt(writer)
            match item:
                case FunctionCall() | CustomToolCall():
                    write_call_body(writer, item)
                    continue
                case Reasoning():
                    write_channel(writer, item)
                    writer.text(reasoning_text(item))
                case Message():
                    write_channel(writer, item)
                    writer.text(text_of(item.content))
                case _:
                    raise not_sampled(item)
            writer.mark(RETURN if index == len(items) - 1 else END)
        return writer.tokens()


def _last_final(items: Sequence[Item]) -> int:
    return next((index for index in range(len(items) - 1, -1, -1) if is_final(items[index])), -1)
