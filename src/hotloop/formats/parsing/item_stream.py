"""Puts pieces of text together to a parser's events."""

import msgspec

from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemKind, ItemOpened, ParsedEvent


class ItemStream(msgspec.Struct):
    """One item is open at a time. Pieces added between two `take`s become one delta."""

    kind: ItemKind | None = None  # of the open item
    logprobs: list[TokenLogprob] = []  # of tokens whose text has not been delivered yet
    _events: list[ParsedEvent] = []
    _pieces: list[str] = []
    _delta_logprobs: list[TokenLogprob] = []

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
