from hypothesis import given
from hypothesis import strategies as st

from hotloop.turns.counters import Histogram

BOUNDS = (0.1, 1.0, 10.0)


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
