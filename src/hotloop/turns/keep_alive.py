"""Turns that have been silent say that they are still there (docs/protocol.md §3): proxies and clients give up on silence.
Turns that have run for too long are told so.

One timer for all running turns; it lapses when nothing runs. A turn costs it two table entries and nothing per event: at
each tick the bytes a turn has sent are compared with those at the tick before.
"""

import asyncio
from typing import Protocol

import msgspec


class Speaker(Protocol):
    """A running turn."""

    @property
    def bytes_out(self) -> int:
        """Bytes sent so far."""
        ...

    def speak(self) -> None:
        """Send something that means no more than: still at work."""
        ...

    def time_out(self) -> None:
        """Come to an end: the time is over."""
        ...


class KeepAlive:
    """Makes every turn it watches speak before `silence_s` seconds have passed without an event.

    Args:
        silence_s: longest silence.
        timeout_s: longest time of a turn.
    """

    def __init__(self, silence_s: float, timeout_s: float) -> None:
        self._tick_s = silence_s / 2  # an event just after a tick is seen at the next one and is old at the one after
        self._timeout_s = timeout_s
        self._watched: dict[Speaker, _Watched] = {}  # oldest first: the first one's time is over first
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, turn: Speaker) -> None:
        """The turn has begun."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        # whatever it says before the first tick is news then
        self._watched[turn] = _Watched(-1, loop.time() + self._timeout_s)
        if self._timer is None:
            self._timer = loop.call_later(min(self._tick_s, self._timeout_s), self._tick)

    def forget(self, turn: Speaker) -> None:
        """The turn is over. Idempotent."""
        self._watched.pop(turn, None)

    def _tick(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        for turn, watched in list(self._watched.items()):
            if watched.deadline <= now:
                del self._watched[turn]
                turn.time_out()
                continue
            if turn.bytes_out == watched.heard:
                turn.speak()
            watched.heard = turn.bytes_out
        self._timer = None
        for watched in self._watched.values():  # the oldest
            delay_s = min(self._tick_s, watched.deadline - now)
            self._timer = self._loop.call_later(delay_s, self._tick)
            break


class _Watched(msgspec.Struct):
    heard: int  # bytes sent by the last tick
    deadline: float
