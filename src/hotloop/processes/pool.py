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
        self._spares: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.started = 0

    def start(self) -> None:
        """Start a child now, so that the first question finds it ready."""
        self._start_spare()

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
        for task in self._spares:
            task.cancel()
        await asyncio.gather(*self._spares, return_exceptions=True)
        for child in [*self._idle, *self._busy]:
            await child.kill()
        self._idle.clear()

    async def _ask(self, converse: Callable[[Child], Awaitable[_T]]) -> _T:
        child = self._idle.pop() if self._idle else await self._new_child()
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

    async def _new_child(self) -> Child:
        if self._is_closed:
            raise ServerFault("The server is shutting down.")
        self.started += 1
        return await Child.start(self._module, self._arguments)

    def _start_spare(self) -> None:
        if self._is_closed or self._idle or self._spares:
            return
        task = asyncio.create_task(self._add_spare(), name=f"start of {self._module}")
        self._spares.add(task)
        task.add_done_callback(self._spares.discard)

    async def _add_spare(self) -> None:
        with contextlib.suppress(ServerFault, OSError):  # the next question tries again and says so
            self._idle.append(await self._new_child())
