"""One turn being played: delay, prefill, steps, end, each a plain call from the event loop."""

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotloop.engines.scripted.play import Performance
from hotloop.engines.scripted.script import Speed
from hotloop.seams.engine import EndCallback, EndReason, Sampling, StepCallback, TokenLogprob, Usage

if TYPE_CHECKING:
    from hotloop.engines.scripted.engine import ScriptedEngine, ScriptedHandle

# Tokens of a modelled speed come in steps at least this far apart: four times the resolution of uvloop's timers.
STEP_S = 0.004
_EARLY_S = 0.0005  # a timer may fire by half its resolution too early: what is due by then counts as due
_FAILURES = {"unavailable": EndReason.UNAVAILABLE, "timeout": EndReason.TIMEOUT}


@dataclass(slots=True)
class _Stamps:
    """When things happened, on the loop's clock."""

    submitted: float
    first_token: float = 0.0


class _Schedule:
    """When a modelled engine has which token, in absolute times: a busy server makes it late, never slower.

    The first token is there when the prefill ends, each further one 1/decode seconds behind the one before it.
    """

    def __init__(self, speed: Speed | None, submitted: float) -> None:
        self.speed = speed
        self.prefill_s = 0.0
        self._submitted = submitted
        self._first = submitted

    def prefill(self, new_tokens: int, delay_s: float) -> float:
        """Seconds that the prefill of so many uncached tokens takes, behind a delay."""
        if self.speed is not None:
            self.prefill_s = new_tokens / self.speed.prefill
            self._first = self._submitted + delay_s + self.prefill_s
        return self.prefill_s

    def decode_s(self, tokens: int) -> float:
        """Seconds from the first token to the last of so many."""
        assert self.speed is not None
        return max(0, tokens - 1) / self.speed.decode

    def due(self, now: float) -> int:
        """Tokens that are there now."""
        assert self.speed is not None
        return 1 + max(0, int((now + _EARLY_S - self._first) * self.speed.decode))

    def pause(self, sent: int, last: int, now: float) -> float:
        """Seconds until the next step: to the token after `sent`, or to the last that a whole step brings."""
        assert self.speed is not None
        step = max(1, int(STEP_S * self.speed.decode))
        return self._first + (min(sent + step, last) - 1) / self.speed.decode - now


