"""Validators of grammars: in child processes for a server, in this process for whoever trusts its grammars.

check ── all seen before ──▶ remembered verdict
    └── a slot ── a child (kept ready) ── answer ──▶ remembered; the child serves the next one
                                       └─ deadline, death ─▶ killed, too complex; another child is started
"""

import asyncio
import contextlib
import hashlib
import json
import os
import struct
import sys
from collections import OrderedDict
from collections.abc import Sequence

from hotloop.constraints.compiling import Compiler
from hotloop.errors import Overloaded, ServerFault
from hotloop.seams.grammar import GrammarProblem

DEADLINE_S = 2.0  # for one request, once a child is there
START_TIMEOUT_S = 60.0  # a child takes a third of a second to start; an overloaded machine is no reason to fail
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
        self._arguments = (str(os.getpid()), str(vocabulary_size), str(memory_bytes))
        self._deadline_s = deadline_s
        self._slots = asyncio.Semaphore(CHILDREN)
        self._waiting = 0
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._spares: set[asyncio.Task[None]] = set()
        self._verdicts: OrderedDict[bytes, tuple[GrammarProblem | None, float | None]] = OrderedDict()
        self._is_closed = False
        self.children_started = 0

    def start(self) -> None:
        """Start a child now, so that the first grammar finds it ready."""
        self._start_spare()

    async def check(self, grammars: Sequence[str]) -> GrammarProblem | None:
        """See `GrammarValidator.check`."""
        problem, unknown = self._remembered(grammars)
        if problem is not None or not unknown:
            return problem
        if self._waiting >= MAX_WAITING:
            raise Overloaded("Too many new schemas and grammars are waiting to be checked. Try again.", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._slots:
                problem, unknown = self._remembered(grammars)  # another turn may have asked the same
                if problem is not None or not unknown:
                    return problem
                return await self._ask(grammars, unknown)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End every child. Idempotent."""
        self._is_closed = True
        for task in self._spares:
            task.cancel()
        await asyncio.gather(*self._spares, return_exceptions=True)
        for child in [*self._idle, *self._busy]:
            await child.kill()
        self._idle.clear()

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

    # --- children ---

    async def _ask(self, grammars: Sequence[str], unknown: list[int]) -> GrammarProblem | None:
        texts = [grammars[index] for index in unknown]
        try:
            child, answer = await self._ask_child(texts)
        except EOFError:  # one that had died while it was idle
            child, answer = await self._ask_child(texts)
        if child.is_alive:
            self._idle.append(child)
        else:
            self._start_spare()
        problem = (
            None if answer is None else GrammarProblem(unknown[answer.index], answer.detail, answer.is_too_complex)
        )
        passed = unknown if problem is None else unknown[: unknown.index(problem.index)]
        for index in passed:
            self._remember(grammars[index], None)
        if problem is not None:
            self._remember(grammars[problem.index], problem, by_the_clock=child.timed_out)
        return problem

    async def _ask_child(self, grammars: list[str]) -> "tuple[_Child, GrammarProblem | None]":
        child = self._idle.pop() if self._idle else await self._new_child()
        self._busy.add(child)
        try:
            return child, await child.ask(grammars, self._deadline_s)
        except BaseException:
            await child.kill()
            raise
        finally:
            self._busy.discard(child)

    async def _new_child(self) -> "_Child":
        if self._is_closed:
            raise ServerFault("The server is shutting down.")
        self.children_started += 1
        return await _Child.start(self._arguments)

    def _start_spare(self) -> None:
        if self._is_closed or self._idle or self._spares:
            return
        task = asyncio.create_task(self._add_spare(), name="grammar child start")
        self._spares.add(task)
        task.add_done_callback(self._spares.discard)

    async def _add_spare(self) -> None:
        with contextlib.suppress(ServerFault, OSError):  # the next check tries again and says so
            self._idle.append(await self._new_child())


class _Child:
    """One child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.is_alive = True
        self.timed_out = False

    @classmethod
    async def start(cls, arguments: Sequence[str]) -> "_Child":
        """A child that is ready. Raises ServerFault."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the working directory may hold anything, a `json.py` too
            "-m",
            "hotloop.constraints.child",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a Rust panic would quote the grammar
            start_new_session=True,
        )
        child = cls(process)
        try:
            if await asyncio.wait_for(child._line(), START_TIMEOUT_S) != b"ready\n":
                raise ServerFault("The process that checks grammars does not start.")
        except BaseException:
            await child.kill()
            raise
        return child

    async def ask(self, grammars: list[str], deadline_s: float) -> GrammarProblem | None:
        """Its verdict. A child that does not give one in time, or dies of it, is over. Raises EOFError if it was before."""
        asked = _Asked()
        try:
            async with asyncio.timeout(deadline_s):
                return await self._converse(grammars, asked)
        except TimeoutError:
            self.timed_out = True
            detail = "it is too complex: it was not compiled in time"
        except (OSError, EOFError) as error:
            if asked.index is None:
                raise EOFError from error
            detail = "it is too complex: compiling it takes too much memory or depth"
        await self.kill()
        return GrammarProblem(asked.index or 0, detail, is_too_complex=True)

    async def _converse(self, grammars: list[str], asked: "_Asked") -> GrammarProblem | None:
        stdin = self._process.stdin
        assert stdin is not None
        body = json.dumps(grammars).encode()
        stdin.write(struct.pack("<I", len(body)) + body)
        await stdin.drain()
        while True:
            line = await self._line()
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

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def kill(self) -> None:
        """End it. Idempotent."""
        self.is_alive = False
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


class _Asked:
    """Which grammar a child said it was compiling."""

    index: int | None = None


def _key(grammar: str) -> bytes:
    return hashlib.blake2b(grammar.encode("utf-8", "surrogatepass"), digest_size=16).digest()
