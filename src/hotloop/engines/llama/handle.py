"""The server's side of KV handles and runs: who is called back, and what is said to the host."""

import logging
from array import array
from collections.abc import Callable
from typing import Protocol

from hotloop.engines.llama.messages import Abort, Close, Generate, ToHost, id_bytes
from hotloop.seams.engine import Constraint, EndCallback, EndReason, Sampling, StepCallback, TokenLogprob, Usage
from hotloop.seams.prompt import TurnView

log = logging.getLogger(__name__)


class RunDesk(Protocol):
    """What handles and runs need of the engine."""

    @property
    def epoch(self) -> int:
        """Which life of the host this is; KV of an earlier one is lost."""
        ...

    @property
    def can_rewind(self) -> bool: ...

    def submit(self, run: "LlamaRun", message: Callable[[int], Generate]) -> None:
        """Number the run and send its message, or end it soon if it cannot be served."""
        ...

    def end_soon(self, run: "LlamaRun", reason: EndReason, detail: str = "") -> None:
        """End a run that the host never hears of, after the caller has returned."""
        ...

    def tell(self, message: ToHost, epoch: int) -> None:
        """Send a message that makes sense only to the host of that epoch."""
        ...


class LlamaRun:
    """One `generate`. Ends exactly once."""

    def __init__(self, desk: RunDesk, epoch: int, on_step: StepCallback, on_end: EndCallback) -> None:
        self._desk = desk
        self._epoch = epoch
        self._on_step = on_step
        self._on_end = on_end
        self._abort_asked = False
        self.number = 0
        self.is_over = False

    def abort(self) -> None:
        if not self.is_over and not self._abort_asked:
            self._abort_asked = True
            self._desk.tell(Abort(self.number), self._epoch)

    def step(self, token: int, logprob: TokenLogprob | None) -> None:
        """A token was sampled."""
        try:
            self._on_step((token,), None if logprob is None else (logprob,))
        except Exception:  # a caller's bug must not cut off the other chains
            log.exception("on_step failed")
            self.abort()

    def end(self, reason: EndReason, usage: Usage, detail: str) -> None:
        """The run is over. Only the first call counts."""
        if self.is_over:
            return
        self.is_over = True
        try:
            self._on_end(reason, usage, detail)
        except Exception:
            log.exception("on_end failed")


class LlamaHandle:
    """A chain of the engine host, by number."""

    def __init__(self, desk: RunDesk, number: int, epoch: int) -> None:
        self._desk = desk
        self.number = number
        self._epoch = epoch
        self._run: LlamaRun | None = None
        self._is_closed = False

    @property
    def can_rewind(self) -> bool:
        return self._desk.can_rewind

    @property
    def can_fork(self) -> bool:
        return True

    @property
    def survives_abort(self) -> bool:
        return True

    def generate(
        self,
        keep: int,
        new: "array[int]",
        *,
        sampling: Sampling,
        constraint: Constraint | None,
        turn: TurnView,  # a model reads tokens only
        on_step: StepCallback,
        on_end: EndCallback,
    ) -> LlamaRun:
        if self._is_closed:
            raise RuntimeError("the handle is closed")
        if self._run is not None and not self._run.is_over:
            raise RuntimeError("the handle has a run under way")
        if keep + len(new) == 0:
            raise ValueError("an empty prompt")
        run = LlamaRun(self._desk, self._epoch, on_step, on_end)
        if self._epoch != self._desk.epoch:
            self._desk.end_soon(run, EndReason.NEEDS_FULL_PROMPT)
        else:
            ids = id_bytes(new)
            bare = None if constraint is None else constraint.without_pass_through()
            self._desk.submit(run, lambda number: Generate(self.number, number, keep, ids, sampling, bare))
        self._run = run
        return run

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._desk.tell(Close(self.number), self._epoch)
