"""Which turns are measured: transports, ways to ask, caches, tokenizers, lengths of history, answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hotloop.bench.arms import Mode, Transport
from hotloop.bench.vocabularies import FAST, LIBRARY


class Way(NamedTuple):
    """How a client asks, and whether the server's caches are on."""

    transport: Transport | Literal["raw"]
    mode: Mode | Literal[""]
    caches: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.transport, self.mode, f"caches {self.caches}" if self.caches else "")))


HOT = Way("websocket", "previous", "on")
STATELESS = Way("http", "resend", "off")
_ALL = (
    HOT,
    Way("http", "previous", "on"),
    Way("websocket", "resend", "on"),
    Way("http", "resend", "on"),
    Way("websocket", "previous", "off"),
    Way("http", "previous", "off"),
    Way("websocket", "resend", "off"),
    STATELESS,
)


class Arm(NamedTuple):
    """One way to ask, at one length of history."""

    way: Way
    tokenizer: str
    tokens: int
    answer: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.way}, {self.tokenizer}, {self.tokens} {self.answer}"


RAW = Arm(Way("raw", "", ""), "", 0, "")  # the bare round trip


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    The two ways that are judged with every answer, all ways with the first one; these with hotloop's own encoder. With the
    tokenizers library the two, at the lengths of `resent`, where resending is judged.
    """

    histories: tuple[int, ...]
    answers: tuple[str, ...]
    rounds: int
    turns: int = 12  # measured per round and arm that does not render in full
    all_ways: bool = True
    resent: tuple[int, ...] = (1_000, 20_000)

    def arms(self) -> Iterator[Arm]:
        """Every arm but the raw one."""
        for number, answer in enumerate(self.answers):
            for tokens in self.histories:
                for way in _ALL if self.all_ways and not number else (HOT, STATELESS):
                    yield Arm(way, FAST, tokens, answer)
        for tokens in self.resent:
            for way in (HOT, STATELESS):
                yield Arm(way, LIBRARY, tokens, self.answers[0])


FULL = Plan(
    histories=(1_000, 20_000, 100_000, 200_000, 1_000_000),
    answers=("short", "long"),
    rounds=11,
    resent=(1_000, 20_000, 200_000),
)
QUICK = Plan(histories=(1_000, 20_000, 200_000), answers=("short",), rounds=15, all_ways=False)
