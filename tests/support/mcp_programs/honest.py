"""A well-behaved MCP server made with the official package: `honest.py` on stdio, `honest.py http` on a free port it prints."""

import asyncio
import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations

SERVER = MCPServer("honest", log_level="CRITICAL")
COUNTS = {"calls": 0}


@SERVER.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> str:
    """Add two numbers."""
    COUNTS["calls"] += 1
    return str(a + b)


@SERVER.tool()
def note(text: str) -> str:
    """Write a note."""
    COUNTS["calls"] += 1
    return f"noted: {text}"


@SERVER.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@SERVER.tool()
def huge(size: int) -> str:
    """Return a long text."""
    return "x" * size


def _add_line(path: str, line: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


@SERVER.tool()
async def wait(path: str) -> str:
    """Wait for ever; `path` is written when it begins, and again when it is told to stop."""
    _add_line(path, "begun")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        _add_line(path, "stopped")
        raise
    return "late"


@SERVER.tool()
def die() -> str:
    """End the server."""
    os._exit(3)


@SERVER.tool()
def process() -> str:
    """Say which process this is, and what it sees of the environment."""
    return f"{os.getpid()} {os.environ.get('GIVEN')} {os.environ.get('HOTLOOP_API_KEY')}"


@SERVER.tool()
def headers(context: Context) -> str:
    """Say with which credentials the request came."""
    request: Any = context.request_context.request
    return str(request.headers.get("authorization")) + " " + str(request.headers.get("x-team"))


@SERVER.tool(name="odd name/with.signs")
def odd() -> str:
    """Has a name no model could write."""
    return "odd"


async def serve_http() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
    listener.listen()
    app = SERVER.streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve_http())
    else:
        SERVER.run("stdio")
