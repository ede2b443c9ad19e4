"""A numbered log that is written once and can be read again, from any number on and while it still grows."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Generic, TypeVar

_T = TypeVar("_T")
_KEPT_WHEN_FULL = 0.75  # of the bound: dropping in bulk costs each entry once


class Lagged(Exception):
    """The entry asked for was dropped."""


class ReplayLog(Generic[_T]):
    """Entries from number 0 on; the oldest are dropped over the bound.

    Args:
        max_bytes: bound of what is kept.
        size_of: bytes of an entry.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[_T], int]) -> None:
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._entries: list[_T] = []
        self._changed = asyncio.Event()
        self.first = 0  # number of the oldest entry kept
        self.size_bytes = 0
        self.is_finished = False

    @property
    def end(self) -> int:
        """Number of the next entry."""
        return self.first + len(self._entries)

    def append(self, entry: _T) -> None:
        """Add an entry; followers get it."""
        assert not self.is_finished
        self._entries.append(entry)
        self.size_bytes += self._size_of(entry)
        if self.size_bytes > self._max_bytes:
            self._drop()
        self._wake()

    def finish(self) -> None:
        """Nothing more comes. Idempotent."""
        self.is_finished = True
        self._wake()

    async def follow(self, start: int, silence_s: float) -> AsyncGenerator[Sequence[_T]]:
        """All entries from `start` on, in batches, until the log is finished; an empty batch after `silence_s` without any.

        Raises Lagged where the next entry was dropped already.
        """
        position = start
        while True:
            if position < self.first:
                raise Lagged
            batch = self._entries[position - self.first :]
            if batch:
                position += len(batch)
                yield batch
            elif self.is_finished:
                return
            elif not await self._wait(silence_s):
                yield ()

    async def _wait(self, silence_s: float) -> bool:
        changed = self._changed
        try:
            async with asyncio.timeout(silence_s):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _drop(self) -> None:
        count = 0
        while self.size_bytes > self._max_bytes * _KEPT_WHEN_FULL and count < len(self._entries) - 1:
            self.size_bytes -= self._size_of(self._entries[count])
            count += 1
        del self._entries[:count]
        self.first += count
