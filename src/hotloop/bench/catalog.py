"""The benches there are, for the command line."""

from collections.abc import Callable
from dataclasses import dataclass

from hotloop.bench import floor, turn
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings


@dataclass(frozen=True, slots=True)
class Bench:
    """One bench: `full` and `quick` measure, `goals` are what it declares."""

    name: str
    title: str
    goals: tuple[Goal, ...]
    full: Callable[[], Findings]
    quick: Callable[[], Findings]


BENCHES = (
    Bench("turn", turn.TITLE, turn.GOALS, lambda: turn.measure(turn.FULL), lambda: turn.measure(turn.QUICK)),
    Bench("floor", floor.TITLE, floor.GOALS, lambda: floor.measure(floor.FULL), lambda: floor.measure(floor.QUICK)),
)
