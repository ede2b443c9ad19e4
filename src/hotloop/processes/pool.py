"""A few children of one kind: one is kept ready, one that was killed or died is replaced.

ask ── a slot ── an idle child, or a new one ── its answer ──▶ idle again
                                             └─ killed ──▶ another is started
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from hotloop.errors import Overloaded, ServerFault
from hotloop.processes.child import Child

_T = TypeVar("_T")


class ChildPool:
    """Children that run `module` with the arguments PARENT_PID and those given.

    Args:
        children: that work at once; a question that takes its time does not hold up the others.
        max_waiting: questions that may wait for a child or be with one; one more is refused.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, children: int, max_waiting: int) -> None:
        self._module = module
        self._arguments = (str(os.getpid()), *arguments)
        self._slots = asyncio.Semaphore(children)
        self._max_waiting = max_waiting
        self._waiting = 0
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._starts: set[asyncio.Task[Child]] = set()  # of spares
        self._claimed: set[asyncio.Task[Child]] = set()  # for which a question waits
        self._is_closed = False
        self.started = 0

    def start(self) -> None:
        """Start a child now, so that the first question finds it ready."""
        self._start_spare()

    async def ready(self) -> None:
        """Until the child that was started is there, or is known not to start: the first question then tells."""
        if self._starts:
            await asyncio.wait(self._starts)

    @property
    def pids(self) -> list[int]:
        """Of the children there are."""
        return [child.pid for child in (*self._idle, *self._busy)]

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """The right to ask, for as long as the block lasts. Raises Overloaded."""
        if self._waiting >= self._max_waiting:
            raise Overloaded("Too many requests are waiting to be checked. Try again.", retry_after_s=1)
        self._waiting += 1
        try:
            async with self._slots:
                yield
        finally:
            self._waiting -= 1

    async def ask(self, converse: Callable[[Child], Awaitable[_T]]) -> _T:
        """What `converse` gets out of a child. It may kill it; EOFError from it means that the child had died before."""
        try:
            return await self._ask(converse)
        except EOFError:
            return await self._ask(converse)

    async def close(self) -> None:
        """End every child. Idempotent."""
        self._is_closed = True
        starts = list(self._starts)
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        started = [child for child in map(_child_of, starts) if child is not None]
        for child in [*self._idle, *self._busy, *started]:
            await child.kill()
        self._idle.clear()

    async def _ask(self, converse: Callable[[Child], Awaitable[_T]]) -> _T:
        child = await self._take()
        self._busy.add(child)
        try:
            answer = await converse(child)
        except BaseException:
            await child.kill()
            raise
        finally:
            self._busy.discard(child)
        if child.is_alive:
            self._idle.append(child)
        else:
            self._start_spare()
        return answer

    async def _take(self) -> Child:
        """An idle child, one that is starting anyway, or a new one."""
        if self._idle:
            return self._idle.pop()
        start = next((start for start in self._starts if start not in self._claimed), None)
        if start is None:
            return await self._new_child()
        self._claimed.add(start)
        try:
            await asyncio.wait({start})
        except asyncio.CancelledError:  # the next question may have it
            self._claimed.discard(start)
            if start.done():
                self._keep(start)
            raise
        self._claimed.discard(start)
        return _child_of(start) or await self._new_child()  # which tries again, and says what is wrong

    async def _new_child(self) -> Child:
        if self._is_closed:
            raise ServerFault("The server is shutting down.")
        self.started += 1
        return await Child.start(self._module, self._arguments)

    def _start_spare(self) -> None:
        if self._is_closed or self._idle or self._starts:
            return
        start = asyncio.create_task(self._new_child(), name=f"start of {self._module}")
        self._starts.add(start)
        start.add_done_callback(self._started)

    def _started(self, start: "asyncio.Task[Child]") -> None:
        self._starts.discard(start)
        if start not in self._claimed:
            self._keep(start)

    def _keep(self, start: "asyncio.Task[Child]") -> None:
        child = _child_of(start)
        if child is not None and not self._is_closed:
            self._idle.append(child)


def _child_of(start: "asyncio.Task[Child]") -> Child | None:
    """What came of it; None if it failed."""
    return None if start.cancelled() or start.exception() is not None else start.result()
