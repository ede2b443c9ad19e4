"""Which rollouts are played: engine speeds, tokenizers, networks, mixes, lengths, arms."""

from dataclasses import dataclass
from typing import NamedTuple

from hotloop.bench.vocabularies import FAST, LIBRARY

# Uncached tokens a second for each decode speed: assumptions, named in the notes.
PREFILL = {65: 10_000, 1_000: 50_000, 4_000: 200_000}
REAL_TURNS, REAL_FIRST, REAL_INPUT, REAL_OUTPUT = 12, 800, 60, 24  # what a context of 4,096 tokens has room for

HOT, COLD, HOT_HTTP = "websocket", "http, caches off", "http, caches on"


class Series(NamedTuple):
    """Rollouts that are compared with each other. `speed` 0: the real demonstration model."""

    speed: int
    network: str  # loopback or WAN
    mix: str
    calls: int
    rounds: int = 1
    tokenizer: str = LIBRARY
    with_hot_http: bool = False  # stateless HTTP to the server with its caches on, too

    @property
    def pace(self) -> str:
        """Of the engine."""
        return f"{self.speed:,} tokens/s" if self.speed else "real"

    @property
    def name(self) -> str:
        """Without the rounds."""
        return f"{self.pace}, {self.network}, {self.mix} {self.calls}, {self.tokenizer}"

    @property
    def is_claimed(self) -> bool:
        """The work that the goals are about."""
        return (self.mix, self.calls) == ("interactive", 50)


class Key(NamedTuple):
    """One arm of a series."""

    series: Series
    arm: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, series by series.

    Rollouts of `crowd_speed` are played up to `crowd` at once, hot and cold ones alike: they wait for tokens nearly all of
    the time, and one after the other would take half an hour.
    """

    series: tuple[Series, ...]
    crowd_speed: int = 65
    crowd: int = 6


def _lengths(speed: int, network: str, mix: str, *calls: int) -> tuple[Series, ...]:
    return tuple(Series(speed, network, mix, count) for count in calls)


FULL = Plan(
    (
        Series(1_000, "loopback", "interactive", 50, 3, with_hot_http=True),
        *_lengths(1_000, "loopback", "interactive", 20, 100),
        *_lengths(1_000, "loopback", "heavy", 20, 50, 100),
        Series(1_000, "WAN", "interactive", 50, 2),
        *_lengths(1_000, "WAN", "interactive", 20, 100),
        *_lengths(1_000, "WAN", "heavy", 50),
        Series(4_000, "loopback", "interactive", 50, 3, with_hot_http=True),
        *_lengths(4_000, "loopback", "interactive", 20, 100),
        *_lengths(4_000, "loopback", "heavy", 20, 50, 100),
        Series(4_000, "WAN", "interactive", 50, 2),
        *_lengths(4_000, "WAN", "interactive", 20, 100),
        *_lengths(4_000, "WAN", "heavy", 50),
        Series(1_000, "loopback", "interactive", 50, 3, FAST, with_hot_http=True),
        Series(4_000, "loopback", "interactive", 50, 5, FAST, with_hot_http=True),
        Series(4_000, "WAN", "interactive", 50, 2, FAST),
        *_lengths(65, "loopback", "interactive", 100, 50, 20),
        *_lengths(65, "loopback", "heavy", 50, 20),
        *_lengths(65, "WAN", "interactive", 50),
        Series(0, "loopback", "chat", REAL_TURNS, 15, FAST),  # the engine's own time varies more than what is saved
    )
)
QUICK = Plan((Series(4_000, "loopback", "interactive", 50, 3),))
