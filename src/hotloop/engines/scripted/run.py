"""One turn being played: delay, prefill, steps, end, each a plain call from the event loop."""

import asyncio
from array import array
from typing import TYPE_CHECKING

import msgspec

from hotloop.engines.scripted.play import Performance
from hotloop.engines.scripted.script import Speed
from hotloop.seams.engine import EndCallback, EndReason, Sampling, StepCallback, TokenLogprob, Usage

if TYPE_CHECKING:
    from hotloop.engines.scripted.engine import ScriptedEngine, ScriptedHandle

# Tokens of a modelled speed come in steps at least this far apart: four times the resolution of uvloop's timers.
STEP_S = 0.004
_EARLY_S = 0.0005  # a timer may fire by half its resolution too early: what is due by then counts as due
_NOTHING = Performance()
_NO_TOKENS = array("I")  # never written to
_FAILURES = {"unavailable": EndReason.UNAVAILABLE, "timeout": EndReason.TIMEOUT}


class _Schedule:
    """When a modelled engine has which token, in absolute times: a busy server makes it late, never slower.

    The first token is there when the prefill ends, each further one 1/decode seconds behind the one before it.
    """

    def __init__(self, speed: Speed, submitted: float, new_tokens: int, delay_s: float) -> None:
        self.prefill_s = new_tokens / speed.prefill
        self._decode = speed.decode
        self._first = submitted + delay_s + self.prefill_s

    def decode_s(self, tokens: int) -> float:
        """Seconds from the first token to the last of so many."""
        return max(0, tokens - 1) / self._decode

    def due(self, now: float) -> int:
        """Tokens that are there now."""
        return 1 + max(0, int((now + _EARLY_S - self._first) * self._decode))

    def pause(self, sent: int, last: int, now: float) -> float:
        """Seconds until the next step: to the token after `sent`, or to the last that a whole step brings."""
        step = max(1, int(STEP_S * self._decode))
        return self._first + (min(sent + step, last) - 1) / self._decode - now


