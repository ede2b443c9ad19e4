"""An engine that keeps its KV as a list of ids, so that a test can see what it was sent and what it holds.

It checks its own contract: one run per handle, no use after `close`, `keep` never beyond what is held. Callbacks come by
`call_soon`, one step per loop iteration; `pause` holds all runs where they are.
"""

import asyncio
from array import array
from collections.abc import Callable, Sequence

from tests.support.toy_format import say

from hotloop.seams.engine import (
    Constraint,
    EndCallback,
    EndReason,
    KvHandle,
    Sampling,
    StepCallback,
    TokenLogprob,
    Usage,
)
from hotloop.seams.prompt import TurnView
from hotloop.session.principal import Tenant
from hotloop.session.token_log import TokenView

Reply = Callable[[list[int]], Sequence[int]]  # prompt ids → output ids, stop token included


def _say_ok(prompt: list[int]) -> Sequence[int]:
    return say("ok")


class ToyEngine:
    """Implements `seams.engine.Engine`.

    Args:
        reply: what the model says to a prompt.
        step: ids per engine step.
    """

    name = "toy"
    kv_use = None

    def __init__(
        self,
        reply: Reply | None = None,
        *,
        context_tokens: int = 4096,
        can_rewind: bool = True,
        can_fork: bool = True,
        survives_abort: bool = True,
        step: int = 3,
    ) -> None:
        self.reply: Reply = reply or _say_ok
        self.context_tokens = context_tokens
        self.can_rewind = can_rewind
        self.can_fork = can_fork
        self.survives_abort = survives_abort
        self.step = step
        self.handles: list[ToyHandle] = []  # all ever opened
        self.runs: list[ToyRun] = []
        self.fails_with: EndReason | None = None  # of the next runs, before any output
        self.fails_after: int | None = None  # steps; the run then ends UNAVAILABLE
        self.loses_kv = 0  # how many of the next runs find their KV gone
        self.restores = False  # what runs keep was elsewhere in the meantime
        self.recomputes = False  # what runs keep has to be decoded again
        self.has_run = asyncio.Event()  # a run was submitted; cleared by the test
        self._paused: list[Callable[[], None]] | None = None

    @property
    def open_handles(self) -> int:
        """Handles not closed yet."""
        return sum(not handle.is_closed for handle in self.handles)

    def open(self, tokens: TokenView, *, parent: KvHandle | None, tenant: Tenant) -> "ToyHandle":
        assert parent is None or not getattr(parent, "is_closed", False), "forked from a closed handle"
        handle = ToyHandle(self, list(tokens.tokens()), parent)
        self.handles.append(handle)
        return handle

    async def close(self) -> None:
        for run in self.runs:
            run.abort()

    def pause(self) -> None:
        """Hold every run from its next step on."""
        if self._paused is None:
            self._paused = []

    def resume(self) -> None:
        """Let held runs go on."""
        held, self._paused = self._paused or [], None
        for step in held:
            step()

    def advance(self, steps: int = 1) -> None:
        """While paused: let every held run take steps, then hold it again."""
        for _ in range(steps):
            held, self._paused = self._paused or [], []
            for step in held:
                step()

    def schedule(self, step: Callable[[], None]) -> None:
        """Run `step` in the loop's next iteration, or when resumed."""
        if self._paused is not None:
            self._paused.append(step)
        else:
            asyncio.get_running_loop().call_soon(step)


class ToyHandle:
    """Implements `seams.engine.KvHandle`."""

    def __init__(self, engine: ToyEngine, kv: list[int], parent: KvHandle | None) -> None:
        self.engine = engine
        self.kv = kv
        self.parent = parent
        self.is_closed = False
        self.close_calls = 0
        self.run: ToyRun | None = None

    @property
    def can_rewind(self) -> bool:
        return self.engine.can_rewind

    @property
    def can_fork(self) -> bool:
        return self.engine.can_fork

    @property
    def survives_abort(self) -> bool:
        return self.engine.survives_abort

    def generate(
        self,
        keep: int,
        new: "array[int]",
        *,
        sampling: Sampling,
        constraint: Constraint | None,
        turn: TurnView,
        on_step: StepCallback,
        on_end: EndCallback,
    ) -> "ToyRun":
        assert not self.is_closed, "generate on a closed handle"
        assert self.run is None or self.run.is_over, "two runs on one handle"
        self.run = ToyRun(self, keep, list(new), sampling, constraint, turn, on_step, on_end)
        self.engine.runs.append(self.run)
        self.engine.has_run.set()
        self.engine.schedule(self.run.advance)
        return self.run

    def close(self) -> None:
        self.close_calls += 1
        self.is_closed = True
        if self.run is not None:
            self.run.abort()


