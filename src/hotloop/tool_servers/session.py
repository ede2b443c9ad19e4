"""One MCP session, owned by one task: the library's scopes must be entered and left by the same one.

open ── ready ── calls from any task ──▶ close, or the server goes ── over
    └── refused, too late ──▶ over
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import anyio
from mcp.client._transport import TransportStreams
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import Implementation

from hotloop.seams.hosted_tools import ToolServerError

logger = logging.getLogger(__name__)

_CANCEL_TRIES = 2
CLOSE_TIMEOUT_S = 10.0  # of a child that must be killed, and then some
_INFO = Implementation(name="hotloop", version="1")
_T = TypeVar("_T")

# Gives the streams; is handed what to call when the server is gone.
MakeStreams = Callable[[Callable[[], None]], AbstractAsyncContextManager[TransportStreams]]


class SessionLost(ToolServerError):
    """The server went away while it was asked."""


class Session:
    """A session with one server. `open` before use; whoever opened it closes it."""

    def __init__(self, make_streams: MakeStreams) -> None:
        self._make_streams = make_streams
        self._client: Client | None = None
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()
        self._problem = "the server closed the connection"
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """It can be asked."""
        return self._client is not None and not self._closing.is_set()

    async def open(self, timeout_s: float) -> None:
        """Connect and agree on a protocol version. Raises ToolServerError; nothing is left then."""
        self._task = task = asyncio.create_task(self._run(), name="mcp session")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait((task, ready), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._cancel()
            raise
        finally:
            ready.cancel()
        if self._client is not None:
            return
        if not task.done():
            self._problem = f"the server did not answer within {timeout_s:g} s"
        await self._cancel()
        raise ToolServerError(self._problem)

    async def ask(self, question: Callable[[Client], Coroutine[Any, Any, _T]]) -> _T:
        """Put a question to the server. Raises SessionLost if it goes away meanwhile, and what the library raises."""
        client, owner = self._client, self._task
        if client is None or owner is None or self._closing.is_set():
            raise SessionLost(self._problem)
        asking = asyncio.create_task(question(client))
        try:
            await asyncio.wait((asking, owner), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        if asking.cancelled():
            raise SessionLost(self._problem)
        try:
            return asking.result()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            raise SessionLost("the connection closed") from None

    async def close(self) -> None:
        """End it, also while it is being opened. Idempotent."""
        self._closing.set()
        task = self._task
        if task is not None and not task.done() and self._client is not None:
            await asyncio.wait((task,), timeout=CLOSE_TIMEOUT_S)
        await self._cancel()

    async def _cancel(self) -> None:
        task = self._task
        if task is None:
            return
        for _ in range(_CANCEL_TRIES):
            if task.done():
                break
            task.cancel()
            await asyncio.wait((task,), timeout=CLOSE_TIMEOUT_S)
        else:
            logger.warning("an MCP session does not end; it is left behind")
            return
        with contextlib.suppress(asyncio.CancelledError):
            task.result()

    async def _run(self) -> None:
        """Hold the session open until it is closed or lost. Nothing that goes wrong in it leaves this task."""
        try:
            client = Client(self._make_streams(self._closing.set), client_info=_INFO, cache=None, mode="auto")
            async with client:
                self._client = client
                self._ready.set()
                await self._closing.wait()
        except Exception as error:
            if self._client is None:
                self._problem = _reason(error)
        finally:
            self._closing.set()
            self._client = None


def _reason(error: BaseException) -> str:
    """Why a session did not come about, as a client may read it."""
    match error:
        case MCPError():
            return f"the server refused the session: {error.message[:200]}"
        case BaseExceptionGroup():
            return _reason(error.exceptions[0])
        case FileNotFoundError() | PermissionError():
            return "the server's program cannot be started"
        case _:
            return "the server's answer to the handshake is not MCP"
