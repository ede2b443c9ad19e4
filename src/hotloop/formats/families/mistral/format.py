"""Mistral's instruct models with the tekken vocabulary, by the version of their instruct format.

    v3             Mistral Nemo
    v11            Mistral Small 3.2
    v13            Devstral Small 2507
    v13-thinking   Ministral 3 Reasoning, Magistral's kind of think blocks

Append-only from v13 on, reasoning is never dropped. Before that the tools (in v3 the instructions too) stand with the last
question: a new question rewinds to the one before it, which is written again without them (`preamble_moved`). What has to
be remembered for that, the items from the last question on, is shared with the chain, not copied. There is no generation
prompt: the model answers behind `[/INST]` and `[/TOOL_RESULTS]`.

Where it differs from the published templates, on purpose:
* Roles come as they come; the templates raise where user and assistant do not alternate.
* A developer or system message behind the first place is a system prompt of its own, in v3 a user message; so is a first one
  where there are instructions besides it. (Without them it is the instructions: `first_message_instructs` takes the default
  back.) Item types that are carried but not interpreted are written likewise, holding their JSON.
* An answer of text and calls is one message of both, as Mistral's own encoder has it; the templates of v3 and v11 drop the
  text.
* In v3 the instructions stay with the last question while its tool loop runs, as in Mistral's own encoder; the template takes
  them out then. A question in the same words as the last one gets no tools; the template takes the two for the same.
* A call id that is not nine letters or digits is replaced by nine that are always the same for it; the templates raise. The
  output of a call that the model gave an id is under that id.
* The sentence with the current date in a default system prompt is left out: a chain has to read the same tomorrow.
* Arguments of a call stand verbatim. An empty text of them is `{}`. Empty assistant messages are left out.
* The spelling of a control token inside any content stays text.
"""

import dataclasses
import json
from array import array
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import replace

from hotloop.formats.bases.answer import Phase, joins, phase_after
from hotloop.formats.families.mistral.grammar import Markers, build_constraint
from hotloop.formats.families.mistral.parser import MistralParser
from hotloop.formats.families.mistral.text import (
    ARGS,
    CALL_ID,
    CALLS,
    EOS,
    THINK,
    THINK_END,
    CallList,
    ItemWriter,
    Version,
    is_rendered,
    write_call,
    write_list,
    write_start,
    write_think,
)
from hotloop.formats.parsing.text_decoder import PieceTable
from hotloop.formats.writing.first_message import after_start, first_instructions
from hotloop.formats.writing.item_text import not_sampled, reasoning_text
from hotloop.formats.writing.text_only import refuse_unsupported
from hotloop.formats.writing.token_writer import TokenWriter, required_token
from hotloop.protocol.items import CallItem, CustomToolCall, FunctionCall, Item, Message, Reasoning, text_of
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Extension, Fallback, RenderState
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.item_log import ItemLog

_NO_IDS: Mapping[str, str] = MappingProxyType({})


class MistralState(msgspec.Struct, frozen=True):
    """What Mistral's formats remember of a chain."""

    context: PromptContext
    phase: Phase = ""  # of the last message: a first new item that belongs into it reopens it
    list: CallList = CallList(0)  # at phase `calls`, where calls are listed
    sampled_ids: Mapping[str, str] = _NO_IDS  # of calls whose outputs are to come
    question: int | None = None  # chain length in front of the last question, where moving the preamble rewinds to
    since: ItemLog = msgspec.field(default_factory=ItemLog)  # from that question on
    is_start: bool = False  # nothing has been given yet


