"""Plays random clients against the scheduler over a real llama context, in this process, and judges all that it says.

Six slots open, generate, keep, rewind, fork, repeat each other, abort and close, in two tenants, while the engine steps. The
judge decodes each finished chain alone: every sampled token must be the model's best after the tokens before it, or as
good as that (batches of another shape differ in the last bits).
"""

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tests.support.llama_scheduler import small_pieces

from hotloop.engines.llama.binding import ATTR_CONTROL, ATTR_USER_DEFINED, Context, Model
from hotloop.engines.llama.chain import Chain
from hotloop.engines.llama.grammar import ConstraintRun, GrammarError, GrammarVocabulary
from hotloop.engines.llama.messages import Abort, Close, Ended, Generate, Open
from hotloop.engines.llama.runs import HostRun
from hotloop.engines.llama.scheduler import Scheduler
from hotloop.seams.engine import Constraint, EndReason, Sampling

SLOTS = 6
CONTEXT_TOKENS = 120
BATCH = 32
CELLS = 256  # what llama.cpp rounds up to
MOST_STEPS = 5_000
GRAMMARS = ("start: /[a-f]{1,12}/", 'start: "the " ("file" | "path") " " /[0-9]+/', 'start: "a" | ')
WORDS = (5, 6, 7)
NOISE = 0.05  # of logits: KV is rounded to 16 bits, and batches of another shape round otherwise


@dataclass
class Asked:
    """A run as its client sees it."""

    slot: int
    prompt: list[int]
    sampling: Sampling
    constraint: Constraint | None
    ids: list[int] = field(default_factory=list[int])
    ended: Ended | None = None


class Judge:
    """Decodes chains alone, in a context of its own."""

    def __init__(self, model: Model) -> None:
        self._context = Context(model, cells=512, sequences=1, batch_tokens=2 * CONTEXT_TOKENS, threads=1)
        self.vocabulary = GrammarVocabulary(
            pieces=model.pieces(),
            marked=model.tokens_with(ATTR_CONTROL | ATTR_USER_DEFINED),
            stops=model.stop_tokens(),
            encode=lambda text: model.tokenize(text).tolist(),
        )
        self.judged = 0

    def logits(self, tokens: Sequence[int], first: int) -> list[NDArray[np.float32]]:
        """What the model says after each of the tokens from `first` on."""
        context, count = self._context, len(tokens)
        context.remove(0, 0)
        context.tokens[:count] = tokens
        context.positions[:count] = np.arange(count)
        context.sequences[:count] = 0
        context.wants_logits[:count] = 1
        assert context.decode(count)
        return [context.logits(index).copy() for index in range(first, count)]

    def check(self, asked: Asked) -> None:
        """Raises AssertionError."""
        ended, ids = asked.ended, asked.ids
        assert ended is not None
        usage = ended.usage
        assert usage.output_tokens == len(ids) <= max(asked.sampling.max_tokens, 0)
        assert usage.restored_tokens <= usage.cached_tokens <= len(asked.prompt)
        assert usage.held_tokens <= len(asked.prompt) + len(ids)
        if not ids:
            return
        run = None
        if asked.constraint is not None:
            run = ConstraintRun(self.vocabulary, asked.constraint, asked.sampling.stop_tokens)
        rows = self.logits([*asked.prompt, *ids[:-1]], len(asked.prompt) - 1)
        stops = asked.sampling.stop_tokens if run is None else run.stop_tokens
        for index, (token, row) in enumerate(zip(ids, rows, strict=True)):
            allowed = None if run is None else run.allowed()
            best = row.max() if allowed is None else row[allowed].max()
            assert allowed is None or token in allowed
            assert best - row[token] < NOISE, f"token {index} of {len(ids)} is not the model's"
            assert token not in stops or (index == len(ids) - 1 and ended.reason is EndReason.STOP)
            if run is not None and token not in stops:
                run.accept(token)
        self.judged += len(ids)


