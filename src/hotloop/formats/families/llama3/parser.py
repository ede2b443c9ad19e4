"""Reads Llama 3.x output as items, token by token.

    START ──{──▶ CALL ──}──▶ BEHIND ──; {──▶ CALL …
      └──────▶ TEXT ──<|python_tag|>──▶ CALL

No control token need announce a call: an output that begins with a brace is one if it turns out to have a name and then
`parameters` (or `arguments`); until then it is held back. Anything else is text, as is everything where no tool was offered.
"""

import re
from collections.abc import Callable, Sequence

from hotloop.formats.parsing.call_reader import CallReader
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.pending_call import PendingCall
from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder
from hotloop.protocol.tools import Tool
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ParsedEvent

_KEYS = ("parameters", "arguments")
# An object whose first key is none of a call's is an answer in JSON, and need not be held back.
_NO_CALL = re.compile(r'\{\s*"(?!(?:name|parameters|arguments|type|function|id)")[^"]*"')
_MOST_CHECKED_CHARS = 64


class Llama3Parser:
    """Implements `seams.format.Parser` for one response.

    Args:
        table: texts of tokens, shared.
        stops: ids that end the output.
        python: id of `<|python_tag|>`, if it begins calls here.
        has_tools: there is something to call.
        tools: the tools offered.
    """

    def __init__(
        self, table: PieceTable, stops: frozenset[int], *, python: int | None, has_tools: bool, tools: Sequence[Tool]
    ) -> None:
        self._decoder = TextDecoder(table)
        self._stops = stops
        self._python = python
        self._stream = ItemStream(tools)
        self._read: _Mode = Llama3Parser._read_start if has_tools else Llama3Parser._read_text
        self._blank = ""  # white space that may be around a text, and then says nothing
        self._call: PendingCall | None = None

    @property
    def reasoning_tokens(self) -> int:
        """The family does not reason."""
        return 0

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        """See `Parser.feed`."""
        for index, token in enumerate(ids):
            if token in self._stops:
                continue
            if logprobs is not None:
                self._stream.logprobs.append(logprobs[index])
            if token == self._python:
                self._end_character()
                self._mark_python()
            else:
                self._read_on(self._decoder.feed(token))
            if self._call is not None:
                self._stream.logprobs.clear()
        return self._stream.take()

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        """See `Parser.finish`."""
        self._end_character()
        if self._call is not None:
            self._end_call(ended=complete)
        self._stream.close(complete=complete)
        return self._stream.take()

    def _mark_python(self) -> None:
        if self._call is not None:
            self._end_call(ended=True)
        self._begin_call("<|python_tag|>")

    # --- plain text, by mode ---

    def _read_start(self, text: str) -> None:
        text = text.lstrip()
        if text.startswith("{"):
            self._begin_call("")
        elif text:
            self._read = Llama3Parser._read_text
        self._read_on(text)

    def _read_text(self, text: str) -> None:
        if self._stream.kind is None:
            text = text.lstrip()
            if not text:
                return
            self._blank = ""
            self._stream.open("message")
        text = self._blank + text
        visible = text.rstrip()
        self._blank = text[len(visible) :]
        self._stream.add(visible)

    def _read_behind(self, text: str) -> None:
        text = text.lstrip(" \t\r\n;")
        if text.startswith("{"):
            self._begin_call("")
        elif text:
            self._read = Llama3Parser._read_text
        self._read_on(text)

    def _read_call(self, text: str) -> None:
        call = self._call
        assert call is not None
        rest = call.read(text)
        self._report(call)
        if call.is_open and call.reader.is_over and rest:
            self._end_call(ended=True)
            self._read_on(rest)
        elif call.is_open:
            if rest:
                call.junk(rest)
                self._report(call)
        elif rest or call.reader.is_over or self._is_no_call(call):
            self._give_up(call, rest)

    # --- what the modes share ---

    def _read_on(self, text: str) -> None:
        if text:
            self._read(self, text)

    def _end_character(self) -> None:
        self._read_on(self._decoder.flush())

    def _begin_call(self, opening: str) -> None:
        self._call = PendingCall(opening, CallReader(_KEYS))
        self._read = Llama3Parser._read_call

    def _is_no_call(self, call: PendingCall) -> bool:
        raw = call.raw()
        return not call.opening and len(raw) <= _MOST_CHECKED_CHARS and _NO_CALL.match(raw) is not None

    def _report(self, call: PendingCall) -> None:
        if call.reader.has_arguments:
            call.report(self._stream)
            if call.is_open:
                self._blank = ""

    def _give_up(self, call: PendingCall, rest: str) -> None:
        self._call = None
        self._read = Llama3Parser._read_text
        self._read_on(call.opening + call.raw() + rest)

    def _end_call(self, *, ended: bool) -> None:
        call = self._call
        assert call is not None
        if not call.is_open:
            self._give_up(call, "")
            return
        self._call = None
        self._read = Llama3Parser._read_behind
        if call.finish(self._stream, ended=ended):
            self._stream.close()


_Mode = Callable[[Llama3Parser, str], None]
