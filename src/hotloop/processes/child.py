"""The parent's side of a child process: it says `ready`, then answers on its output what it is asked on its input."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence

from hotloop.errors import ServerFault

START_TIMEOUT_S = 60.0  # a child takes a third of a second to start; an overloaded machine is no reason to fail
PIECE_BYTES = 2**18  # written at a time


class Child:
    """One child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.is_alive = True

    @classmethod
    async def start(cls, module: str, arguments: Sequence[str]) -> "Child":
        """Run `module` and wait until it is ready. Raises ServerFault or OSError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the working directory may hold anything, a `json.py` too
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a panic or traceback would quote what was asked
            start_new_session=True,
        )
        child = cls(process)
        try:
            if await asyncio.wait_for(child.line(), START_TIMEOUT_S) != b"ready\n":
                raise ServerFault(f"The process {module} does not start.")
        except BaseException:
            await child.kill()
            raise
        return child

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    async def say(self, *parts: bytes | memoryview) -> None:
        """Write to its standard input, as it takes it."""
        stdin = self._process.stdin
        assert stdin is not None
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), PIECE_BYTES):  # what does not fit the pipe is copied
                stdin.write(view[start : start + PIECE_BYTES])
                await stdin.drain()

    async def line(self) -> bytes:
        """The next line of its standard output; without a newline, it has ended."""
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes of its standard output. Raises EOFError if it ends before."""
        assert self._process.stdout is not None
        return await self._process.stdout.readexactly(size)

    async def ended(self) -> None:
        """Until the process is over."""
        await self._process.wait()

    async def kill(self) -> None:
        """End it. Idempotent."""
        self.is_alive = False
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