class Play:
    """One scheduler over one real context, and six clients."""

    def __init__(self, model: Model, judge: Judge, ids: random.Random) -> None:
        self._judge = judge
        self._random = ids
        self.sequences = ids.choice((1, 2, 3, 5, 8))
        self.context = Context(model, cells=CELLS, sequences=self.sequences, batch_tokens=BATCH, threads=1)
        self.parked_bytes = ids.choice((0, 150_000, 600_000, 1 << 30)) if model.keeps_all_kv else 0
        self._compiling: list[tuple[HostRun, Constraint]] = []
        self.scheduler = Scheduler(
            self.context,
            sequences=self.sequences,
            context_tokens=CONTEXT_TOKENS,
            parked_bytes=self.parked_bytes,
            clock=lambda: 0.0,
            compile_constraint=lambda run, constraint: self._compiling.append((run, constraint)),
        )
        self._numbers = 0
        self._handles: dict[int, int] = {}
        self._tenants: dict[int, str] = {}
        self._chains: dict[int, list[int]] = {}
        self._running: dict[int, int] = {}
        self._asked: dict[int, Asked] = {}
        self.ended = 0
        for slot in range(SLOTS):
            self._open(slot, [], f"t{slot % 2}")

    # --- what clients do ---

    def act(self) -> None:
        """Any one thing."""
        actions: list[tuple[Callable[[int], None], int]] = [
            (self._generate, 6),
            (self._reopen, 1),
            (self._fork, 1),
            (self._twin, 2),
            (self._resend, 1),
            (self._abort, 1),
            (self._compiled, 3),
            (self._steps, 6),
        ]
        chosen = self._random.choices([action for action, _ in actions], [weight for _, weight in actions])[0]
        chosen(self._random.randrange(SLOTS))

    def finish(self) -> None:
        """Play to the end, then close all and fill the whole cache once."""
        while self._compiling:
            self._compiled(0)
        for _ in range(MOST_STEPS):
            if not self.scheduler.has_work:
                break
            self._step()
        assert not self._running and not self.scheduler.has_work, "it turns round and round"
        for slot in range(SLOTS):
            self.scheduler.receive(Close(self._handles[slot]))
        table = self.scheduler._table
        while table.evict_one():
            pass
        assert sorted(table._free) == list(range(self.sequences)), "sequences leak"
        self._fill()
        self.context.close()

    def _fill(self) -> None:
        """Every cell can be had."""
        for start in range(0, CELLS, BATCH):
            self.context.tokens[:BATCH] = 1
            self.context.positions[:BATCH] = np.arange(start, start + BATCH)
            self.context.sequences[:BATCH] = 0
            self.context.wants_logits[:BATCH] = 0
            assert self.context.decode(BATCH), "cells leak"

    def _open(self, slot: int, tokens: list[int], tenant: str) -> None:
        self._numbers += 1
        self._handles[slot], self._chains[slot], self._tenants[slot] = self._numbers, tokens, tenant
        self.scheduler.receive(Open(self._numbers, tenant, array("I", tokens).tobytes()))

    def _reopen(self, slot: int, tokens: list[int] | None = None, tenant: str | None = None) -> None:
        """Close the handle, whatever it is doing, and open another one."""
        self.scheduler.receive(Close(self._handles[slot]))
        self._running.pop(slot, None)
        if tokens is None:
            tokens = [self._random.choice(WORDS) for _ in range(self._random.choice((0, 3, 40)))]
        self._open(slot, tokens, tenant or f"t{self._random.randrange(2)}")

    def _fork(self, slot: int) -> None:
        other = self._random.randrange(SLOTS)
        chain = self._chains[other]
        self._reopen(slot, chain[: self._random.randint(0, len(chain))], self._tenants[other])

    def _resend(self, slot: int) -> None:
        """Close, and send the whole history to a new handle, as clients without a conversation do."""
        if slot not in self._running and self._chains[slot]:
            chain = self._chains[slot]
            self._reopen(slot, [], self._tenants[slot])
            self._submit(slot, 0, [*chain, self._random.choice(WORDS)], self._random.randint(0, 12))

    def _twin(self, slot: int) -> None:
        """Ask what another one was asked."""
        other = self._random.randrange(SLOTS)
        prompt = self._asked[self._running[other]].prompt if other in self._running else self._chains[other]
        if slot != other and prompt:
            self._reopen(slot, prompt[:], self._tenants[other])
            self._submit(slot, len(prompt) - self._random.randint(0, 1), prompt[-1:], self._random.randint(0, 40))

    def _generate(self, slot: int) -> None:
        if slot in self._running:
            return
        length = len(self._chains[slot])
        keep = length if self._random.random() < 0.7 else self._random.randint(0, length)
        count = self._random.choice((0, 1, 1, 2, 5, 20, 45))
        new = [self._random.choice(WORDS)] * count
        if keep + count > 0:
            self._submit(slot, keep, new, self._random.choice((0, 0, 1, 2, 8, 30)))

    def _submit(self, slot: int, keep: int, new: list[int], max_tokens: int) -> None:
        chain = self._chains[slot]
        if keep == len(chain) and new == chain[-1:] != [] and self._random.random() < 0.5:
            new = []
        prompt = [*chain[:keep], *new]
        stops = frozenset(self._random.sample(range(256), 8)) if self._random.random() < 0.2 else frozenset[int]()
        constraint = Constraint(self._random.choice(GRAMMARS)) if self._random.random() < 0.15 else None
        sampling = Sampling(max_tokens=max_tokens, temperature=0.0, stop_tokens=stops)
        self._numbers += 1
        self._asked[self._numbers] = Asked(slot, prompt, sampling, constraint)
        self._running[slot] = self._numbers
        self.scheduler.receive(
            Generate(self._handles[slot], self._numbers, keep, array("I", new).tobytes(), sampling, constraint)
        )

    def _abort(self, slot: int) -> None:
        if slot in self._running:
            self.scheduler.receive(Abort(self._running[slot]))

    def _compiled(self, _slot: int) -> None:
        if not self._compiling:
            return
        run, constraint = self._compiling.pop(self._random.randrange(len(self._compiling)))
        answer: ConstraintRun | GrammarError
        try:
            answer = ConstraintRun(self._judge.vocabulary, constraint, run.sampling.stop_tokens)
        except GrammarError as error:
            answer = error
        self.scheduler.constraint_ready(run, answer)

    # --- what the engine does ---

    def _steps(self, _slot: int) -> None:
        for _ in range(self._random.choice((1, 2, 5, 20))):
            if self.scheduler.has_work:
                self._step()

    def _step(self) -> None:
        step = self.scheduler.step()
        for number, token in zip(array("I", step.runs), array("I", step.tokens), strict=True):
            assert self._asked[number].ended is None, "a token after the end"
            self._asked[number].ids.append(token)
        for ended in step.ended:
            self._end(ended)
        self._check_table()

    def _end(self, ended: Ended) -> None:
        asked = self._asked[ended.run]
        assert asked.ended is None, "a second end"
        asked.ended = ended
        self.ended += 1
        self._judge.check(asked)
        if self._running.get(asked.slot) != ended.run:  # its handle is closed
            return
        del self._running[asked.slot]
        self._chains[asked.slot] = [*asked.prompt, *asked.ids]
        if ended.reason is EndReason.NEEDS_FULL_PROMPT:
            self._reopen(asked.slot, asked.prompt, self._tenants[asked.slot])
        if len(self._chains[asked.slot]) > CONTEXT_TOKENS - 5:
            self._reopen(asked.slot)

    def _check_table(self) -> None:
        table = self.scheduler._table
        seated, parked = list(table), list(table._parked)
        places = [chain.sequence for chain in seated if chain.sequence is not None]
        assert sorted([*places, *table._free]) == list(range(self.sequences)), "a sequence is nobody's or two chains'"
        for chain in seated:
            assert chain.sequence is not None
            assert self.context.last_position(chain.sequence) == chain.held - 1
            assert chain.held <= len(chain.tokens)
        for sequence in [*table._free, self.sequences]:
            assert self.context.last_position(sequence) == -1
        assert not set(parked) & set(seated)
        held = self.scheduler.held
        with_copies = {*seated, *parked, *self.scheduler._handles.values()}
        sizes = {id(piece.copy): piece.copy.data.nbytes for chain in with_copies for piece in chain.pieces}
        assert held.parked_bytes == sum(sizes.values()) <= self.parked_bytes
        assert held.copies == len(sizes)
        for chain in with_copies:
            _check_pieces(chain)


def _check_pieces(chain: Chain) -> None:
    starts = [0, *(piece.end for piece in chain.pieces)]
    assert [piece.start for piece in chain.pieces] == starts[:-1], "pieces follow each other"
    assert chain.copied <= len(chain.tokens), "a copy of tokens that are not the chain's"


def play(model: Model, judge: Judge, seed: int, actions: int) -> Play:
    """A game of so many actions. The same seed plays the same game."""
    ids = random.Random(seed)
    with small_pieces(ids.choice((0, 5, 64)), ids.choice((7, 16, 48)), BATCH):
        game = Play(model, judge, ids)
        for _ in range(actions):
            game.act()
        game.finish()
    return game
