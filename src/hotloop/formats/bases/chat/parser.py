"""Reads output with `<think>` and `<tool_call>` markers as items, token by token: ChatML, Qwen's XML calls, GLM.

    START ──<think>──▶ THINK ──</think>──▶ TEXT ──<tool_call>──▶ CALL ──</tool_call>──▶ TEXT …

A marker counts as a control token and, where it may stand, also spelled in plain text over any number of tokens: models
sample both. Inside a JSON string, or a value in tags, a spelled marker is text. What may still become a marker, or white
space that the template puts there itself, is held back. A call that cannot be one comes out as message text, marker
included: nothing is lost.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec

from hotloop.formats.bases.answer import THINK, THINK_END
from hotloop.formats.parsing.argument_types import ArgumentTypes
from hotloop.formats.parsing.call_syntax import CALL, CALL_END, CallSyntax
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.mark_scanner import partial_end
from hotloop.formats.parsing.pending_call import PendingCall
from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder
from hotloop.protocol.tools import Tool
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemKind, ItemOpened, ParsedEvent

Begin = Literal["block", "thought", "text"]


class PlainTexts(dict[int, str]):
    """Text of the tokens that are nothing but text wherever they stand in a message; empty for all others.

    A marker may begin at any `<`; a line end, or any white space where that is stripped, may belong to the template.
    """

    def __init__(self, table: PieceTable, others: frozenset[int], *, strips: bool) -> None:
        super().__init__()
        self._table = table
        self._others = others
        self._blank = None if strips else "\n"

    def __missing__(self, token: int) -> str:
        text = "" if token in self._others else self._table.text(token) or ""
        if "<" in text or text != text.rstrip(self._blank):
            text = ""
        self[token] = text
        return text


class Reading:
    """What a family's output is read by.

    Args:
        table: texts of tokens, shared.
        marks: ids of the markers that the vocabulary has as control tokens, by spelling.
        stops: ids that end the output.
        thinks: think blocks are reasoning; otherwise they are text.
        strips: white space around texts and reasoning says nothing.
        calls: how calls are spelled.
    """

    def __init__(
        self,
        table: PieceTable,
        marks: Mapping[str, int],
        stops: frozenset[int],
        *,
        thinks: bool,
        strips: bool,
        calls: CallSyntax,
    ) -> None:
        self.table = table
        self.stops = stops
        self.strips = strips
        self.blank = None if strips else "\n"  # what is stripped around reasoning
        self.calls = calls
        self.call_marks = frozenset(marks)
        # A spelled marker begins no call where almost any text behind it would make one.
        self.opening = "" if calls.is_loose and CALL in marks else CALL
        self.plain = PlainTexts(table, stops | frozenset(marks.values()), strips=strips)
        self.on_mark = _mark_actions(marks, calls, thinks=thinks)  # what each marker's id does


class ChatMLParser(msgspec.Struct, eq=False):
    """Implements `seams.format.Parser` for one response.

    `read` is where the generation prompt has left off: one of `FIRST_MODES`.
    """

    reading: Reading
    tools: Sequence[Tool]  # that were offered
    read: "_Mode"
    decoder: TextDecoder
    stream: ItemStream
    may_think: bool = True  # a think block may still begin
    held: str = ""  # read, but perhaps part of a marker or of the white space around one
    tail: str = ""  # white space behind the last visible character, where it is stripped
    call: PendingCall | None = None
    reasoning_tokens: int = 0  # ids from `<think>`, if the model writes it, to `</think>`, both included
    passing: ItemKind | None = None  # of the open item, where plain tokens are its text and nothing is held

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        """See `Parser.feed`."""
        if logprobs is None:
            passing = self.passing
            if len(ids) == 1:
                token = ids[0]
                text = self.reading.plain[token]
                if not text and token in self.reading.stops:
                    return []
            else:
                texts = [*map(self.reading.plain.__getitem__, ids)]
                text = "".join(texts) if all(texts) else ""
            if text:
                if passing == "message":
                    return [ItemDelta(text)]
                if passing is not None:
                    self.reasoning_tokens += len(ids)
                    return [ItemDelta(text)]
                if not (self.held or self.tail or self.decoder.is_split):
                    events = self._pass_on(text, len(ids))
                    if events is not None:
                        return events
        self.passing = None
        return self._feed_each(ids, logprobs)

    def _pass_on(self, text: str, count: int) -> list[ParsedEvent] | None:
        """The events of `count` plain tokens, where an item is being written or a message begins and nothing is held."""
        stream = self.stream
        kind = stream.kind
        if self.read is _READ_TEXT:
            if kind == "message":
                self.passing = kind
                return [ItemDelta(text)]
            if kind is None and not stream.lead and not self.reading.strips and text.strip():
                stream.kind = self.passing = "message"
                return [_MESSAGE, ItemDelta(text)]
        elif self.read is _READ_THINK and kind == "reasoning":
            self.passing = kind
            self.reasoning_tokens += count
            return [ItemDelta(text)]
        return None

    def _feed_each(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        for index, token in enumerate(ids):
            if token in self.reading.stops:
                continue
            was_thinking = self.read is _READ_THINK
            if logprobs is not None:
                self.stream.logprobs.append(logprobs[index])
            mark = self.reading.on_mark.get(token)
            if mark is None:
                text = self.decoder.feed(token)
                if text:
                    self.read(self, text)
            else:
                self._end_character()
                mark(self)
            is_thinking = self.read is _READ_THINK
            if was_thinking or is_thinking:
                self.reasoning_tokens += 1
            if is_thinking or self.call is not None:
                self.stream.logprobs.clear()
        return self.stream.take()

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        """See `Parser.finish`."""
        stream = self.stream
        if self.read is _READ_TEXT and not self.held and not self.decoder.is_split:
            is_open = stream.kind is not None
            stream.kind = None
            return [ItemClosed(complete)] if is_open else []
        return self._finish_held(complete=complete)

    def _finish_held(self, *, complete: bool) -> list[ParsedEvent]:
        self._end_character()
        if self.call is not None:
            self._end_call(self._take_held(), ended=complete)
        elif self.read is _READ_THINK:
            self._say_thought(self._take_held().rstrip(self.reading.blank))
        self._say(self._take_held())
        self.stream.close(complete=complete)
        return self.stream.take()

    # --- marks that are control tokens ---

    def _mark_think(self) -> None:
        if (
            self.may_think
            and self.stream.kind is None
            and self.call is None
            and not (self.stream.lead + self.held).strip()
        ):
            self.held = self.stream.lead = ""
            self.may_think = False
            self.read = _READ_THINK
        else:
            self.read(self, THINK)

    def _mark_think_end(self) -> None:
        if self.read is _READ_THINK:
            self._end_thought(self._take_held())
        else:
            self.read(self, THINK_END)

    def _mark_call(self) -> None:
        if self.call is not None:
            self._end_call(self._take_held(), ended=True)
        elif self.read is _READ_THINK:
            self._end_thought(self._take_held())  # some models forget to end the block
        self._begin_call(self._take_held())

    def _mark_call_end(self) -> None:
        if self.call is None:
            self.read(self, CALL_END)
        else:
            held = self._take_held()
            self._end_call(held, ended=True, mark=CALL_END)

    def _mark_in_call(self, mark: str) -> None:
        call = self.call
        if call is None:
            self.read(self, mark)
            return
        rest = call.read_mark(self._take_held(), mark)
        self._report(call)
        self._take_rest(call, rest)

    # --- plain text, by mode ---

    def _read_start(self, text: str) -> None:
        text = self._take_held() + text
        visible = text.lstrip()
        if visible.startswith(THINK):
            self.read = _READ_THINK
            self._read_on(visible[len(THINK) :])
        elif THINK.startswith(visible):
            self.held = text
        else:
            self.read = _READ_TEXT
            self._read_text(text)

    def _read_think(self, text: str) -> None:
        text = self._take_held() + text
        end = text.find(THINK_END)
        if end >= 0:
            self._end_thought(text[:end])
            self._read_on(text[end + len(THINK_END) :])
            return
        sure = len(text) - partial_end(text, THINK_END)
        sure = len(text[:sure].rstrip(self.reading.blank))
        self.held = text[sure:]
        self._say_thought(text[:sure])

    def _read_after_think(self, text: str) -> None:
        text = text.lstrip(self.reading.blank)
        if text:
            self.read = _READ_TEXT
            self._read_text(text)
        else:
            self.stream.logprobs.clear()

    def _read_after_call(self, text: str) -> None:
        text = text.lstrip()
        if text:
            self.read = _READ_TEXT
            self._read_text(text)
        else:
            self.stream.logprobs.clear()

    def _read_text(self, text: str) -> None:
        if not self.held and "<" not in text and text[-1] != "\n":
            self._say(text)
            return
        text = self._take_held() + text
        begin = text.find(self.reading.opening) if self.reading.opening else -1
        if begin >= 0:
            self._begin_call(text[:begin])
            self._read_on(text[begin + len(CALL) :])
            return
        sure = len(text) - partial_end(text, self.reading.opening)
        if text.endswith("\n", 0, sure):
            sure -= 1
        self.held = text[sure:]
        self._say(text[:sure])

    def _read_call(self, text: str) -> None:
        call = self.call
        assert call is not None
        text = self._take_held() + text
        rest = call.read(text)
        self._report(call)
        self._take_rest(call, rest)

    def _take_rest(self, call: PendingCall, rest: str) -> None:
        """What the call did not read: the end marker, the beginning of something, or what fits no call."""
        if not rest:
            return
        if call.reader.awaits(rest):
            self.held = rest
        elif rest.startswith(CALL_END):
            self._end_call("", ended=True, mark=CALL_END)
            self._read_on(rest[len(CALL_END) :])
        elif CALL_END.startswith(rest):
            self.held = rest
        elif call.is_open:
            self._report_junk(call, rest)
        else:
            self._give_up_call(call, rest)

    def _report_junk(self, call: PendingCall, rest: str) -> None:
        end = rest.find(CALL_END)
        sure = end if end >= 0 else len(rest) - partial_end(rest, CALL_END)
        call.junk(rest[:sure])
        self._report(call)
        if end >= 0:
            self._end_call("", ended=True, mark=CALL_END)
            self._read_on(rest[end + len(CALL_END) :])
        else:
            self.held = rest[sure:]

    # --- what the modes share ---

    def _read_on(self, rest: str) -> None:
        if rest:
            self.read(self, rest)

    def _take_held(self) -> str:
        held = self.held
        self.held = ""
        return held

    def _end_character(self) -> None:
        text = self.decoder.flush()
        if text:
            self.read(self, text)

    def _say(self, text: str) -> None:
        if self.reading.strips and (visible := text.rstrip()):
            behind = text[len(visible) :]
            if self.stream.kind is None:
                self.stream.lead = self.tail = ""
                visible = visible.lstrip()
            text, self.tail = self.tail + visible, behind
        elif self.reading.strips and self.stream.kind is not None:
            text, self.tail = "", self.tail + text
        self.stream.say(text)

    def _say_thought(self, text: str) -> None:
        if self.stream.kind is None:
            text = text.lstrip(self.reading.blank)
            if not text:
                return
            self.stream.open("reasoning")
        self.stream.add(text)

    def _end_thought(self, text: str) -> None:
        self.may_think = False
        self._say_thought(text.rstrip(self.reading.blank))
        self.stream.close()
        self.stream.logprobs.clear()
        self.read = ChatMLParser._read_after_think

    def _begin_call(self, before: str) -> None:
        # The template puts one line end between text and call.
        self._say(before.removesuffix("\n"))
        separator = self.stream.take_lead() + ("\n" if before.endswith("\n") else "")
        reading = self.reading
        self.call = PendingCall(separator + CALL, reading.calls.reader(ArgumentTypes(self.tools), reading.call_marks))
        self.read = ChatMLParser._read_call

    def _report(self, call: PendingCall) -> None:
        self.may_think = False
        call.report(self.stream)

    def _give_up_call(self, call: PendingCall, rest: str) -> None:
        self.call = None
        self.read = _READ_TEXT
        self._say(call.opening)
        self._read_on(call.raw() + rest)  # another call may have begun inside what looked like a string

    def _end_call(self, held: str, *, ended: bool, mark: str = "") -> None:
        """The call is over: by `mark`, by the next call, or by the end of the output (`ended` False: cut off)."""
        call = self.call
        assert call is not None
        junk = call.reader.end(held, ended=ended)
        self._report(call)
        if not call.is_open:
            self._give_up_call(call, held + mark)
            return
        self.call = None
        self.read = ChatMLParser._read_after_call
        if junk:
            call.junk(junk)
        if not call.finish(self.stream, ended=ended):
            return  # `finish` closes the item as incomplete
        self.stream.close()
        if call.leftover.strip():
            self._read_on(call.leftover)


_Mode = Callable[[ChatMLParser, str], None]
_READ_TEXT: _Mode = ChatMLParser._read_text
_READ_THINK: _Mode = ChatMLParser._read_think
FIRST_MODES: dict[Begin, _Mode] = {"block": ChatMLParser._read_start, "thought": _READ_THINK, "text": _READ_TEXT}
_MESSAGE = ItemOpened("message")


def _mark_actions(
    marks: Mapping[str, int], calls: CallSyntax, *, thinks: bool
) -> "dict[int, Callable[[ChatMLParser], None]]":
    actions: dict[str, Callable[[ChatMLParser], None]] = {
        mark: partial(ChatMLParser._mark_in_call, mark=mark) for mark in calls.marks
    }
    actions |= {CALL: ChatMLParser._mark_call, CALL_END: ChatMLParser._mark_call_end}
    if thinks:
        actions |= {THINK: ChatMLParser._mark_think, THINK_END: ChatMLParser._mark_think_end}
    return {marks[mark]: action for mark, action in actions.items() if mark in marks}
