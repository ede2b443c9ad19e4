"""Decides what each engine step decodes, and does it: continuous batching over the chains of one KV cache.

    receive(Generate) ─▶ (compiling) ─▶ waiting ──a sequence, its KV is back──▶ active ──step──▶ … ──▶ Ended
                                           ▲                                      │
                                           └─── preempted: no room; or a sweep ───┘

Every step brings a part of what is parked back, decodes one token of each decoding run, and fills the batch up with
prefill, oldest run first. An abort takes effect between steps. Only tokens without KV are ever decoded: what a preempted run
had is parked, or prefilled again where that is not possible.
"""

from array import array
from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hotloop.engines.llama.chain import Chain
from hotloop.engines.llama.chains import AT_ONCE_TOKENS, ChainTable, KvCache
from hotloop.engines.llama.faults import LogitsError
from hotloop.engines.llama.grammar import ConstraintRun, GrammarError
from hotloop.engines.llama.messages import Abort, Close, Ended, Generate, KvHeld, Open, Step, ToHost
from hotloop.engines.llama.runs import HostRun, Picked
from hotloop.seams.engine import Constraint, EndReason

BATCH_TOKENS = 512  # one step's work; how long an abort waits on a prefill


class BatchContext(KvCache, Protocol):
    """What is needed of a llama context: its batch arrays, and decoding them."""

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    sequences: NDArray[np.int32]
    wants_logits: NDArray[np.int8]
    vocabulary_size: int

    def decode(self, count: int) -> bool: ...
    def logits(self, index: int) -> NDArray[np.float32]: ...


