"""The agent loop as a library: `Agent` over a transport, with tools and a say in what they may do."""

from hotloop.client.calls import Approve, approve_all
from hotloop.client.errors import (
    AgentError,
    CannotConnect,
    ConnectionLost,
    RequestRefused,
    ResponseFailed,
    ResponseIncomplete,
    WebSocketBlocked,
)
from hotloop.client.http_sse import HttpTransport
from hotloop.client.journal import Call
from hotloop.client.loop import Agent, Limits
from hotloop.client.spending import Outcome, Spent
from hotloop.client.tools import BadArguments, EditTool, Invocation, ShellTool, Tool, ToolResult
from hotloop.client.transport import Transport
from hotloop.client.websocket import WebSocketTransport

__all__ = [
    "Agent",
    "AgentError",
    "Approve",
    "BadArguments",
    "Call",
    "CannotConnect",
    "ConnectionLost",
    "EditTool",
    "HttpTransport",
    "Invocation",
    "Limits",
    "Outcome",
    "RequestRefused",
    "ResponseFailed",
    "ResponseIncomplete",
    "ShellTool",
    "Spent",
    "Tool",
    "ToolResult",
    "Transport",
    "WebSocketBlocked",
    "WebSocketTransport",
    "approve_all",
]
