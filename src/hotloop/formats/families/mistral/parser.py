"""Reads the output of Mistral's models as items, token by token.

    TEXT ──[THINK]──▶ THINK ──[/THINK]──▶ TEXT
    TEXT ──[TOOL_CALLS]──▶ NAME ──[CALL_ID]──▶ ID ──[ARGS]──▶ ARGUMENTS ──[TOOL_CALLS]──▶ NAME …
    TEXT ──[TOOL_CALLS]──▶ LIST ──{──▶ LISTED ──}──▶ LIST …

A marker counts only as control token; its spelling is text. A call that cannot be one comes out as message text, marker
included: nothing is lost. White space alone is no message. Ids that the model gives to its calls are read over: the response
has ids of its own.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from hotloop.formats.families.mistral.text import ARGS, CALL_ID, CALLS, THINK, THINK_END
from hotloop.formats.parsing.call_reader import CallReader
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.pending_call import PendingCall
from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder
from hotloop.protocol.tools import Tool
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ParsedEvent

_NAME = re.compile(r"\s*[A-Za-z0-9_.-]{0,128}\s*\Z")
_MOST_HEAD_CHARS = 512  # far over markers, a name and an id
_BETWEEN = " \t\r\n,[]"  # around the calls of a list


class MistralParser:
    """Implements `seams.format.Parser` for one response.

    Args:
        table: texts of tokens, shared.
        marks: spelling of the control tokens that structure the output, by id.
        stops: ids that end the output.
        lists_calls: calls are one JSON list.
        tools: the tools offered.
    """

    def __init__(
        self,
        table: PieceTable,
        marks: Mapping[int, str],
        stops: frozenset[int],
        tools: Sequence[Tool],
        *,
        lists_calls: bool,
    ) -> None:
        self._decoder = TextDecoder(table)
        self._marks = marks
        self._stops = stops
        self._lists_calls = lists_calls
        self._stream = ItemStream(tools)
        self._read: _Mode = MistralParser._read_text
        self._raw = ""  # of a call that is none yet
        self._name = ""
        self._listed: PendingCall | None = None
        self._reasoning_tokens = 0

    @property
    def reasoning_tokens(self) -> int:
        """Ids from `[THINK]` to `[/THINK]`, both included."""
        return self._reasoning_tokens

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        """See `Parser.feed`."""
        for index, token in enumerate(ids):
            if token in self._stops:
                continue
            was_thinking = self._read is MistralParser._read_think
            if logprobs is not None:
                self._stream.logprobs.append(logprobs[index])
            mark = self._marks.get(token)
            if mark is None:
                text = self._decoder.feed(token)
                if text:
                    self._read(self, text)
            else:
                self._end_character()
                self._mark(mark)
            is_thinking = self._read is MistralParser._read_think
            if was_thinking or is_thinking:
                self._reasoning_tokens += 1
            if was_thinking or self._read is not MistralParser._read_text:
                self._stream.logprobs.clear()
        return self._stream.take()

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        """See `Parser.finish`."""
        self._end_character()
        self._end_call(complete=complete)
        self._stream.close(complete=complete)
        return self._stream.take()

    # --- marks ---

    def _mark(self, mark: str) -> None:
        if mark == CALLS:
            self._end_call(complete=True)
            self._begin_calls()
        elif mark == THINK and self._read is MistralParser._read_text:
            self._stream.close()
            self._stream.lead = ""
            self._read = MistralParser._read_think
        elif mark == THINK_END and self._read is MistralParser._read_think:
            self._stream.close()
            self._read = MistralParser._read_text
        elif mark == CALL_ID and self._read is MistralParser._read_name:
            self._raw += CALL_ID
            self._read = MistralParser._read_id
        elif mark == ARGS and self._read in (MistralParser._read_name, MistralParser._read_id):
            self._begin_arguments(ARGS)
        else:
            self._read(self, mark)

    def _begin_calls(self) -> None:
        self._stream.close()
        self._raw = self._stream.take_lead() + CALLS
        self._name = ""
        self._read = MistralParser._read_list if self._lists_calls else MistralParser._read_name

    # --- text, by mode ---

    def _read_text(self, text: str) -> None:
        self._stream.say(text)

    def _read_think(self, text: str) -> None:
        if self._stream.kind is None:
            self._stream.open("reasoning")
        self._stream.add(text)

    def _read_name(self, text: str) -> None:
        name, brace, rest = text.partition("{")
        self._name += name
        self._raw += name
        if not _NAME.match(self._name):
            self._give_up(brace + rest)
        elif brace:  # some models leave `[ARGS]` out
            self._begin_arguments("")
            self._read(self, brace + rest)

    def _read_id(self, text: str) -> None:
        call_id, brace, rest = text.partition("{")
        self._raw += call_id
        if len(self._raw) > _MOST_HEAD_CHARS:
            self._give_up(brace + rest)
        elif brace:
            self._begin_arguments("")
            self._read(self, brace + rest)

    def _begin_arguments(self, mark: str) -> None:
        name = self._name.strip()
        if not name:
            self._give_up(mark)
            return
        self._stream.open_call(name)
        self._raw = ""
        self._read = MistralParser._read_arguments

    def _read_arguments(self, text: str) -> None:
        self._stream.add_arguments(text)

    def _give_up(self, rest: str) -> None:
        """What was read is no call: it is message text."""
        raw = self._raw + rest
        self._raw = ""
        self._read = MistralParser._read_text
        self._read_text(raw)

    # --- a list of calls ---

    def _read_list(self, text: str) -> None:
        """Between the calls of a list."""
        inner = text.lstrip(_BETWEEN)
        if self._raw:  # no call of it has been read yet
            self._raw += text[: len(text) - len(inner)]
        if inner.startswith("{"):
            self._listed = PendingCall(self._raw, CallReader())
            self._raw = ""
            self._read = MistralParser._read_listed
            self._read_listed(inner)
        elif inner:
            self._give_up(inner)

    def _read_listed(self, text: str) -> None:
        call = self._listed
        assert call is not None
        rest = call.read(text)
        call.report(self._stream)
        if not rest:
            return
        if call.reader.is_over and call.is_open:
            self._end_listed(call, complete=True)
            self._read(self, rest)
        elif call.is_open:
            call.junk(rest)
            call.report(self._stream)
        else:
            self._listed = None
            self._raw = call.opening + call.raw()
            self._give_up(rest)

    def _end_listed(self, call: PendingCall, *, complete: bool) -> None:
        self._stream.close(complete=call.finish(self._stream, ended=complete))
        self._listed = None
        self._read = MistralParser._read_list
        if call.leftover.strip():
            self._give_up(call.leftover)

    # --- ends ---

    def _end_character(self) -> None:
        text = self._decoder.flush()
        if text:
            self._read(self, text)

    def _end_call(self, *, complete: bool) -> None:
        """The call being read is over, or the output in the middle of it (`complete` False)."""
        if self._listed is not None:
            if self._listed.is_open:
                self._end_listed(self._listed, complete=complete)
            else:
                self._raw = self._listed.opening + self._listed.raw()
                self._listed = None
                self._give_up("")
        elif self._read is MistralParser._read_arguments:
            self._end_arguments(complete=complete)
        elif self._read in (MistralParser._read_name, MistralParser._read_id) and self._name.strip():
            self._begin_arguments("")
            self._end_arguments(complete=complete)
        elif self._raw:
            self._give_up("")
        self._read = MistralParser._read_text

    def _end_arguments(self, *, complete: bool) -> None:
        self._stream.end_arguments(complete=complete)
        self._stream.close(complete=complete)


_Mode = Callable[[MistralParser, str], None]
