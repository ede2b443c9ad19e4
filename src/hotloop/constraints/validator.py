"""Validators of grammars: in child processes for a server, in this process for whoever trusts its grammars.

check ── all seen before ──▶ remembered verdict
    └── a slot ── a child (kept ready) ── answer ──▶ remembered; the child serves the next one
                                       └─ deadline, death ─▶ killed, too complex; another child is started
"""

import asyncio
import hashlib
import json
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hotloop.constraints.compiling import Compiler
from hotloop.processes.child import Child
from hotloop.processes.pool import ChildPool
from hotloop.seams.grammar import GrammarProblem

DEADLINE_S = 2.0  # for one request, once a child is there
MEMORY_BYTES = 1 << 30  # address space of a child
CHILDREN = 2  # so that a grammar that takes its time does not hold up the others
MAX_WAITING = 64
VERDICTS_KEPT = 4096
# A verdict by the clock may be the machine's fault: it is forgotten again.
TIMEOUT_REMEMBERED_S = 300.0


class InlineValidator:
    """Implements `seams.grammar.GrammarValidator` in this process: no deadline, no limit of memory."""

    def __init__(self, vocabulary_size: int) -> None:
        self._compiler = Compiler(vocabulary_size)

    async def check(self, grammars: Sequence[str]) -> GrammarProblem | None:
        """See `GrammarValidator.check`."""
        problems = (self._compiler.problem(grammar, index) for index, grammar in enumerate(grammars))
        return next((problem for problem in problems if problem is not None), None)

    async def close(self) -> None:
        """Nothing is held."""


class ChildValidator:
    """Implements `seams.grammar.GrammarValidator` with child processes. `start` before use, `close` at the end."""

    def __init__(
        self, vocabulary_size: int, *, deadline_s: float = DEADLINE_S, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        arguments = (str(vocabulary_size), str(memory_bytes))
        self._pool = ChildPool("hotloop.constraints.child", arguments, children=CHILDREN, max_waiting=MAX_WAITING)
        self._deadline_s = deadline_s
        self._verdicts: OrderedDict[bytes, tuple[GrammarProblem | None, float | None]] = OrderedDict()

    @property
    def children_started(self) -> int:
        """Since the beginning."""
        return self._pool.started

    @property
    def pids(self) -> list[int]:
        """Of the children there are."""
        return self._pool.pids

    def start(self) -> None:
        """Start a child now, so that the first grammar finds it ready."""
        self._pool.start()

    async def ready(self) -> None:
        """Until that child is there, or is known not to start."""
        await self._pool.ready()

    async def check(self, grammars: Sequence[str]) -> GrammarProblem | None:
        """See `GrammarValidator.check`."""
        problem, unknown = self._remembered(grammars)
        if problem is not None or not unknown:
            return problem
        async with self._pool.slot():
            problem, unknown = self._remembered(grammars)  # another turn may have asked the same
            if problem is not None or not unknown:
                return problem
            return await self._ask(grammars, unknown)

    async def close(self) -> None:
        """End every child. Idempotent."""
        await self._pool.close()

    # --- verdicts ---

    def _remembered(self, grammars: Sequence[str]) -> tuple[GrammarProblem | None, list[int]]:
        """The first problem known, or the indexes of the grammars nothing is known of."""
        unknown: list[int] = []
        for index, grammar in enumerate(grammars):
            key = _key(grammar)
            verdict = self._verdicts.get(key)
            if verdict is None:
                unknown.append(index)
                continue
            problem, until = verdict
            if until is not None and asyncio.get_running_loop().time() > until:
                del self._verdicts[key]
                unknown.append(index)
                continue
            self._verdicts.move_to_end(key)
            if problem is not None:
                return GrammarProblem(index, problem.detail, problem.is_too_complex), []
        return None, unknown

    def _remember(self, grammar: str, problem: GrammarProblem | None, *, by_the_clock: bool = False) -> None:
        until = asyncio.get_running_loop().time() + TIMEOUT_REMEMBERED_S if by_the_clock else None
        self._verdicts[_key(grammar)] = problem, until
        while len(self._verdicts) > VERDICTS_KEPT:
            self._verdicts.popitem(last=False)

    async def _ask(self, grammars: Sequence[str], unknown: list[int]) -> GrammarProblem | None:
        texts = [grammars[index] for index in unknown]
        answer = await self._pool.ask(partial(_verdict, grammars=texts, deadline_s=self._deadline_s))
        found = answer.problem
        problem = None if found is None else GrammarProblem(unknown[found.index], found.detail, found.is_too_complex)
        passed = unknown if problem is None else unknown[: unknown.index(problem.index)]
        for index in passed:
            self._remember(grammars[index], None)
        if problem is not None:
            self._remember(grammars[problem.index], problem, by_the_clock=answer.timed_out)
        return problem


@dataclass(frozen=True, slots=True)
class _Answer:
    problem: GrammarProblem | None
    timed_out: bool = False


async def _verdict(child: Child, grammars: list[str], deadline_s: float) -> _Answer:
    """What the child says. One that says nothing in time, or dies of it, is over. Raises EOFError if it was before."""
    asked = _Asked()
    try:
        async with asyncio.timeout(deadline_s):
            return _Answer(await _converse(child, grammars, asked))
    except TimeoutError:
        timed_out, detail = True, "it is too complex: it was not compiled in time"
    except (OSError, EOFError) as error:
        if asked.index is None:
            raise EOFError from error
        timed_out, detail = False, "it is too complex: compiling it takes too much memory or depth"
    await child.kill()
    return _Answer(GrammarProblem(asked.index or 0, detail, is_too_complex=True), timed_out)


async def _converse(child: Child, grammars: list[str], asked: "_Asked") -> GrammarProblem | None:
    body = json.dumps(grammars).encode()
    await child.say(struct.pack("<I", len(body)), body)
    while True:
        line = await child.line()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        match answer:
            case int():
                asked.index = answer
            case None:
                return None
            case {"detail": str(detail), "is_too_complex": bool(is_too_complex)}:
                return GrammarProblem(asked.index or 0, detail, is_too_complex)
            case _:
                raise EOFError


class _Asked:
    """Which grammar a child said it was compiling."""

    index: int | None = None


def _key(grammar: str) -> bytes:
    return hashlib.blake2b(grammar.encode("utf-8", "surrogatepass"), digest_size=16).digest()