class Mistral:
    """Implements `seams.format.Format`.

    Args:
        tokenizer: of the model; needs the version's control tokens.
        version: of the instruct format.
        default_system: system prompt of requests without instructions.

    Raises:
        ValueError: the vocabulary lacks a control token that the version cannot do without.
    """

    def __init__(self, tokenizer: Tokenizer, version: Version, default_system: str | None = None) -> None:
        self._tokenizer = tokenizer
        self._version = version
        self._default_system = default_system
        self._table = PieceTable(tokenizer.piece)
        ids = {mark: required_token(tokenizer, mark, version.name) for mark in version.marks}
        self._eos = ids[EOS]
        self._calls = ids[CALLS]
        self._think_end = ids.get(THINK_END)
        self._marks = {ids[mark]: mark for mark in (CALLS, CALL_ID, ARGS, THINK, THINK_END) if mark in ids}
        self._markers = Markers(ids[CALLS], ids.get(CALL_ID), ids.get(ARGS), ids.get(THINK), ids.get(THINK_END))

    @property
    def name(self) -> str:
        """Short name of the family and version."""
        return self._version.name

    @property
    def stop_tokens(self) -> frozenset[int]:
        """End of sequence."""
        return frozenset([self._eos])

    def begin(self, context: PromptContext) -> Extension:
        """Start of sequence, and what of instructions and tools does not stand with a question."""
        writer = TokenWriter(self._tokenizer)
        write_start(writer, self._version, context, self._default_system)
        return Extension(0, writer.tokens(), MistralState(context, is_start=True), tuple(writer.checkpoints))

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        """See `Format.extend`; never a Fallback. See the module for the reasons of rewinds."""
        assert isinstance(state, MistralState)
        refuse_unsupported(new_items)
        if not new_items:
            return Extension(length, array("I"), state)
        instructions = first_instructions(new_items) if state.is_start else None
        if instructions is not None and state.context.instructions is None:
            start = self.begin(dataclasses.replace(state.context, instructions=instructions))
            return after_start(start, self.extend(start.state, len(start.tokens), new_items[1:]))
        asks = self._version.moves_preamble(state.context) and _last_question(new_items) >= 0
        if asks and state.question is not None:
            items = (*state.since, *new_items)
            return self._write(MistralState(state.context), state.question, items, "preamble_moved")
        return self._write(state, length, new_items, None)

    def _write(self, state: MistralState, keep: int, items: Sequence[Item], reason: str | None) -> Extension:
        moves = self._version.moves_preamble(state.context)
        last = _last_question(items) if moves else -1
        rendered = [(index, item) for index, item in enumerate(items) if is_rendered(item, self._version)]
        phase: Phase = ""
        again: tuple[CallItem, ...] = ()
        if rendered and joins(state.phase, rendered[0][1]):
            keep, phase, again = self._reopened(state, keep)
            reason = reason or "message_reopened"
        writer = TokenWriter(self._tokenizer, keep)
        out = ItemWriter(writer, keep, self._version, phase, dict(state.sampled_ids))
        for call in again:
            out.write(call, None)
        question = state.question
        for index, item in rendered:
            if index == last:
                out.end()
                question = keep + len(writer.tokens())
            out.write(item, state.context if index == last else None)
        last_phase = out.phase if rendered else state.phase
        out.end()
        since = ItemLog(items[last:]) if last >= 0 else state.since.extended(items if question is not None else ())
        calls = out.list if rendered else state.list
        new_state = MistralState(state.context, last_phase, calls, out.sampled_ids, question, since)
        return Extension(keep, writer.tokens(), new_state, tuple(writer.checkpoints), reason)

    def _reopened(self, state: MistralState, length: int) -> tuple[int, Phase, tuple[CallItem, ...]]:
        """Where the last message is taken up again: its end comes off, or the whole list of its calls is written anew."""
        if state.phase == "calls" and self._version.lists_calls:
            return state.list.start, "text", state.list.calls
        return length - 1, state.phase, ()

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """Nothing."""
        return array("I")

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """Sampled ids and end of sequence. Output without items leaves nothing behind."""
        assert isinstance(state, MistralState)
        if not output:
            return Extension(length, array("I"), state)
        body = sampled[:-1] if sampled and sampled[-1] == self._eos else sampled
        tokens = array("I", body)
        if isinstance(output[-1], Reasoning) and self._think_end is not None and self._think_end not in body:
            tokens.append(self._think_end)
        tokens.append(self._eos)
        calls = tuple(item for item in output if isinstance(item, FunctionCall | CustomToolCall))
        sampled_ids = {**state.sampled_ids, **self._ids_given(body, calls)} if calls else state.sampled_ids
        at = length + (body.index(self._calls) if self._calls in body else 0)
        new_state = replace(
            state,
            is_start=False,
            phase=phase_after(output[-1]),
            list=CallList(at, calls),
            sampled_ids=sampled_ids,
            since=state.since.extended(output if state.question is not None else ()),
        )
        return Extension(length, tokens, new_state, (length + len(tokens),))

    def _ids_given(self, body: Sequence[int], calls: Sequence[CallItem]) -> dict[str, str]:
        """The ids that the model gave to its calls, by ours. Without one for each call they say nothing."""
        if not self._version.shows_ids:
            return {}
        parts = _split(body, self._calls)[1:]
        given = [one for part in parts for one in self._ids_in(part)]
        if len(given) != len(calls):
            return {}
        return {call.call_id: one for call, one in zip(calls, given, strict=True)}

    def _ids_in(self, part: Sequence[int]) -> list[str]:
        if not self._version.lists_calls:
            head = _split(part, self._markers.args)[0]
            return [self._text(one) for one in _split(head, self._markers.call_id)[1:]]
        try:
            listed: Any = json.loads(self._text(part))
            return [str(call["id"]) for call in listed]
        except (ValueError, TypeError, KeyError, RecursionError):
            return []

    def _text(self, ids: Sequence[int]) -> str:
        return b"".join(map(self._tokenizer.piece, ids)).decode("utf-8", "replace").strip()

    def parser(self, context: PromptContext) -> MistralParser:
        """A parser for one response. Calls of tools that were not offered come back as function calls."""
        return MistralParser(
            self._table, self._marks, self.stop_tokens, context.tools, lists_calls=self._version.lists_calls
        )

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See `grammar`."""
        return build_constraint(context, rules, self._markers)

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample for `items`: reasoning, text and, last, calls."""
        writer = TokenWriter(self._tokenizer)
        calls: list[CallItem] = []
        for item in items:
            match item:
                case FunctionCall() | CustomToolCall():
                    calls.append(item)
                case Reasoning():
                    if self._version.thinks:
                        write_think(writer, reasoning_text(item))
                case Message():
                    writer.text(text_of(item.content))
                case _:
                    raise not_sampled(item)
        if calls and self._version.lists_calls:
            write_list(writer, calls)
        elif calls:
            for call in calls:
                write_call(writer, call, self._version)
        writer.mark(EOS)
        return writer.tokens()


def _last_question(items: Sequence[Item]) -> int:
    for index in range(len(items) - 1, -1, -1):
        item = items[index]
        if isinstance(item, Message) and item.role == "user":
            return index
    return -1


def _split(ids: Sequence[int], mark: int | None) -> list[Sequence[int]]:
    """The stretches between the occurrences of `mark`."""
    parts: list[Sequence[int]] = []
    start = 0
    for index, token in enumerate(ids):
        if token == mark:
            parts.append(ids[start:index])
            start = index + 1
    return [*parts, ids[start:]]
