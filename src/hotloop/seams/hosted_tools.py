"""Tools that this server runs itself: those of MCP servers, as a response lists and calls them.

visit = servers.visit()                     one response's dealings with tool servers
tools = await visit.list_tools(server)      what a server offers
outcome = await visit.call(server, …)       one call; a failure is an outcome, not an exception
visit.leave()                               whatever was opened for this response alone is closed
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from hotloop.protocol.hosted_tool import ServerTool


class OfferedTool(msgspec.Struct, frozen=True):
    """A tool as its server describes it. `input_schema` and `annotations` are JSON values."""

    name: str
    description: str | None
    input_schema: Mapping[str, Any]
    annotations: Mapping[str, Any] | None = None


class CallOutcome(msgspec.Struct, frozen=True):
    """What a call gave: text, or an error as an `mcp_call` item shows it (docs/hosted-tools.md)."""

    output: str | None = None
    error: Mapping[str, Any] | None = None


class ToolServerError(Exception):
    """A server cannot be used now. The message is shown to the client and holds nothing of a request."""


class ToolLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds on what tool servers may cost."""

    connect_timeout_s: float = 20.0  # an old server may leave the library's first question, 10 s long, unanswered
    list_timeout_s: float = 20.0
    call_timeout_s: float = 120.0
    max_output_bytes: int = 256 * 1024  # of one call's text
    max_list_bytes: int = 2**20  # of one server's tools as JSON
    max_tools: int = 256  # of one server
    max_sessions: int = 32  # opened for single responses, at once
    max_rounds: int = 32  # of the model within one response
    parallel_calls: int = 8  # of one response


class ToolVisit(Protocol):
    """One response's dealings. What is opened with credentials of a request is used by no other."""

    async def list_tools(self, server: ServerTool) -> Sequence[OfferedTool]:
        """All tools of the server. Ends in time; raises ToolServerError."""
        ...

    async def call(self, server: ServerTool, name: str, arguments: Mapping[str, Any]) -> CallOutcome:
        """Run a tool. Ends in time. Cancelling it tells the server to stop."""
        ...

    def leave(self) -> None:
        """Close what was opened for this response; `ToolServers.close` waits for it. Idempotent."""
        ...


class ToolServers(Protocol):
    """The tool servers of the process."""

    @property
    def limits(self) -> ToolLimits:
        """Bounds that the loop keeps."""
        ...

    def check(self, server: ServerTool, param: str) -> None:
        """Raises the ApiError that refuses a server as a request names it; `param` is its place in the request."""
        ...

    def visit(self) -> ToolVisit:
        """For one response. Opens nothing yet."""
        ...

    async def close(self) -> None:
        """End every session and process. Idempotent."""
        ...
