import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.turns.counters import Histogram

BOUNDS = (0.1, 1.0, 10.0)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), max_size=20))
def test_a_value_may_count_for_several(values: list[tuple[float, int]]) -> None:
    at_once, one_by_one = Histogram(BOUNDS), Histogram(BOUNDS)
    for value, times in values:
        at_once.observe(value, times)
        for _ in range(times):
            one_by_one.observe(value)
    assert at_once.cumulative() == one_by_one.cumulative()
    assert at_once.total == pytest.approx(one_by_one.total)


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_every_value_at_the_first_bound_that_holds_it(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    assert histogram.cumulative() == [
        *((repr(bound), sum(value <= bound for value in values)) for bound in BOUNDS),
        ("+Inf", len(values)),
    ]
    assert histogram.total == sum(values)
