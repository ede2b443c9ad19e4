"""Judging text as it comes: input beside prefill, output in the stream's path."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

Direction = Literal["input", "output"]


class Decision(Enum):
    """What a policy does about a finding."""

    FLAG = "flag"  # written down, nothing is held
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding. `label` names the policy's rule, never the text."""

    label: str
    decision: Decision


class ClassifierStream(Protocol):
    """The classifier's view of one stream of text."""

    def feed(self, delta: str) -> Sequence[Verdict]:
        """What `delta` adds; a match may span deltas. Any split of a text gives the same verdicts over the whole text."""
        ...


class Classifier(Protocol):
    """A safety policy."""

    @property
    def is_blocking(self) -> bool:
        """Some rule of the policy blocks."""
        ...

    @property
    def is_idle(self) -> bool:
        """It has no rule at all: nothing would ever be found, so nobody needs to ask."""
        ...

    def stream(self, direction: Direction) -> ClassifierStream:
        """Begin a text. Streams are independent."""
        ...
