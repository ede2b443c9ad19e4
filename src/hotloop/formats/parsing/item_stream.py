"""Puts pieces of text together to a parser's events."""

from collections.abc import Sequence

import msgspec

from hotloop.formats.parsing.input_reader import InputReader
from hotloop.formats.writing.tool_text import custom_names
from hotloop.protocol.tools import Tool
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemKind, ItemOpened, ParsedEvent


class ItemStream(msgspec.Struct):
    """One item is open at a time. Pieces added between two `take`s become one delta.

    A call of a tool in `tools` that takes free text says the text that its arguments hold.
    """

    tools: Sequence[Tool] = ()  # those offered
    kind: ItemKind | None = None  # of the open item
    lead: str = ""  # white space in front of a message's first visible character
    logprobs: list[TokenLogprob] = []  # of tokens whose text has not been delivered yet
    _events: list[ParsedEvent] = []
    _pieces: list[str] = []
    _delta_logprobs: list[TokenLogprob] = []
    _input: InputReader | None = None  # of the open call, if its tool takes free text
    _has_arguments: bool = False  # something was said of the open call's

    def open(self, kind: ItemKind, name: str = "", phase: str | None = None) -> None:
        """Begin an item; the one before it is complete."""
        self.close()
        self.kind = kind
        self._events.append(ItemOpened(kind, name, phase))

    def add(self, text: str) -> None:
        """More text of the open item. Log-probabilities travel with message text only."""
        if not text:
            return
        self._pieces.append(text)
        if self.logprobs:
            if self.kind == "message":
                self._delta_logprobs += self.logprobs
            self.logprobs.clear()

    def say(self, text: str) -> None:
        """More of a message, which its first visible character opens: white space alone is none."""
        if self.kind is None:
            text = self.lead + text
            if not text.strip():
                self.lead = text
                return
            self.lead = ""
            self.open("message")
        self.add(text)

    def take_lead(self) -> str:
        """The white space that has opened no message, in case it belongs to what follows."""
        lead, self.lead = self.lead, ""
        return lead

    def open_call(self, name: str) -> None:
        """Begin a call of the tool `name`."""
        is_custom = name in custom_names(self.tools)
        self.open("custom_tool_call" if is_custom else "function_call", name)
        self._input = InputReader() if is_custom else None
        self._has_arguments = False

    def add_arguments(self, text: str) -> None:
        """More of the open call's arguments."""
        if text:
            self._has_arguments = self._has_arguments or not text.isspace()
            self.add(text if self._input is None else self._input.feed(text))

    def end_arguments(self, *, complete: bool) -> None:
        """No more of them comes, because the call is `complete` or cut off. A whole one without arguments has `{}`."""
        if self._input is not None:
            self.add(self._input.finish())
        elif complete and not self._has_arguments:
            self.add("{}")

    def close(self, *, complete: bool = True) -> None:
        """End the open item, if there is one."""
        if self.kind is not None:
            self._end_delta()
            self._events.append(ItemClosed(complete))
            self.kind = None

    def take(self) -> list[ParsedEvent]:
        """The events since the last call of this."""
        self._end_delta()
        events = self._events
        self._events = []
        return events

    def _end_delta(self) -> None:
        if self._pieces:
            self._events.append(ItemDelta("".join(self._pieces), tuple(self._delta_logprobs)))
            self._pieces.clear()
            self._delta_logprobs.clear()
