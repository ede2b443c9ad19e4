import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.bench.proxy import Link


def test_bytes_arrive_a_delay_after_the_last_of_them_has_left() -> None:
    link = Link(0.02, 1_000)
    assert link.arrival(5.0, 100) == pytest.approx(5.0 + 0.1 + 0.02)


def test_what_is_sent_while_the_link_is_busy_waits_for_it() -> None:
    link = Link(0.02, 1_000)
    link.arrival(0.0, 100)
    assert link.arrival(0.05, 100) == pytest.approx(0.2 + 0.02)
    assert link.arrival(1.0, 100) == pytest.approx(1.1 + 0.02), "an idle link saves nothing up"


def test_a_link_without_a_rate_only_delays() -> None:
    link = Link(0.02)
    assert [link.arrival(0.0, 10**9), link.arrival(0.0, 1)] == [0.02, 0.02]


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 100_000)), min_size=1))
def test_order_is_kept_and_the_rate_is_never_exceeded(sent: list[tuple[float, int]]) -> None:
    link = Link(0.01, 50_000)
    sent.sort()
    arrivals = [link.arrival(now, size) for now, size in sent]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] - sent[0][0] >= sum(size for _, size in sent) / 50_000 + 0.01 - 1e-6
