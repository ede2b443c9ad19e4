"""What a run tells about itself while it goes: for a terminal, a log or a program. It runs the same unheard."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of what the model says."""

    delta: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message is whole; the deltas since the last one add up to it."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call is running. `summary` is one line for people; the arguments are as the model wrote them."""

    call_id: str
    name: str
    arguments: str
    summary: str


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A call came to an end. `state` is a word or two (`ok`, `exit 1`, `declined`), `output` what the model reads."""

    call_id: str
    name: str
    arguments: str
    summary: str
    state: str
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Resent:
    """There was trouble on the wire and the run goes on. `void`: the turn's text so far is taken back."""

    reason: str
    void: bool


Progress = Text | Message | CallStarted | CallFinished | Resent
OnProgress = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """For runs that nobody watches."""