class ToyRun:
    """Implements `seams.engine.Run`. `prompt` is what the model saw."""

    def __init__(
        self,
        handle: ToyHandle,
        keep: int,
        new: list[int],
        sampling: Sampling,
        constraint: Constraint | None,
        turn: TurnView,
        on_step: StepCallback,
        on_end: EndCallback,
    ) -> None:
        self.handle = handle
        self.keep = keep
        self.new = new
        self.prompt = handle.kv[:keep] + new
        self.sampling = sampling
        self.constraint = constraint
        self.turn = turn
        self.is_over = False
        self.over = asyncio.Event()
        self.is_aborted = False
        self._on_step = on_step
        self._on_end = on_end
        self._sampled: list[int] = []
        self._steps = 0
        self._output: list[int] = []

    def abort(self) -> None:
        if not self.is_aborted and not self.is_over:
            self.is_aborted = True
            asyncio.get_running_loop().call_soon(self._end_if_running)

    def _end_if_running(self) -> None:
        if not self.is_over:
            self._end(EndReason.ABORTED)

    def advance(self) -> None:
        """One engine step."""
        engine = self.handle.engine
        if self.is_over:
            return
        if self._steps == 0:
            lost = engine.loses_kv > 0
            engine.loses_kv -= lost
            rewinds = self.keep < len(self.handle.kv) and not engine.can_rewind
            if lost or self.keep > len(self.handle.kv) or rewinds:
                self.handle.kv = []
                self._end(EndReason.NEEDS_FULL_PROMPT)
                return
            if engine.fails_with is not None:
                self._end(engine.fails_with)
                return
            self._output = list(engine.reply(self.prompt))
        if engine.fails_after is not None and self._steps >= engine.fails_after:
            self._end(EndReason.UNAVAILABLE)
            return
        room = self.sampling.max_tokens - len(self._sampled)
        ids = self._output[len(self._sampled) :][: min(engine.step, room)]
        self._steps += 1
        if ids:
            self._sampled += ids
            self._on_step(ids, self._logprobs(ids))
        if ids and ids[-1] in self.sampling.stop_tokens:
            self._end(EndReason.STOP)
        elif len(self._sampled) >= self.sampling.max_tokens or not ids:
            self._end(EndReason.LENGTH)
        else:
            engine.schedule(self.advance)

    def _logprobs(self, ids: Sequence[int]) -> list[TokenLogprob] | None:
        if self.sampling.top_logprobs is None:
            return None
        top = tuple((token, -float(token)) for token in range(65, 65 + self.sampling.top_logprobs))
        return [TokenLogprob(token, -0.5, top) for token in ids]

    def _end(self, reason: EndReason) -> None:
        self.is_over = True
        survives = reason is not EndReason.ABORTED or self.handle.survives_abort
        if reason is EndReason.NEEDS_FULL_PROMPT or reason is EndReason.UNAVAILABLE or not survives:
            self.handle.kv = []
        else:
            self.handle.kv = self.prompt + self._sampled[:-1]  # the last id was sampled but never decoded
        usage = Usage(
            prompt_tokens=len(self.prompt),
            cached_tokens=0 if self.handle.engine.recomputes else self.keep,
            restored_tokens=self.keep if self.handle.engine.restores else 0,
            output_tokens=len(self._sampled),
            held_tokens=len(self.handle.kv),
        )
        self._on_end(reason, usage, "a toy")
        self.over.set()
