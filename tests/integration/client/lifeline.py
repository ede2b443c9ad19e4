"""A pipe that a process and all its children hold open: its end means that every one of them is dead."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

COMMAND = "exec 3>lifeline; echo started >&3; sleep 1000 & sleep 1000"


@asynccontextmanager
async def lifeline(folder: Path) -> AsyncGenerator[asyncio.StreamReader, None]:
    """Make `lifeline` in the folder; `COMMAND`, run there, writes `started` to it and holds it."""
    path = folder / "lifeline"
    os.mkfifo(path)
    reader = asyncio.StreamReader()
    # Without blocking: a thread that waits for a writer who never comes could not be ended.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), file
    )
    try:
        yield reader
    finally:
        transport.close()


async def end(alive: asyncio.StreamReader, folder: Path) -> None:
    """Wait until nobody holds the lifeline, which may be because nobody ever did."""
    with suppress(OSError):  # it has ended already, and nobody reads any more
        os.close(os.open(folder / "lifeline", os.O_WRONLY | os.O_NONBLOCK))
    await alive.read()
