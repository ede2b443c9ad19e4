"""Tool servers that are plain functions of this process: for tests and demonstrations, and the measure of the real ones."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from hotloop.errors import InvalidRequest
from hotloop.protocol.hosted_tool import ServerTool
from hotloop.seams.hosted_tools import CallOutcome, OfferedTool, ToolLimits, ToolServerError

LocalTool = tuple[OfferedTool, Callable[[Mapping[str, Any]], Awaitable[str]]]


class LocalServers:
    """Implements `seams.hosted_tools.ToolServers` by functions; what one raises is the error of its call.

    Args:
        servers: the tools of each label. A server without tools cannot be reached.
        limits: only those that the loop keeps count.
    """

    def __init__(self, servers: Mapping[str, Sequence[LocalTool]], limits: ToolLimits | None = None) -> None:
        self.limits = limits or ToolLimits()
        self.visits = 0  # that were not left
        self._servers = servers

    def check(self, server: ServerTool, param: str) -> None:
        """See `ToolServers.check`."""
        if server.url is not None or server.label not in self._servers:
            raise InvalidRequest(f"No MCP server '{server.label}' is configured here.", param=f"{param}.server_label")

    def visit(self) -> "LocalVisit":
        """See `ToolServers.visit`."""
        self.visits += 1
        return LocalVisit(self, self._servers)

    async def close(self) -> None:
        """Nothing is open."""


class LocalVisit:
    """Implements `seams.hosted_tools.ToolVisit`."""

    def __init__(self, owner: LocalServers, servers: Mapping[str, Sequence[LocalTool]]) -> None:
        self._owner: LocalServers | None = owner
        self._servers = servers

    async def list_tools(self, server: ServerTool) -> Sequence[OfferedTool]:
        """See `ToolVisit.list_tools`."""
        tools = [tool for tool, _ in self._servers[server.label]]
        if not tools:
            raise ToolServerError("the server cannot be reached")
        return tools

    async def call(self, server: ServerTool, name: str, arguments: Mapping[str, Any]) -> CallOutcome:
        """See `ToolVisit.call`."""
        run = next((run for tool, run in self._servers[server.label] if tool.name == name), None)
        try:
            if run is None:
                raise LookupError(f"Unknown tool: {name}")
            return CallOutcome(output=await run(json.loads(json.dumps(arguments))))
        except Exception as error:
            content = [{"type": "text", "text": str(error)}]
            return CallOutcome(error={"type": "mcp_tool_execution_error", "content": content})

    def leave(self) -> None:
        """See `ToolVisit.leave`."""
        if self._owner is not None:
            self._owner.visits -= 1
            self._owner = None
