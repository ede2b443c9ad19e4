"""The tool servers of the process: sessions that all responses share, and those of one response alone.

A configured server has one session for everybody, opened when it is first asked for, opened again when it was lost, with
back-off. Whoever names a URL or brings headers gets a session that no other response sees, closed when the response is over.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from mcp.client._transport import TransportStreams
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST, CallToolResult, Tool
from pydantic import ValidationError

from hotloop.errors import InvalidRequest, SchemaTooComplex, UnsupportedParameter, UnsupportedValue
from hotloop.protocol.hosted_tool import ServerTool
from hotloop.protocol.wire import json_bytes
from hotloop.seams.hosted_tools import CallOutcome, OfferedTool, ToolLimits, ToolServerError
from hotloop.tool_servers.configuration import HttpServer, StdioServer, ToolServerSettings
from hotloop.tool_servers.http import http_streams
from hotloop.tool_servers.results import REQUEST_TIMEOUT, failure, failure_of, offered_tool, outcome_of
from hotloop.tool_servers.session import MakeStreams, Session
from hotloop.tool_servers.shared_session import SharedSession
from hotloop.tool_servers.stdio import stdio_streams
from hotloop.tool_servers.urls import UrlProblem

logger = logging.getLogger(__name__)

_MAX_PAGES = 64  # of one listing
_TOO_COMPLEX = SchemaTooComplex.code  # what a client that sends as much is told
# What reading an answer raises: of the library, of its models, of values that JSON cannot have.
_NOT_MCP = (ValidationError, RuntimeError, ValueError, OverflowError, TypeError)
_Close = Callable[[], Coroutine[Any, Any, None]]
_T = TypeVar("_T")
# The library and what it is built on write messages' contents and URLs into their logs.
_NOISY_LOGGERS = ("mcp", "client", "httpx2", "httpcore2")


class McpServers:
    """Implements `seams.hosted_tools.ToolServers`.

    Args:
        settings: which servers there are.
        clock: seconds, monotonic.
    """

    def __init__(self, settings: ToolServerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = settings.limits
        self._settings = settings
        self._shared = {
            label: SharedSession(_streams_of(server, settings.limits), settings.limits.connect_timeout_s, clock)
            for label, server in settings.servers.items()
        }
        self._closing: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(settings.limits.max_sessions)
        for name in _NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def check(self, server: ServerTool, param: str) -> None:
        """See `ToolServers.check`."""
        if server.url is None:
            known = self._settings.servers.get(server.label)
            if known is None:
                raise InvalidRequest(
                    f"No MCP server '{server.label}' is configured here; give its 'server_url'.",
                    param=f"{param}.server_label",
                )
            if server.headers and isinstance(known, StdioServer):
                raise UnsupportedParameter(
                    f"The MCP server '{server.label}' takes no credentials of a request.",
                    param=f"{param}.authorization",
                )
            return
        try:
            is_allowed = any(entry.allows(server.url) for entry in self._settings.allowed)
        except UrlProblem as problem:
            raise InvalidRequest(f"'server_url' cannot be used: {problem}.", param=f"{param}.server_url") from None
        if not is_allowed:
            raise UnsupportedValue(
                "This 'server_url' is not on the list of those that this server may connect to.",
                param=f"{param}.server_url",
            )

    def visit(self) -> "McpVisit":
        """See `ToolServers.visit`."""
        return McpVisit(self)

    def worked(self, server: ServerTool) -> None:
        """A server has answered."""
        shared = self._shared_with(server)
        if shared is not None:
            shared.worked()

    def timed_out(self, server: ServerTool) -> None:
        """A server has not answered in time."""
        shared = self._shared_with(server)
        hung = None if shared is None else shared.timed_out()
        if hung is not None:
            logger.warning("the MCP server %s does not answer; it gets a new session", server.label)
            self.close_behind(hung.close)

    def _shared_with(self, server: ServerTool) -> SharedSession | None:
        return self._shared[server.label] if server.url is None and not server.headers else None

    def close_behind(self, close: _Close) -> None:
        """Close a session while whoever used it goes on."""
        task = asyncio.create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """See `ToolServers.close`."""
        await asyncio.gather(*(shared.close() for shared in self._shared.values()), *self._closing)

    async def open_session(self, server: ServerTool) -> tuple[Session, _Close | None]:
        """A session with the server, and how to close it where it is not shared. Raises ToolServerError."""
        configured = self._settings.servers.get(server.label) if server.url is None else None
        shared = self._shared_with(server)
        if shared is not None:
            return await shared.session(), None
        if isinstance(configured, HttpServer):
            url, headers = configured.url, {**configured.headers, **server.headers}
        else:
            assert server.url is not None
            url, headers = server.url, dict(server.headers)
        return await self._open_own(url, headers)

    async def _open_own(self, url: str, headers: Mapping[str, str]) -> tuple[Session, _Close]:
        timeout_s = self.limits.connect_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise ToolServerError("too many MCP sessions are open") from None
        session = Session(lambda on_end: http_streams(url, headers, connect_timeout_s=timeout_s))
        try:
            await session.open(timeout_s)
        except BaseException:
            self._places.release()
            raise

        async def close() -> None:
            try:
                await session.close()
            finally:
                self._places.release()

        return session, close


def _streams_of(server: StdioServer | HttpServer, limits: ToolLimits) -> MakeStreams:
    def make(on_end: Callable[[], None]) -> AbstractAsyncContextManager[TransportStreams]:
        if isinstance(server, StdioServer):
            return stdio_streams(server, on_end)
        return http_streams(server.url, server.headers, connect_timeout_s=limits.connect_timeout_s)

    return make


class McpVisit:
    """Implements `seams.hosted_tools.ToolVisit`."""

    def __init__(self, servers: McpServers) -> None:
        self._servers = servers
        self._limits = servers.limits
        self._own: dict[str, Session] = {}  # by label
        self._closers: list[_Close] = []
        self._locks: dict[str, asyncio.Lock] = {}

    async def list_tools(self, server: ServerTool) -> Sequence[OfferedTool]:
        """See `ToolVisit.list_tools`."""
        try:
            tools = await self._asked_twice(server, self._listed, self._limits.list_timeout_s)
        except TimeoutError:
            raise ToolServerError(
                f"the server did not list its tools within {self._limits.list_timeout_s:g} s"
            ) from None
        except MCPError as error:
            raise ToolServerError(f"the server refused to list its tools: {error.message[:200]}") from None
        except _NOT_MCP:
            raise ToolServerError("the server's list of tools is not MCP") from None
        return [offered_tool(tool) for tool in tools]

    async def call(self, server: ServerTool, name: str, arguments: Mapping[str, Any]) -> CallOutcome:
        """See `ToolVisit.call`."""

        async def called(client: Client) -> CallToolResult:
            return await client.call_tool(name, dict(arguments))

        try:
            result = await self._asked_twice(server, called, self._limits.call_timeout_s)
            return outcome_of(result, self._limits.max_output_bytes)
        except TimeoutError:
            return failure(f"the server did not answer within {self._limits.call_timeout_s:g} s", REQUEST_TIMEOUT)
        except ToolServerError as error:
            return failure(str(error))
        except MCPError as error:
            return failure_of(error)
        except _NOT_MCP:
            return failure("the server's answer is not a result of a tool")

    def leave(self) -> None:
        """See `ToolVisit.leave`."""
        closers, self._closers = self._closers, []
        self._own.clear()
        for close in closers:
            self._servers.close_behind(close)

    async def _listed(self, client: Client) -> list[Tool]:
        tools: list[Tool] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            if len(tools) > self._limits.max_tools:
                raise ToolServerError(f"{_TOO_COMPLEX}: it offers more than {self._limits.max_tools} tools")
            cursor = page.next_cursor
            if cursor is None:
                break
        else:
            raise ToolServerError(f"{_TOO_COMPLEX}: its list has more than {_MAX_PAGES} pages")
        size = sum(len(json_bytes(tool.input_schema)) + len(tool.description or "") for tool in tools)
        if size > self._limits.max_list_bytes:
            raise ToolServerError(
                f"{_TOO_COMPLEX}: its tools take {size} bytes; {self._limits.max_list_bytes} are allowed"
            )
        return tools

    async def _asked_twice(
        self, server: ServerTool, question: Callable[[Client], Coroutine[Any, Any, _T]], timeout_s: float
    ) -> _T:
        """Ask; once more on a new session if the old one was no longer known to the server, which then has run nothing.

        Raises ToolServerError, TimeoutError, and what the library raises.
        """
        for is_last in (False, True):
            session = await self._session(server)
            try:
                async with asyncio.timeout(timeout_s):
                    answer = await session.ask(question)
            except TimeoutError:
                self._servers.timed_out(server)
                raise
            except MCPError as error:
                if is_last or not _is_session_over(error):
                    raise
                await session.close()
                continue
            self._servers.worked(server)
            return answer
        raise AssertionError

    async def _session(self, server: ServerTool) -> Session:
        async with self._locks.setdefault(server.label, asyncio.Lock()):
            own = self._own.get(server.label)
            if own is not None and own.is_open:
                return own
            session, close = await self._servers.open_session(server)
            if close is not None:
                self._own[server.label] = session
                self._closers.append(close)
            return session


def _is_session_over(error: MCPError) -> bool:
    return error.code == INVALID_REQUEST and error.message == "Session terminated"  # the library's words for a 404
