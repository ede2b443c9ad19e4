from hotloop.client.events import InputDetails, Usage
from hotloop.client.spending import Spending, Stopwatch


class Clock:
    """Shows what it is set to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_overlapping_holders_count_once() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    with watch.running():
        clock.now = 1.0
        with watch.running():
            clock.now = 3.0
            assert watch.seconds == 3.0
        clock.now = 4.0
    clock.now = 9.0
    with watch.running():
        clock.now = 10.0
    assert watch.seconds == 5.0


def test_turns_and_tokens_add_up() -> None:
    spending = Spending(Clock())
    spending.turn_ended(Usage(100, 10, InputDetails(60)))
    spending.turn_ended(Usage(50, 5))
    spending.turn_ended(None)
    spent = spending.spent()
    assert (spent.turns, spent.input_tokens, spent.cached_tokens, spent.output_tokens) == (3, 150, 60, 15)


def test_what_is_neither_engine_nor_tools_is_other() -> None:
    clock = Clock()
    spending = Spending(clock)
    with spending.total.running():
        clock.now = 10.0
        with spending.tools.running():
            clock.now = 14.0
    assert spending.spent().other_s is None
    spending.engine_took(3.0)
    spending.engine_took(1.0)
    assert spending.spent().other_s == 6.0
