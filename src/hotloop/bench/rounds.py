"""Medians and spreads over rounds. A round measures every arm once, so what disturbs the machine disturbs them all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import quantiles
from typing import TypeVar

_K = TypeVar("_K")
_S = TypeVar("_S")


@dataclass(frozen=True, slots=True)
class Figure:
    """What the rounds say. `spread` is half the distance between the quartiles."""

    median: float
    spread: float
    rounds: int


def figure_of(values: Sequence[float]) -> Figure:
    """Median and spread of one value per round."""
    if len(values) < 2:
        return Figure(values[0], 0.0, 1)
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return Figure(middle, (upper - lower) / 2, len(values))


def ratio_of(above: Sequence[float], below: Sequence[float]) -> Figure:
    """The ratio of two arms, taken round by round."""
    return figure_of([a / b for a, b in zip(above, below, strict=True)])


def interleave(arms: Mapping[_K, Callable[[], _S]], rounds: int, seed: int = 0) -> dict[_K, list[_S]]:
    """Call every arm once a round, each round in another order; the samples by arm.

    The order is drawn (seeded): an arm must not always run behind the same neighbour, whose work fills the CPU's caches.
    """
    samples: dict[_K, list[_S]] = {name: [] for name in arms}
    random = Random(seed)
    for _ in range(rounds):
        for name in random.sample(list(arms), len(arms)):
            samples[name].append(arms[name]())
    return samples
