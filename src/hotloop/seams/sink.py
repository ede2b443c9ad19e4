"""Where a turn's events go. The turn pushes finished bytes; the sink owns framing, batching and back-pressure."""

from collections.abc import Iterable
from typing import Protocol


class Sink(Protocol):
    """One ordered stream of events to one client."""

    @property
    def is_closed(self) -> bool:
        """The client is gone or too slow; what is pushed goes nowhere."""
        ...

    @property
    def is_paused(self) -> bool:
        """The client does not read at present: what can wait should not be pushed. `RunningTurn.resume` ends it."""
        ...

    @property
    def bytes_out(self) -> int:
        """Payload bytes pushed so far."""
        ...

    def push(self, events: Iterable[bytes]) -> None:
        """Send each event as one message, in this order. Never blocks; everything pushed in one loop tick may leave in one
        write."""
        ...
