"""When a connection counts as one whose peer sends no more."""

import asyncio
from collections.abc import Callable

import pytest
from tests.support.virtual_time import run_virtual

from hotloop.server.slow_sender import PROGRESS_BYTES, SlowSender

S = 60.0


def given_up_at(play: Callable[[SlowSender, float], None], until: float = 20 * S) -> float | None:
    """When it is given up if `play` is called once a second."""

    async def main() -> float | None:
        loop = asyncio.get_running_loop()
        found: list[float] = []
        watch = SlowSender(S, lambda: found.append(loop.time()))
        for second in range(int(until)):
            if not found:
                play(watch, second)
            await asyncio.sleep(1)
        watch.stop()
        return found[0] if found else None

    return run_virtual(main())


def request(watch: SlowSender, size: int = 100) -> None:
    watch.is_owed = True
    watch.taken_bytes += size
    watch.arrived()


def test_a_connection_that_sends_nothing_is_given_up() -> None:
    assert given_up_at(lambda watch, second: None) == 2 * S


@pytest.mark.parametrize("begins", [0, 30, 59, 60, 61, 119, 170])
def test_who_stops_in_the_middle_is_given_up_after_the_deadline_and_before_twice_that(begins: float) -> None:
    def play(watch: SlowSender, second: float) -> None:
        if second == 0:
            request(watch)
        if second == begins:
            watch.is_owed = True
            watch.taken_bytes += 10

    at = given_up_at(play)
    assert at is not None and begins + S <= at <= begins + 2 * S + 1


def test_who_trickles_is_given_up_and_who_sends_on_is_not() -> None:
    def trickling(watch: SlowSender, second: float) -> None:
        watch.taken_bytes += 10

    def sending(watch: SlowSender, second: float) -> None:
        watch.taken_bytes += PROGRESS_BYTES // 30

    assert given_up_at(trickling) == 2 * S
    assert given_up_at(sending) is None


def test_between_requests_it_is_at_rest() -> None:
    assert given_up_at(lambda watch, second: request(watch) if second == 5 else None) is None


def test_small_requests_one_after_the_other_are_no_trickle() -> None:
    def play(watch: SlowSender, second: float) -> None:
        watch.arrived()  # at every look another one is under way
        watch.is_owed = True

    assert given_up_at(play) is None
