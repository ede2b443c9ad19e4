import pytest

from hotloop.bench.render_arms import ratio_in_turns


class Clock:
    """CPU time that passes as the calls say."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = ""

    def call(self, name: str, cost: float, *, cold: float = 0) -> None:
        """A call; the first of all pays `cold` on top, as behind other work."""
        self.now += cost if self.calls else cost + cold
        self.calls += name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("hotloop.bench.render_arms.time.process_time", lambda: clock.now)
    return clock


def test_a_ratio_is_that_of_the_costs_whoever_comes_behind_other_work(clock: Clock) -> None:
    found = ratio_in_turns(lambda: clock.call("a", 3, cold=100), lambda: clock.call("b", 2, cold=100), 10)
    assert found == pytest.approx(1.5)


def test_each_goes_first_in_every_other_pair(clock: Clock) -> None:
    ratio_in_turns(lambda: clock.call("a", 1), lambda: clock.call("b", 1), 4)
    assert clock.calls == "ab" + "ba" + "ab" + "ba" + "ab"


def test_a_turn_of_the_shorter_one_may_be_several_calls_and_counts_as_one(clock: Clock) -> None:
    found = ratio_in_turns(lambda: clock.call("a", 30), lambda: clock.call("b", 2), 2, below_times=3)
    assert found == pytest.approx(15)
    assert clock.calls == "abbb" + "bbba" + "abbb"