class ScriptedRun:
    """Implements `seams.engine.Run`."""

    def __init__(
        self,
        engine: "ScriptedEngine",
        handle: "ScriptedHandle",
        sampling: Sampling,
        on_step: StepCallback,
        on_end: EndCallback,
    ) -> None:
        self._engine = engine
        self._handle = handle
        self._sampling = sampling
        self._on_step = on_step
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._is_over = False
        self._is_ending = False  # the end is scheduled: nothing else is
        self._stamps = _Stamps(self._loop.time())
        self._performance = Performance()
        self._new = array("I")
        self._output = array("I")
        self._last = EndReason.STOP  # how the output ends when all of it is out
        self._fail_at: int | None = None
        self._sent = 0
        self._schedule = _Schedule(self._engine.script.speed, self._engine.clock())
        self._prompt = 0
        self._cached = 0
        engine.runs.add(self)

    def start(self, keep: int, new: "array[int]", performance: Performance, output: "array[int]") -> None:
        """Rewind the handle to `keep`, then prefill `new` and play after the delay."""
        handle = self._handle
        del handle.ids[keep:]
        self._cached = handle.held = min(handle.held, keep)
        self._prompt = keep + len(new)
        if self._prompt > self._engine.context_tokens:
            self.schedule_end(EndReason.LENGTH, f"the prompt of {self._prompt} tokens does not fit the context")
            return
        self._new = new[:]
        self._performance = performance
        self._output, self._last = self._cut(output)
        if self._sampling.max_tokens and self._engine.fails_now(performance) and performance.fail is not None:
            self._fail_at = min(performance.fail.after_tokens, len(self._output))
        delay_s = performance.delay_s if self._sampling.max_tokens else 0.0
        delay_s += self._schedule.prefill(self._prompt - self._cached, delay_s)
        self._after(delay_s, self._prefill)

    def abort(self) -> None:
        """See `Run.abort`."""
        self.schedule_end(EndReason.ABORTED)

    def schedule_end(self, reason: EndReason, detail: str = "") -> None:
        """End in the next loop tick, whatever else was to come."""
        if self._is_ending or self._is_over:
            return
        self._is_ending = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_soon(self.end, reason, detail)

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End now. Only the first end counts."""
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._engine.runs.discard(self)
        self._handle.run_over()
        self._on_end(reason, self._usage(), detail)

    def _cut(self, output: "array[int]") -> "tuple[array[int], EndReason]":
        stops = self._sampling.stop_tokens
        if stops:
            end = next((index for index, token in enumerate(output) if token in stops), len(output) - 1)
            output = output[: end + 1] if end + 1 < len(output) else output
        room = max(0, min(self._sampling.max_tokens, self._engine.context_tokens - self._prompt))
        return (output[:room], EndReason.LENGTH) if len(output) > room else (output, EndReason.STOP)

    def _prefill(self) -> None:
        self._stamps.first_token = self._loop.time()
        handle = self._handle
        handle.ids.extend(self._new)
        handle.held = len(handle.ids)
        if self._performance.problem and self._sampling.max_tokens:
            self.end(EndReason.UNAVAILABLE, self._performance.problem)
        elif self._fail_at == 0:
            self._fail()
        elif not self._output:
            self.end(EndReason.LENGTH)
        else:
            self._step()

    def _step(self) -> None:
        keeps_speed = self._schedule.speed is not None
        pace = self._performance.pace
        last = len(self._output) if self._fail_at is None else self._fail_at
        stop = self._sent + (self._due_tokens() if keeps_speed else pace.tokens)
        if stop > last:
            stop = last
        ids = self._output[self._sent : stop]
        self._sent = stop
        # Like a real engine: the KV of a sampled token is computed when the next one is decoded.
        handle = self._handle
        handle.ids.extend(ids)
        handle.held = len(handle.ids) - 1
        self._on_step(ids, None if self._sampling.top_logprobs is None else self._logprobs(ids))
        if self._is_over or self._is_ending:
            return
        if stop < last:
            pause_s = self._step_pause() if keeps_speed else pace.seconds
            self._timer = (
                self._loop.call_later(pause_s, self._step) if pause_s > 0 else self._loop.call_soon(self._step)
            )
        elif stop == self._fail_at:
            self._after(0.0, self._fail)
        else:
            self.end(self._last)

    def _due_tokens(self) -> int:
        return max(1, self._schedule.due(self._engine.clock()) - self._sent)

    def _step_pause(self) -> float:
        return self._schedule.pause(self._sent, len(self._output), self._engine.clock())

    def _fail(self) -> None:
        fail = self._performance.fail
        assert fail is not None
        if fail.reason == "host_death":
            self._engine.die()
        else:
            self.end(_FAILURES[fail.reason], f"the script says so: {fail.reason}")

    def _after(self, delay_s: float, step: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(delay_s, step) if delay_s > 0 else self._loop.call_soon(step)

    def _logprobs(self, ids: "array[int]") -> "list[TokenLogprob] | None":
        count = self._sampling.top_logprobs
        return None if count is None else [_logprob(token, count, self._engine.vocabulary_size) for token in ids]

    def _usage(self) -> Usage:
        now = self._loop.time()
        first = self._stamps.first_token or now
        prefill_s, decode_s = first - self._stamps.submitted, now - first
        if self._schedule.speed is not None:  # the model's time, not what a busy loop made of it
            prefill_s, decode_s = self._schedule.prefill_s, self._schedule.decode_s(self._sent)
        return Usage(
            prompt_tokens=self._prompt,
            cached_tokens=self._cached,
            output_tokens=self._sent,
            held_tokens=self._handle.held,
            prefill_s=prefill_s,
            decode_s=decode_s,
        )


def _logprob(token: int, count: int, vocabulary_size: int) -> TokenLogprob:
    """Made up, but the same every time: the sampled token is the likeliest, its neighbours follow."""
    likely = -0.01 * (1 + token % 20)
    others = min(count, vocabulary_size)
    top = tuple(((token + rank) % vocabulary_size, likely - 2.0 * rank) for rank in range(others))
    return TokenLogprob(token, likely, top)
