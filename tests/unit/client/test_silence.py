"""One timer for many messages: it gives up after one long wait, and never because of many short ones."""

import asyncio
import heapq
from collections.abc import Callable
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from hotloop.client.silence import SilenceWatch

LIMIT_S = 10.0


class Clock:
    """The timers of an event loop, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.armed = 0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.armed += 1
        heapq.heappush(self._timers, (self.now + delay_s, self.armed, callback))

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._timers)
            callback()
        self.now = end


def watched() -> tuple[Clock, SilenceWatch, list[float]]:
    clock, given_up = Clock(), list[float]()
    with patch.object(asyncio, "get_running_loop", return_value=clock):
        return clock, SilenceWatch(LIMIT_S, lambda: given_up.append(clock.now)), given_up


seconds = st.floats(0, 2 * LIMIT_S, allow_nan=False)


@given(st.lists(st.tuples(seconds, seconds), max_size=20))
def test_it_gives_up_once_and_only_when_one_wait_has_lasted_too_long(turns: list[tuple[float, float]]) -> None:
    clock, watch, given_up = watched()
    for waiting_s, working_s in turns:
        watch.waits()
        clock.sleep(waiting_s)
        if watch.is_broken:
            break
        assert waiting_s <= LIMIT_S + 1e-6
        watch.heard()
        clock.sleep(working_s)
    too_long = [waiting_s for waiting_s, _ in turns if waiting_s > LIMIT_S + 1e-6]
    assert watch.is_broken or not too_long
    assert len(given_up) == watch.is_broken


def test_a_thousand_messages_arm_one_timer() -> None:
    clock, watch, _ = watched()
    for _ in range(1_000):
        watch.waits()
        clock.sleep(LIMIT_S / 2_000)
        watch.heard()
    assert clock.armed == 1
