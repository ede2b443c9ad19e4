"""The agent against the real server with the scripted engine: both sides of the wire are ours, and they agree."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.client.agents import PATIENCE_S, Kind, make_agent
from tests.support.live_server import live_server
from tests.support.scripted_model import scripted_model

from hotloop.client import EditTool, HttpTransport, ResponseFailed, ShellTool, WebSocketTransport

CONVERSATIONS: list[dict[str, Any]] = [
    {
        "match": "^fix",
        "turns": [
            {"call": {"name": "shell", "arguments": {"command": "echo 1 > a.txt; cat a.txt"}}},
            {"call": {"name": "edit", "arguments": {"path": "a.txt", "old": "1", "new": "2"}}},
            {"call": {"name": "shell", "arguments": {"command": "cat a.txt"}}},
            {"text": "Fixed it."},
        ],
    },
    {"match": "^what", "turns": [{"text": "It was fixed.", "requires_history": "edited a.txt"}]},
    {"match": "^die", "turns": [{"text": "half of it", "fail": {"reason": "unavailable", "after_tokens": 3}}]},
]


@pytest.mark.parametrize("kind", ["ws", "http"])
async def test_a_tool_loop_and_a_follow_up(kind: Kind, tmp_path: Path) -> None:
    async with live_server(scripted_model(CONVERSATIONS)) as server:
        transport = WebSocketTransport(server.url) if kind == "ws" else HttpTransport(server.url)
        agent = make_agent(transport, ShellTool(tmp_path), EditTool(tmp_path), model="test")
        async with agent:
            fixed = await asyncio.wait_for(agent.run("fix it"), PATIENCE_S)
            asked = await asyncio.wait_for(agent.run("what was it?"), PATIENCE_S)
            with pytest.raises(ResponseFailed) as caught:
                await asyncio.wait_for(agent.run("die"), PATIENCE_S)
    assert (tmp_path / "a.txt").read_text() == "2\n"
    assert (fixed.text, fixed.spent.turns, asked.text) == ("Fixed it.", 4, "It was fixed.")
    assert caught.value.code == "engine_unavailable"
    assert fixed.spent.cached_tokens > 0
    assert fixed.spent.engine_s is not None
    assert agent.counters.reconnects == (2 if kind == "ws" else 0)  # one for each retry of the turn that dies
