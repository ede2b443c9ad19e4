"""Notices that a server has gone silent, with one timer for as long as a response takes.

A timeout around every message would arm and drop a timer for each: half of what a delta costs its reader.
"""

import asyncio
from collections.abc import Callable


class SilenceWatch:
    """Calls `give_up` once a wait has lasted `limit_s`; what happens between two waits is not silence.

    Must be stopped. `is_broken` says afterwards that it gave up.
    """

    def __init__(self, limit_s: float, give_up: Callable[[], None]) -> None:
        self.is_broken = False
        self._limit_s = limit_s
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._waits_since: float | None = None
        self._timer = self._loop.call_later(limit_s, self._look)

    def waits(self) -> None:
        """A wait begins."""
        self._waits_since = self._loop.time()

    def heard(self) -> None:
        """It is over."""
        self._waits_since = None

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        since = self._waits_since
        left_s = self._limit_s if since is None else since + self._limit_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
            return
        self.is_broken = True
        self._give_up()
