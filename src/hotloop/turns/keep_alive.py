"""Turns that have been silent say that they are still there (docs/protocol.md §3): proxies and clients give up on silence.

One timer for all running turns, and none while nothing runs. A turn costs it nothing per event: at each tick the bytes a
turn has sent are compared with those at the tick before.
"""

import asyncio
from typing import Protocol


class Speaker(Protocol):
    """A running turn."""

    @property
    def bytes_out(self) -> int:
        """Bytes sent so far."""
        ...

    def speak(self) -> None:
        """Send something that means no more than: still at work."""
        ...


class KeepAlive:
    """Makes every turn it watches speak before `silence_s` seconds have passed without an event.

    Args:
        silence_s: longest silence.
    """

    def __init__(self, silence_s: float) -> None:
        self._tick_s = silence_s / 2  # an event just after a tick is seen at the next one and is old at the one after
        self._heard: dict[Speaker, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, turn: Speaker) -> None:
        """The turn has begun."""
        self._heard[turn] = -1  # whatever it says before the first tick is news then
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def forget(self, turn: Speaker) -> None:
        """The turn is over. Idempotent."""
        self._heard.pop(turn, None)
        if not self._heard and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)
        for turn, heard in list(self._heard.items()):
            if turn.bytes_out == heard:
                turn.speak()
            if turn in self._heard:
                self._heard[turn] = turn.bytes_out
