"""The one record of a turn: its stamps, counts and detours. Logs, benches, metrics and the timing event all read it.

Stamps are seconds of the process's monotonic clock. Engine times are the engine's own (`Usage`).
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hotloop.seams.engine import Usage
from hotloop.turns.counters import TurnCounters, count_in

logger = logging.getLogger("hotloop.turn")

_COUNTED_AT_ONCE = 64

monotonic = time.perf_counter


wall_clock = time.time


class TurnRecord(msgspec.Struct):
    """What happened to one turn. A stamp of 0 was never reached."""

    transport: str = ""
    lane: str | None = None
    response_id: str = ""
    model: str = ""
    outcome: str = ""  # completed, incomplete:REASON, failed:CODE, refused:CODE, cancelled
    received: float = 0.0
    admitted: float = 0.0
    rendered: float = 0.0
    submitted: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    committed: float = 0.0
    flushed: float = 0.0
    usage: Usage = Usage()
    new_items: int = 0
    recognised_items: int = 0  # of the request's input: their tokens were found in the prefix index
    recognised_tokens: int = 0
    fallbacks: Sequence[str] = ()
    findings: Sequence[str] = ()  # labels of the safety policy's findings
    rounds: int = 1  # of the model: one more after every output whose calls were run here
    hosted_s: float = 0.0  # seconds in which tool servers were asked and the model was not
    hosted_before_s: float = 0.0  # of these, before the model was asked first
    # Label, action, outcome of what was asked of tool servers; no label where a request named the server by its URL
    hosted: Sequence[tuple[str, str, str]] = ()
    bytes_in: int = 0
    bytes_out: int = 0

    @property
    def engine_s(self) -> float:
        """Seconds the engine worked on the turn or held it in its queue."""
        return self.usage.queue_s + self.usage.prefill_s + self.usage.decode_s

    def timing(self) -> dict[str, Any]:
        """Fields of the opt-in `hotloop:timing` event; stamps in seconds since the turn was received."""
        stamps = ("admitted", "rendered", "submitted", "first_token", "last_token", "committed")
        return {
            "stamps": {name: round(getattr(self, name) - self.received, 6) for name in stamps if getattr(self, name)},
            "engine_s": round(self.engine_s, 6),
            "prompt_tokens": self.usage.prompt_tokens,
            "cached_tokens": self.usage.cached_tokens,
            "restored_tokens": self.usage.restored_tokens,
            "output_tokens": self.usage.output_tokens,
            "recognised_items": self.recognised_items,
            "recognised_tokens": self.recognised_tokens,
            "fallbacks": list(self.fallbacks),
            **({"rounds": self.rounds, "hosted_s": round(self.hosted_s, 6)} if self.hosted else {}),
        }


class RecordRing:
    """The last turns of the process, newest last, and the counters over all of them.

    `tell`, if set, is told of every finished turn as well.
    """

    def __init__(self, size: int = 1000, tell: Callable[[TurnRecord], None] | None = None) -> None:
        self.tell = tell
        self.running = 0  # turns that have no record here yet
        self._records: deque[TurnRecord] = deque(maxlen=size)
        self._counters = TurnCounters()
        self._uncounted: list[TurnRecord] = []

    @property
    def counters(self) -> TurnCounters:
        """The counters, every record in them."""
        for record in self._uncounted:
            _count(self._counters, record)
        self._uncounted.clear()
        self._counters.running = self.running
        return self._counters

    def add(self, record: TurnRecord) -> None:
        """Keep a finished record and write its log line. It is counted when somebody asks, or with others: that is cheaper."""
        self._records.append(record)
        self._uncounted.append(record)
        if len(self._uncounted) >= _COUNTED_AT_ONCE:
            _ = self.counters
        if logger.isEnabledFor(logging.INFO):
            _log(record)
        if self.tell is not None:
            try:
                self.tell(record)
            except Exception:
                logger.exception("a finished turn could not be told")

    def note(self, fallback: str) -> None:
        """Count a slower path that was taken for what is no turn: it has no record to say so."""
        count_in(self._counters.fallbacks, (fallback,))

    def latest(self) -> list[TurnRecord]:
        """The records kept, oldest first."""
        return list(self._records)


def _count(counters: TurnCounters, record: TurnRecord) -> None:
    usage = record.usage
    ended = (record.transport, record.outcome)
    counters.outcomes[ended] = counters.outcomes.get(ended, 0) + 1
    count_in(counters.fallbacks, record.fallbacks)
    count_in(counters.findings, record.findings)
    for key in record.hosted:
        counters.hosted[key] = counters.hosted.get(key, 0) + 1
    counters.hosted_s += record.hosted_s
    counters.prompt_tokens += usage.prompt_tokens
    counters.cached_tokens += usage.cached_tokens
    counters.restored_tokens += usage.restored_tokens
    counters.output_tokens += usage.output_tokens
    counters.recognitions += bool(record.recognised_items)
    counters.recognised_tokens += record.recognised_tokens
    counters.bytes_in += record.bytes_in
    counters.bytes_out += record.bytes_out
    if record.submitted:
        counters.before_engine.observe(record.submitted - record.received - record.hosted_before_s)
    if record.first_token:
        counters.first_token.observe(record.first_token - record.received)
        if usage.output_tokens > 1:
            between_s = record.hosted_s - record.hosted_before_s
            writing_s = record.last_token - record.first_token - between_s
            gaps = usage.output_tokens - 1
            counters.token_gap.observe(writing_s / gaps, gaps)
            counters.per_token.observe(writing_s / gaps)
    counters.duration.observe((record.flushed or monotonic()) - record.received)


def _log(record: TurnRecord) -> None:
    first = record.first_token - record.received if record.first_token else 0.0
    total = (record.flushed or monotonic()) - record.received
    logger.info(
        "%s %s model=%s prompt=%d cached=%d output=%d ttft_ms=%.1f total_ms=%.1f engine_ms=%.1f%s%s%s",
        record.response_id or "-",
        record.outcome,
        record.model,
        record.usage.prompt_tokens,
        record.usage.cached_tokens,
        record.usage.output_tokens,
        first * 1e3,
        total * 1e3,
        record.engine_s * 1e3,
        f" rounds={record.rounds} hosted_ms={record.hosted_s * 1e3:.1f}" if record.hosted else "",
        f" recognised_tokens={record.recognised_tokens}" if record.recognised_items else "",
        f" fallbacks={','.join(record.fallbacks)}" if record.fallbacks else "",
    )