class ScriptedRun(msgspec.Struct, eq=False):
    """Implements `seams.engine.Run`."""

    engine: "ScriptedEngine"
    handle: "ScriptedHandle"
    sampling: Sampling
    on_step: StepCallback
    on_end: EndCallback
    loop: asyncio.AbstractEventLoop
    submitted: float  # on the loop's clock
    first_token: float = 0.0
    timer: asyncio.Handle | None = None
    is_over: bool = False
    is_ending: bool = False  # the end is there or scheduled: nothing else is
    measures: bool = False  # log-probabilities are asked for
    performance: Performance = _NOTHING
    new: "array[int]" = _NO_TOKENS
    output: "array[int]" = _NO_TOKENS
    last: EndReason = EndReason.STOP  # how the output ends when all of it is out
    stop: int = 0  # tokens of the output that come
    fails: bool = False  # behind them
    sent: int = 0
    booked: int = 0  # of these, in the handle
    schedule: _Schedule | None = None
    prompt: int = 0
    cached: int = 0

    def start(self, keep: int, new: "array[int]", performance: Performance, output: "array[int]") -> None:
        """Rewind the handle to `keep`, then prefill `new` and play after the delay."""
        handle, engine, most = self.handle, self.engine, self.sampling.max_tokens
        del handle.ids[keep:]
        self.cached = handle.held = min(handle.held, keep)
        self.prompt = prompt = keep + len(new)
        room = engine.context_tokens - prompt
        if room < 0:
            self.schedule_end(EndReason.LENGTH, f"the prompt of {prompt} tokens does not fit the context")
            return
        self.new = new
        self.performance = performance
        self.measures = self.sampling.top_logprobs is not None
        stops = self.sampling.stop_tokens
        if not stops.isdisjoint(output[:-1]):
            output = output[: next(index for index, token in enumerate(output) if token in stops) + 1]
        room = min(room, most)
        if len(output) > room:
            output, self.last = output[:room], EndReason.LENGTH
        self.output = output
        self.stop = len(output)
        delay_s = 0.0
        if most:
            delay_s = performance.delay_s
            if performance.fail is not None and engine.fails_now(performance):
                self.fails = True
                self.stop = min(performance.fail.after_tokens, self.stop)
        speed = engine.script.speed
        if speed is not None:
            self.schedule = _Schedule(speed, engine.clock(), prompt - self.cached, delay_s)
            delay_s += self.schedule.prefill_s
        loop = self.loop
        self.timer = loop.call_later(delay_s, self._prefill) if delay_s > 0 else loop.call_soon(self._prefill)

    def abort(self) -> None:
        """See `Run.abort`."""
        self.schedule_end(EndReason.ABORTED)

    def schedule_end(self, reason: EndReason, detail: str = "") -> None:
        """End in the next loop tick, whatever else was to come."""
        if self.is_ending:
            return
        self.is_ending = True
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_soon(self.end, reason, detail)

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End now. Only the first end counts."""
        if self.is_over:
            return
        self.is_over = self.is_ending = True
        if self.timer is not None:
            self.timer.cancel()
        self.engine.runs.discard(self)
        self.book()
        self.handle.run = None
        self.on_end(reason, self._usage(), detail)

    def book(self) -> None:
        """Let the handle hold what was decoded. Like a real engine: a token's KV is computed when the next is decoded."""
        if self.booked < self.sent:
            handle = self.handle
            handle.ids.extend(self.output[self.booked : self.sent])
            self.booked = self.sent
            if not handle.is_lost:
                handle.held = len(handle.ids) - 1

    def _prefill(self) -> None:
        self.first_token = self.loop.time()
        handle = self.handle
        handle.ids.extend(self.new)
        handle.held = len(handle.ids)
        if self.performance.problem and self.sampling.max_tokens:
            self.end(EndReason.UNAVAILABLE, self.performance.problem)
        elif self.stop:
            self._step()
        elif self.fails:
            self._fail()
        else:
            self.end(EndReason.LENGTH)

    def _step(self) -> None:
        schedule, last = self.schedule, self.stop
        stop = self.sent + (self.performance.pace.tokens if schedule is None else self._due_tokens(schedule))
        if stop > last:
            stop = last
        ids = self.output[self.sent : stop]
        self.sent = stop
        self.on_step(ids, self._logprobs(ids) if self.measures else None)
        if self.is_ending:
            return
        if stop < last:
            pause_s = self.performance.pace.seconds if schedule is None else self._step_pause(schedule)
            if pause_s > 0:
                self.timer = self.loop.call_later(pause_s, self._step)
            else:
                self.timer = self.loop.call_soon(self._step)
        elif self.fails:
            self.timer = self.loop.call_soon(self._fail)
        else:
            self.end(self.last)

    def _due_tokens(self, schedule: _Schedule) -> int:
        return max(1, schedule.due(self.engine.clock()) - self.sent)

    def _step_pause(self, schedule: _Schedule) -> float:
        return schedule.pause(self.sent, len(self.output), self.engine.clock())

    def _fail(self) -> None:
        fail = self.performance.fail
        assert fail is not None
        if fail.reason == "host_death":
            self.engine.die()
        else:
            self.end(_FAILURES[fail.reason], f"the script says so: {fail.reason}")

    def _logprobs(self, ids: "array[int]") -> "list[TokenLogprob] | None":
        count = self.sampling.top_logprobs
        return None if count is None else [_logprob(token, count, self.engine.vocabulary_size) for token in ids]

    def _usage(self) -> Usage:
        now = self.loop.time()
        first = self.first_token or now
        prefill_s, decode_s = first - self.submitted, now - first
        if self.schedule is not None:  # the model's time, not what a busy loop made of it
            prefill_s, decode_s = self.schedule.prefill_s, self.schedule.decode_s(self.sent)
        return Usage(
            prompt_tokens=self.prompt,
            cached_tokens=self.cached,
            output_tokens=self.sent,
            held_tokens=self.handle.held,
            prefill_s=prefill_s,
            decode_s=decode_s,
        )


def _logprob(token: int, count: int, vocabulary_size: int) -> TokenLogprob:
    """Made up, but the same every time: the sampled token is the likeliest, its neighbours follow."""
    likely = -0.01 * (1 + token % 20)
    others = min(count, vocabulary_size)
    top = tuple(((token + rank) % vocabulary_size, likely - 2.0 * rank) for rank in range(others))
    return TokenLogprob(token, likely, top)
