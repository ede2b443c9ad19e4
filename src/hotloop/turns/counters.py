"""Counts over all turns of the process, as plain numbers: what `/metrics` reads. Fed by the turn records alone."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

TTFT_BOUNDS_S: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
TOKEN_GAP_BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
TURN_BOUNDS_S: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
OVERHEAD_BOUNDS_S: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)


class Histogram:
    """How many values fell at or below each bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)  # the last counts what lies above all bounds
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, as often as it was there."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> list[tuple[str, int]]:
        """Pairs of bound, as text, and count of values up to it; `+Inf` last."""
        pairs: list[tuple[str, int]] = []
        seen = 0
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            pairs.append((bound, seen))
        return pairs


class TurnCounters:
    """Counters and histograms over the turns that ended, and how many run now."""

    def __init__(self) -> None:
        self.running = 0
        self.outcomes: dict[tuple[str, str], int] = {}  # by transport and outcome
        self.fallbacks: dict[str, int] = {}
        self.findings: dict[str, int] = {}
        self.hosted: dict[tuple[str, str, str], int] = {}  # by label, action and outcome
        self.hosted_s = 0.0
        self.prompt_tokens = 0
        self.cached_tokens = 0  # as the engine reports them
        self.restored_tokens = 0  # of these, brought back from other memory
        self.output_tokens = 0
        self.recognitions = 0  # turns whose input began with a history that was remembered
        self.recognised_tokens = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.first_token = Histogram(TTFT_BOUNDS_S)
        self.token_gap = Histogram(TOKEN_GAP_BOUNDS_S)  # every gap between output tokens, as its turn's mean
        self.per_token = Histogram(TOKEN_GAP_BOUNDS_S)  # that mean, once a turn
        self.duration = Histogram(TURN_BOUNDS_S)
        self.before_engine = Histogram(OVERHEAD_BOUNDS_S)  # received to submitted

    @property
    def turns(self) -> int:
        """Turns that ended."""
        return sum(self.outcomes.values())


def count_in(table: dict[str, int], names: Sequence[str]) -> None:
    """One more of each name."""
    for name in names:
        table[name] = table.get(name, 0) + 1
