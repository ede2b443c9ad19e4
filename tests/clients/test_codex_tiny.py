"""The Codex CLI, unmodified, repairs a repository with the demonstration model, which decides every step.

The model knows two tools and nothing else. Codex gets them from an MCP server; a gateway takes Codex's other tools out of the
requests, which Codex has no setting for.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.real_clients import NODE_MODULES, PROGRAMS, counted, run_client
from tests.support.served_command import served
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from hotloop.cli import demo_repository
from hotloop.client.contract import INSTRUCTIONS, TOOLS

pytestmark = pytest.mark.long

# Codex keeps the tools of an MCP server in a namespace of the server's name; models write this one's without it.
NAMESPACE = "functions"


def write_settings(home: Path, folder: Path, url: str, model: str) -> None:
    """A Codex that says nothing to the model but the agent's instructions and the task."""
    (home / "instructions.md").write_text(INSTRUCTIONS)
    (home / "config.toml").write_text(f"""\
model = {json.dumps(model)}
model_provider = "hotloop"
model_instructions_file = {json.dumps(str(home / "instructions.md"))}
check_for_update_on_startup = false
include_environment_context = false
include_permissions_instructions = false
include_apps_instructions = false
include_collaboration_mode_instructions = false
web_search = "disabled"

[agents]
enabled = false

[analytics]
enabled = false

[skills]
include_instructions = false

[skills.bundled]
enabled = false

[features]
plugins = false
apps = false
shell_tool = false
unified_exec = false
goals = false
view_image = false
non_prefixed_mcp_tool_names = true

[mcp_servers.{NAMESPACE}]
command = {json.dumps(sys.executable)}
args = [{json.dumps(str(PROGRAMS / "agent_tools.py"))}, {json.dumps(str(folder))}]
required = true
startup_timeout_sec = 60

[model_providers.hotloop]
name = "hotloop"
base_url = {json.dumps(url)}
wire_api = "responses"
supports_websockets = true
""")


@asynccontextmanager
async def gateway(url: str) -> AsyncGenerator[str]:
    """A base URL in front of `url` at which the agent's two tools are the only ones."""
    tools = [{"type": "namespace", "name": NAMESPACE, "description": "", "tools": list(TOOLS)}]
    upstream = f"{url.replace('http', 'ws', 1)}/responses"

    async def pass_down(server: ClientConnection, client: ServerConnection) -> None:
        async for message in server:
            await client.send(message)

    async def forward(client: ServerConnection) -> None:
        async with connect(upstream, max_size=None) as server:
            down = asyncio.create_task(pass_down(server, client))
            with suppress(ConnectionClosed):  # Codex leaves without saying so
                async for message in client:
                    request: dict[str, Any] = json.loads(message)
                    await server.send(json.dumps({**request, "tools": tools}))
            down.cancel()

    async with serve(forward, "127.0.0.1", 0, max_size=None) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"


async def test_it_repairs_a_repository_with_the_demonstration_model(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    demo_repository.write_repository(folder)
    assert not demo_repository.tests_pass(folder)
    codex = NODE_MODULES / ".bin" / "codex"
    manners = ("--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    command: list[str | Path] = [codex, "exec", *manners, demo_repository.TASK]
    with served(("--log-level", "warning")) as server, counted(server) as turns:
        async with gateway(server.url) as url:
            write_settings(home, folder, url, server.model)
            ended = await asyncio.to_thread(run_client, command, home=home, cwd=folder, CODEX_HOME=str(home))
    assert ended.code == 0, f"{ended.out}\n{ended.err}"
    assert demo_repository.tests_pass(folder), ended.out
    events = [json.loads(line) for line in ended.out.splitlines() if line.startswith("{")]
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    assert [item["tool"] for item in items if item["type"] == "mcp_tool_call"].count("edit") == 1
    assert set(turns.completed) == {"websocket"}
    assert not turns.others
    assert not turns.fallbacks