class Scheduler:
    """Runs of all handles of one engine host. Single-threaded.

    Args:
        context_tokens: most tokens one chain may hold; the cache must have at least as many cells.
        parked_bytes: most memory for KV outside the cache; 0 parks nothing.
        clock: seconds, monotonic.
        compile_constraint: starts compiling; answers through `constraint_ready`, now or later.
    """

    def __init__(
        self,
        context: BatchContext,
        *,
        sequences: int,
        context_tokens: int,
        parked_bytes: int = 0,
        clock: Callable[[], float],
        compile_constraint: Callable[[HostRun, Constraint], None],
    ) -> None:
        self._context = context
        self._table = ChainTable(
            context,
            sequences=sequences,
            idle_tokens=context_tokens,
            parked_bytes=parked_bytes,
        )
        self._context_tokens = context_tokens
        self._clock = clock
        self._compile_constraint = compile_constraint
        self._handles: dict[int, Chain] = {}
        self._runs: dict[int, HostRun] = {}
        self._waiting: deque[HostRun] = deque()
        self._active: list[HostRun] = []
        self._ended: list[Ended] = []
        self._told = KvHeld()
        self._is_full = False  # a run was preempted: nothing more is admitted until another one ends

    # --- what the server says ---

    def receive(self, message: ToHost) -> None:
        """Take note of a message; its effects show in the next `step`."""
        match message:
            case Open():
                self._handles[message.handle] = Chain(message.tenant, np.frombuffer(message.tokens, np.int32))
            case Generate():
                self._generate(message)
            case Abort():
                if run := self._runs.get(message.run):
                    self._end(run, EndReason.ABORTED)
            case Close():
                self._close(message.handle)

    def _generate(self, message: Generate) -> None:
        chain = self._handles[message.handle]
        if chain.is_lost or message.keep > len(chain.tokens):
            run = HostRun(message.run, chain, message.sampling, self._clock())
            self._runs[run.number] = run
            self._end(run, EndReason.NEEDS_FULL_PROMPT)
            return
        self._table.truncate(chain, message.keep)
        chain.tokens.extend(np.frombuffer(message.new, np.int32))
        chain.is_running = True
        chain.restored = 0
        run = HostRun(message.run, chain, message.sampling, self._clock())
        self._runs[run.number] = run
        if not self._has_all(chain.tokens.view(chain.kept)):
            chain.tokens.truncate(chain.kept)
            detail = f"the prompt has a token beyond the model's vocabulary of {self._context.vocabulary_size}"
            self._end(run, EndReason.UNAVAILABLE, detail)  # llama.cpp would refuse the whole batch
        elif run.prompt_tokens + (1 if run.samples else 0) > self._context_tokens:
            detail = f"a prompt of {run.prompt_tokens} tokens does not fit a context of {self._context_tokens}"
            self._end(run, EndReason.LENGTH, detail)
        elif message.constraint is not None and run.samples:
            self._compile_constraint(run, message.constraint)
        else:
            self._waiting.append(run)

    def _has_all(self, tokens: NDArray[np.int32]) -> bool:
        """All are in the vocabulary."""
        return not len(tokens) or (tokens.min() >= 0 and tokens.max() < self._context.vocabulary_size)

    def constraint_ready(self, run: HostRun, constraint: ConstraintRun | GrammarError) -> None:
        """The constraint of `run` is compiled, or cannot be."""
        if run.number not in self._runs:  # aborted meanwhile
            return
        if isinstance(constraint, GrammarError):
            self._end(run, EndReason.CONSTRAINT, str(constraint))
        else:
            run.constrain(constraint)
            self._waiting.append(run)

    def _close(self, handle: int) -> None:
        chain = self._handles.pop(handle)
        for run in [run for run in self._runs.values() if run.chain is chain]:
            self._end(run, EndReason.ABORTED)
        self._table.close(chain)

    def _end(self, run: HostRun, reason: EndReason, detail: str = "") -> None:
        del self._runs[run.number]
        if run in self._active:
            self._active.remove(run)
        elif run in self._waiting:
            self._waiting.remove(run)
        run.chain.is_running = False
        self._table.touch(run.chain)
        self._is_full = False
        self._ended.append(Ended(run.number, reason, run.usage(self._clock()), detail))

    # --- what the engine does ---

    @property
    def held(self) -> KvHeld:
        """Memory that KV takes now."""
        return self._table.held

    @property
    def has_work(self) -> bool:
        """`step` would do or say something."""
        return bool(self._active or self._waiting or self._ended) or self._table.held != self._told

    def step(self) -> Step:
        """Admit what there is room for, decode one batch, sample. Raises DecodeError if the engine is broken."""
        self._admit()
        decoded, picked = self._decode_batch() if self._active else (0, [])
        ended, self._ended = self._ended, []
        return _step_message(picked, ended, decoded, self._news())

    def _news(self) -> KvHeld | None:
        held = self._table.held
        if held == self._told:
            return None
        self._told = held
        return held

    def _admit(self) -> None:
        budget = AT_ONCE_TOKENS  # what comes back in one step; others decode meanwhile
        is_blocked = False
        for run in list(self._waiting):
            chain, wanted = run.chain, run.reusable_tokens
            # behind a run that finds no sequence or still comes back, those that need neither may go
            if self._is_full or (is_blocked and chain.sequence is None):
                continue
            if budget > 0 or not chain.lacks(wanted):
                if chain.sequence is None and not self._table.seat(chain, wanted):
                    is_blocked = True
                    continue
                budget -= self._bring_back(run, budget)
                if not chain.lacks(wanted) or (budget > 0 and not self._active):
                    self._activate(run)
                    continue
            if budget > 0:  # there is no room for all it has: it waits for that instead of decoding it again
                self._table.unseat(chain)
                self._is_full = run.gave_way = True
            elif run.gave_way:  # nobody takes once more the room it had to give
                break
        if self._waiting and not self._active and budget == AT_ONCE_TOKENS:
            self._unseat_waiting(None)  # every sequence belongs to runs whose grammar is being compiled

    def _bring_back(self, run: HostRun, at_most: int) -> int:
        """Restore a run's chain. Where nobody decodes, runs that cannot yet do so make room for it."""
        chain, wanted = run.chain, run.reusable_tokens
        restored = self._table.restore(chain, wanted, at_most)
        while restored < at_most and chain.lacks(wanted) and not self._active and self._unseat_waiting(run):
            restored += self._table.restore(chain, wanted, at_most - restored)
        return restored

    def _unseat_waiting(self, spared: HostRun | None) -> bool:
        """Take the cells of a run that does not decode yet. False: none has any."""
        for run in self._runs.values():
            if run.chain.sequence is not None and run is not spared and run not in self._active:
                self._table.evict(run.chain)
                run.gave_way = True
                return True
        return False

    def _activate(self, run: HostRun) -> None:
        self._table.rewind(run.chain, run.reusable_tokens)
        run.admitted(self._clock())
        run.gave_way = False
        self._waiting.remove(run)
        self._active.append(run)
        if not run.samples and run.pending == 0:
            self._end(run, EndReason.LENGTH)

    def _decode_batch(self) -> tuple[int, list[Picked]]:
        while self._active:
            plan = self._fill_batch()
            size = sum(count for _, count, _ in plan)
            if self._context.decode(size):
                self._table.decoded(size)
                picked = self._advance(plan)
                if self._table.tidy(size):
                    self._readmit()
                return size, picked
            self._make_room()
        return 0, []

    def _readmit(self) -> None:
        """The cache was emptied: all come back, those first that do so soonest."""
        self._waiting.extendleft(sorted(self._active, key=lambda run: -run.chain.copied))
        self._active.clear()
        self._is_full = False

    def _fill_batch(self) -> "list[tuple[HostRun, int, int]]":
        """Write the batch arrays. Returns (run, tokens of it in the batch, index of its last one)."""
        decoding = [run for run in self._active if run.is_decoding]
        prefilling = [run for run in self._active if not run.is_decoding]
        plan: list[tuple[HostRun, int, int]] = []
        used = 0
        for run in decoding + prefilling:
            count = min(run.pending, BATCH_TOKENS - used)
            if used == BATCH_TOKENS:
                break
            self._write(run, used, count)
            used += count
            plan.append((run, count, used - 1))
        return plan

    def _write(self, run: HostRun, start: int, count: int) -> None:
        context, chain, end = self._context, run.chain, start + count
        assert chain.sequence is not None, "an active run has a sequence"
        context.tokens[start:end] = chain.tokens.view(chain.held, chain.held + count)
        context.positions[start:end] = np.arange(chain.held, chain.held + count)
        context.sequences[start:end] = chain.sequence
        context.wants_logits[start:end] = 0
        context.wants_logits[end - 1] = run.samples and count == run.pending

    def _make_room(self) -> None:
        """The batch found no cells: evict, then take from runs that wait, then from the newest active one."""
        if self._table.evict_one():
            return
        self._is_full = True
        if self._unseat_waiting(None):
            return
        newest = self._active[-1]
        self._table.evict(newest.chain)
        if len(self._active) == 1:  # cells >= context, so only a cache smaller than it says gets here
            self._end(newest, EndReason.LENGTH, "the KV cache is full")
            return
        self._active.pop()
        self._waiting.appendleft(newest)
        newest.gave_way = True

    def _advance(self, plan: "list[tuple[HostRun, int, int]]") -> list[Picked]:
        """The batch is decoded: count it as held, sample where a prompt is complete."""
        picked: list[Picked] = []
        for run, count, index in plan:
            run.chain.held += count
            if run.pending:
                continue
            if not run.samples:
                self._end(run, EndReason.LENGTH)
                continue
            try:
                picked.append(self._sample(run, index))
            except GrammarError as error:
                self._end(run, EndReason.CONSTRAINT, str(error))
            except LogitsError as error:
                self._table.discard(run.chain)
                self._end(run, EndReason.UNAVAILABLE, str(error))
        return picked

    def _sample(self, run: HostRun, index: int) -> Picked:
        allowed = run.constraint.allowed() if run.constraint is not None else None
        token, logprob = run.sampler.pick(self._context.logits(index), allowed)
        run.sampled(token, self._clock())
        if token in run.stop_tokens:
            self._end(run, EndReason.STOP)
        elif run.output_tokens >= run.sampling.max_tokens or len(run.chain.tokens) >= self._context_tokens:
            self._end(run, EndReason.LENGTH)
        return run.number, token, logprob


def _step_message(picked: list[Picked], ended: list[Ended], decoded: int, held: KvHeld | None) -> Step:
    if not picked:
        return Step(ended=ended, decoded=decoded, held=held)
    runs = array("I", [number for number, _, _ in picked])
    tokens = array("I", [token for _, token, _ in picked])
    logprobs = [logprob for _, _, logprob in picked]
    return Step(runs.tobytes(), tokens.tobytes(), logprobs if any(logprobs) else None, ended, decoded, held)
