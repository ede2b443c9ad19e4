"""Real MCP servers for tests: programs of their own, on stdio and over HTTP."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hotloop.protocol.hosted_tool import ServerTool, server_tool

PROGRAMS = Path(__file__).parent / "mcp_programs"


def stdio(name: str = "honest", *args: str, **fields: Any) -> dict[str, Any]:
    """An entry of the configuration for one of the programs."""
    return {"command": sys.executable, "args": [str(PROGRAMS / f"{name}.py"), *args], **fields}


@asynccontextmanager
async def http_server(port: int = 0) -> AsyncGenerator[str]:
    """The honest server over HTTP, in a process of its own; the block gets its URL."""
    program = str(PROGRAMS / "honest.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, program, "http", str(port), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        yield f"http://127.0.0.1:{int(line)}/mcp"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def asked(label: str, **fields: Any) -> ServerTool:
    """The server as a request names it."""
    return server_tool(json.dumps({"type": "mcp", "server_label": label, **fields}).encode(), "tools[0]")
