"""A server as a child process, one JSON message a line. Lines are bounded: a server that floods is stopped.

The child has a session of its own, so that it ends with everything it started, and none of this process's environment but
what the configuration gives it and what every program needs.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from hotloop.tool_servers.configuration import StdioServer

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 8 * 2**20
STOP_TIMEOUT_S = 2.0  # after its input was closed, and again after SIGTERM

Streams = tuple["MemoryObjectReceiveStream[SessionMessage | Exception]", "MemoryObjectSendStream[SessionMessage]"]


@asynccontextmanager
async def stdio_streams(
    server: StdioServer, on_end: Callable[[], None], max_message_bytes: int = MAX_MESSAGE_BYTES
) -> AsyncGenerator[Streams]:
    """Start the server, give the streams a session takes, stop it. `on_end` is told when it says no more. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        server.command,
        *server.args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # What it writes there may be about a user's data: shown only to who asked for everything.
        stderr=None if logger.isEnabledFor(logging.DEBUG) else asyncio.subprocess.DEVNULL,
        env={**get_default_environment(), **server.env},
        cwd=server.cwd,
        start_new_session=True,
        limit=max_message_bytes,
    )
    heard, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, said = anyio.create_memory_object_stream[SessionMessage](0)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_read, process, heard, on_end)
            tasks.start_soon(_write, process, said)
            try:
                yield incoming, outgoing
            finally:
                tasks.cancel_scope.cancel()
    finally:
        for stream in (heard, incoming, outgoing, said):
            stream.close()
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def _read(
    process: asyncio.subprocess.Process,
    heard: "MemoryObjectSendStream[SessionMessage | Exception]",
    on_end: Callable[[], None],
) -> None:
    assert process.stdout is not None
    with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        async with heard:
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:  # longer than the limit: who reads on reads from its middle
                    logger.warning("an MCP server wrote a message that is too long; it is stopped")
                    break
                if not line:
                    break
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    continue  # a line that is no message, such as a greeting
                await heard.send(SessionMessage(message))
    on_end()


async def _write(process: asyncio.subprocess.Process, said: "MemoryObjectReceiveStream[SessionMessage]") -> None:
    assert process.stdin is not None
    async with said:
        async for message in said:
            try:
                process.stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await process.stdin.drain()
            except OSError:  # it is gone; reading says so
                return


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the server and whatever it started."""
    assert process.stdin is not None
    process.stdin.close()
    if not await _is_over(process):
        _signal(process, signal.SIGTERM)
        if not await _is_over(process):
            _signal(process, signal.SIGKILL)
            if not await _is_over(process):
                logger.warning("an MCP server that was killed is not gone; it is left behind")
            return
    _signal(process, signal.SIGKILL)  # what it left behind


async def _is_over(process: asyncio.subprocess.Process) -> bool:
    # Its output is read on meanwhile: a server that is stuck writing would not see that its input is closed.
    assert process.stdout is not None
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            while await process.stdout.read(65536):
                pass
            await process.wait()
    except TimeoutError:
        return False
    return True


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
