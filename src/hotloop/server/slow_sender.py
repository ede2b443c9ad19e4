"""A peer that does not finish what it sends: nothing after its deadline.

owed ──arrived in full──▶ at rest ──next request begins──▶ owed ──no progress for `max_s`──▶ given up
"""

import asyncio
from collections.abc import Callable
from typing import Final

SLOW_SENDER_S: Final = 60.0
PROGRESS_BYTES: Final = 64 * 1024  # in that time; who sends less sends nothing


class SlowSender:
    """Watches one connection's requests: a fresh connection owes its first, and who begins one has to go on.

    A request that is there in full costs three assignments: the timer runs on by itself.

    Args:
        max_s: how long nothing worth mentioning may come; up to twice as long goes by before that is noticed.
        give_up: called when it has.
    """

    __slots__ = ("_give_up", "_max_s", "_requests", "_seen", "_timer", "is_owed", "taken_bytes")

    def __init__(self, max_s: float, give_up: Callable[[], None]) -> None:
        self._max_s = max_s
        self._give_up = give_up
        self._requests = 0  # that are there in full
        self._seen = (-1, 0)  # at the last look: of the request that was owed, and the bytes taken until then
        self.is_owed = True
        self.taken_bytes = 0
        self._timer = asyncio.get_running_loop().call_later(max_s, self._check)

    def arrived(self) -> None:
        """The request is there in full."""
        self.is_owed = False
        self._requests += 1

    def stop(self) -> None:
        """Watch no more. Idempotent."""
        self._timer.cancel()

    def _check(self) -> None:
        request, taken = self._seen
        if self.is_owed and request == self._requests and self.taken_bytes - taken < PROGRESS_BYTES:
            self._give_up()
            return
        self._seen = (self._requests if self.is_owed else -1, self.taken_bytes)
        self._timer = asyncio.get_running_loop().call_later(self._max_s, self._check)
