"""What a run took: turns, tokens, seconds; added up while it goes, so that a failed run is accounted for as well."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from hotloop.client.events import Usage

Clock = Callable[[], float]
Status = Literal["finished", "max_turns", "repeated_call"]


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums over all turns.

    Attributes:
        input_tokens: of all requests together, history included; `cached_tokens` of them cost the server nothing new.
        total_s: wall time of the runs.
        server_s: of it, from sending a turn to its last event.
        tools_s: of it, with at least one tool running. Tools may run while the server still streams.
        engine_s: what the server says its engine took, warm-up included; None if it does not say.
    """

    turns: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    total_s: float
    server_s: float
    tools_s: float
    engine_s: float | None

    @property
    def other_s(self) -> float | None:
        """Total without engine and tools; None if the engine's share is unknown."""
        return None if self.engine_s is None else max(0.0, self.total_s - self.engine_s - self.tools_s)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: `text` is the model's last word, empty if it was stopped before it had one."""

    status: Status
    text: str
    spent: Spent


class Stopwatch:
    """Wall time with at least one holder; overlapping holders count once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holders = 0
        self._since = 0.0
        self._done_s = 0.0

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        if self._holders == 0:
            self._since = self._clock()
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if self._holders == 0:
                self._done_s += self._clock() - self._since

    @property
    def seconds(self) -> float:
        return self._done_s + (self._clock() - self._since if self._holders else 0.0)


class Spending:
    """The running sums behind `Spent`."""

    def __init__(self, clock: Clock) -> None:
        self.total = Stopwatch(clock)
        self.server = Stopwatch(clock)
        self.tools = Stopwatch(clock)
        self._engine_s: float | None = None
        self._turns = 0
        self._usage = Usage()
        self._cached_tokens = 0

    def turn_ended(self, usage: Usage | None) -> None:
        """Count a turn; one that was cut has no usage."""
        self._turns += 1
        if usage is None:
            return
        self._usage = Usage(
            self._usage.input_tokens + usage.input_tokens, self._usage.output_tokens + usage.output_tokens
        )
        if usage.input_tokens_details is not None:
            self._cached_tokens += usage.input_tokens_details.cached_tokens

    def engine_took(self, seconds: float) -> None:
        """Add a turn's engine time."""
        self._engine_s = (self._engine_s or 0.0) + seconds

    def spent(self) -> Spent:
        return Spent(
            turns=self._turns,
            input_tokens=self._usage.input_tokens,
            cached_tokens=self._cached_tokens,
            output_tokens=self._usage.output_tokens,
            total_s=self.total.seconds,
            server_s=self.server.seconds,
            tools_s=self.tools.seconds,
            engine_s=self._engine_s,
        )
