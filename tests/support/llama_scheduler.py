"""A scheduler of the embedded engine over a fake context, driven by hand."""

from array import array
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.support.fake_context import FakeContext

from hotloop.engines.llama import cell_range, chains, parking, scheduler
from hotloop.engines.llama.messages import Close, Ended, Generate, KvHeld, Open
from hotloop.engines.llama.runs import HostRun
from hotloop.engines.llama.scheduler import Scheduler
from hotloop.seams.engine import Constraint, Sampling

CONTEXT_TOKENS = 200
MOST_STEPS = 5000


def id_bytes(ids: Sequence[int]) -> bytes:
    return array("I", ids).tobytes()


@contextmanager
def small_pieces(patience: int, piece: int = 7, batch: int = scheduler.BATCH_TOKENS) -> Generator[None]:
    """Chains of a few dozen tokens have several pieces, are parked after a few, moved together, and come back in parts."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (parking, chains):
            patch.setattr(module, "PIECE_TOKENS", piece)
        for module in (scheduler, chains):
            patch.setattr(module, "AT_ONCE_TOKENS", 2 * piece)
        patch.setattr(chains, "TAKE_OVER_TAIL_TOKENS", 2 * piece)
        patch.setattr(chains, "MAX_CLOSED", 4)
        patch.setattr(chains, "PATIENCE_TOKENS", patience)
        patch.setattr(cell_range, "MIN_USELESS", 4)
        patch.setattr(cell_range, "MOVE_COST", patience)
        patch.setattr(scheduler, "BATCH_TOKENS", batch)
        yield


@dataclass
class Host:
    """A scheduler over a fake context, and all that it said."""

    sequences: int = 4
    cells: int = 1000
    context_tokens: int = CONTEXT_TOKENS
    parked_bytes: int = 0
    can_rewind: bool = True
    ids: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    ended: dict[int, Ended] = field(default_factory=dict[int, Ended])
    compiling: list[HostRun] = field(default_factory=list[HostRun])
    runs: int = 0
    held: KvHeld = field(default_factory=KvHeld)  # as it was last told

    def __post_init__(self) -> None:
        if not self.can_rewind:
            self.parked_bytes = 0
        self.context = FakeContext(self.cells, can_rewind=self.can_rewind)
        self.scheduler = Scheduler(
            self.context,
            sequences=self.sequences,
            context_tokens=self.context_tokens,
            parked_bytes=self.parked_bytes,
            clock=lambda: 0.0,
            compile_constraint=lambda run, _constraint: self.compiling.append(run),
        )

    def open(self, handle: int, tokens: Sequence[int] = (), tenant: str = "t") -> None:
        self.scheduler.receive(Open(handle, tenant, id_bytes(tokens)))

    def close(self, handle: int) -> None:
        self.scheduler.receive(Close(handle))

    def submit(
        self, handle: int, keep: int, new: Sequence[int], max_tokens: int = 3, constraint: Constraint | None = None
    ) -> int:
        self.runs += 1
        sampling = Sampling(max_tokens=max_tokens, temperature=0.0)
        self.scheduler.receive(Generate(handle, self.runs, keep, id_bytes(new), sampling, constraint))
        self.ids[self.runs] = []
        return self.runs

    def step(self) -> None:
        step = self.scheduler.step()
        assert step.held != self.held, "it was told before"
        self.held = step.held or self.held
        sizes = self.context.copies()
        assert self.held == KvHeld(self.context.used, sum(sizes), len(sizes))
        for run, token in zip(array("I", step.runs), array("I", step.tokens), strict=True):
            assert run not in self.ended, "a token after the end"
            self.ids[run].append(token)
        for ended in step.ended:
            assert ended.run not in self.ended, "a second end"
            self.ended[ended.run] = ended

    def finish(self) -> None:
        for _ in range(MOST_STEPS):
            if not self.scheduler.has_work:
                return
            self.step()
        raise AssertionError("the scheduler turns round and round")

    def run(self, handle: int, keep: int, new: Sequence[int], max_tokens: int = 3) -> Ended:
        run = self.submit(handle, keep, new, max_tokens)
        self.finish()
        return self.ended[run]
