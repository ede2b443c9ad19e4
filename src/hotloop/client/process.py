"""Running one command so that nothing of it survives: not a child, not a pipe, not more than a bounded piece of output.

The output goes through a pipe of our own instead of asyncio's: a background child that holds the pipe open would
otherwise also hold up the news that the command is over (on some Python versions).
"""

import asyncio
import codecs
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

KEPT_CHARS = 65_536  # of the beginning and again of the end: far more than a model is shown
_READ_BYTES = 65_536
_DRAIN_S = 1.0  # for what the kernel still holds once all processes are dead; only a daemon can make it last
_SIGNALLED = 128  # shells report a death by signal n as 128 + n


@dataclass(frozen=True, slots=True)
class CommandResult:
    """`output` lacks `dropped_chars` in its middle and the newlines at its end. No exit code: it took too long."""

    output: str
    dropped_chars: int
    exit_code: int | None


class BoundedText:
    """The beginning and the end of a text that may never stop, and how many characters lie between.

    Newlines at the end are not part of it: they are held back until something follows them.
    """

    def __init__(self, kept_chars: int = KEPT_CHARS) -> None:
        self._kept_chars = kept_chars
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._head = ""
        self._tail = ""
        self._newlines = 0
        self.dropped_chars = 0

    def feed(self, data: bytes, *, last: bool = False) -> None:
        """Take the next bytes; those that are not UTF-8 become U+FFFD."""
        text = self._decoder.decode(data, last)
        body = text.rstrip("\n")
        if body:
            self._add_newlines()
            self._add(body)
        self._newlines += len(text) - len(body)

    @property
    def text(self) -> str:
        return self._head + self._tail

    def _add_newlines(self) -> None:
        count, self._newlines = self._newlines, 0
        while count:  # in pieces: a flood of newlines must not take memory either
            piece = min(count, self._kept_chars)
            self._add("\n" * piece)
            count -= piece

    def _add(self, text: str) -> None:
        room = self._kept_chars - len(self._head)
        if room:
            self._head += text[:room]
            text = text[room:]
        tail = self._tail + text
        excess = max(0, len(tail) - self._kept_chars)
        self._tail = tail[excess:]
        self.dropped_chars += excess


async def run_command(command: str, *, cwd: Path, timeout_s: float) -> CommandResult:
    """Run a command to its end or its timeout. Whatever way this is left, its whole process group is dead then."""
    output = BoundedText()
    exit_code: int | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            exit_code = await _run(command, cwd, output)
    return CommandResult(output.text, output.dropped_chars, exit_code)


async def _run(command: str, cwd: Path, output: BoundedText) -> int:
    async with _output_pipe() as (reader, write_end):
        try:
            process = await _start(command, cwd, write_end)
        finally:
            os.close(write_end)
        return await _finish(process, reader, output)


async def _start(command: str, cwd: Path, write_end: int) -> asyncio.subprocess.Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            shutil.which("bash") or "sh",
            "-c",
            command,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            start_new_session=True,  # its own group, and no terminal to ask for passwords on
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # The command may already run, and asyncio's own clean-up would spare its children. Starting takes milliseconds.
        process = await starting
        _kill_group(process.pid)
        await process.wait()
        raise


async def _finish(process: asyncio.subprocess.Process, reader: asyncio.StreamReader, output: BoundedText) -> int:
    async with asyncio.TaskGroup() as group:
        drain = group.create_task(_drain(reader, output))
        try:
            code = await process.wait()
            _kill_group(process.pid)  # what the command left behind has no owner any more
            await asyncio.wait([drain], timeout=_DRAIN_S)
        finally:
            _kill_group(process.pid)
            await process.wait()
            drain.cancel()
    return code if code >= 0 else _SIGNALLED - code


@asynccontextmanager
async def _output_pipe() -> AsyncGenerator[tuple[asyncio.StreamReader, int], None]:
    """A pipe whose write end the caller closes and whose read end is closed here."""
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
    )
    try:
        yield reader, write_end
    finally:
        transport.close()


async def _drain(reader: asyncio.StreamReader, output: BoundedText) -> None:
    try:
        while data := await reader.read(_READ_BYTES):
            output.feed(data)
    finally:
        output.feed(b"", last=True)


def _kill_group(leader: int) -> None:
    # The group's number stays taken while any member lives; with none left there is nothing to kill.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
