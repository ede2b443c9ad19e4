"""The connections and requests that are open, so that a shutdown can wait for them."""

import asyncio
from typing import Protocol


class Drainable(Protocol):
    """Something that can be asked to come to an end."""

    @property
    def waiting(self) -> int:
        """Requests it holds back until they may start."""
        ...

    def drain(self) -> None:
        """Take nothing new, finish what runs, then close."""
        ...

    def abandon(self) -> None:
        """Drop what still runs and close now."""
        ...


class OpenConnections:
    """All open connections of the server."""

    def __init__(self) -> None:
        self._open: set[Drainable] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.is_draining = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def waiting(self) -> int:
        """Requests held back on all of them."""
        return sum(connection.waiting for connection in self._open)

    def add(self, connection: Drainable) -> None:
        """A connection begins. During a shutdown it is asked to end at once."""
        self._open.add(connection)
        self._empty.clear()
        if self.is_draining:
            connection.drain()

    def remove(self, connection: Drainable) -> None:
        """A connection ended."""
        self._open.discard(connection)
        if not self._open:
            self._empty.set()

    async def wait_empty(self) -> None:
        """Until nothing is open."""
        await self._empty.wait()

    async def drain(self, timeout_s: float) -> None:
        """Let every connection finish within `timeout_s`, then drop what is left."""
        self.is_draining = True
        for connection in list(self._open):
            connection.drain()
        try:
            await asyncio.wait_for(self.wait_empty(), timeout_s)
        except TimeoutError:
            self.abandon()

    def abandon(self) -> None:
        """Drop what still runs on every connection."""
        for connection in list(self._open):
            connection.abandon()
