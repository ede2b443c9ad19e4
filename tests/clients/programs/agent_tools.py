"""The two tools of hotloop's own agent as an MCP server on stdio: `agent_tools.py FOLDER`."""

import json
import sys
from pathlib import Path

from mcp.server import MCPServer

from hotloop.client import EditTool, ShellTool
from hotloop.client.contract import EDIT, SHELL

FOLDER = Path(sys.argv[1])
SERVER = MCPServer("agent-tools")


@SERVER.tool(description=SHELL["description"], structured_output=False)
async def shell(command: str) -> str:
    return (await ShellTool(FOLDER).prepare(json.dumps({"command": command})).run()).output


@SERVER.tool(description=EDIT["description"], structured_output=False)
async def edit(path: str, old: str, new: str) -> str:
    arguments = json.dumps({"path": path, "old": old, "new": new})
    return (await EditTool(FOLDER).prepare(arguments).run()).output


SERVER.run("stdio")
