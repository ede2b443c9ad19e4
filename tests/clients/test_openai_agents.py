"""openai-agents for Python, unmodified, over WebSocket."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.clients.weather import ABOUT, RAIN, SUN
from tests.support.mcp_servers import stdio
from tests.support.real_clients import CLIENTS, Turns, counted, run_client, run_python, scripted
from tests.support.served_command import Served

pytestmark = pytest.mark.long


def run(server: Served, home: Path, scenario: str) -> tuple[Any, Turns]:
    with counted(server) as turns:
        result = run_python("openai_agents", scenario, server, home)
    return result, turns


def test_tools_run_on_a_chain_that_the_server_remembers(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "tools")
    assert result == {"answers": [RAIN, SUN], "asked": ["Oslo", "Rome"]}
    assert turns.completed == {"websocket": 4}
    assert not turns.others
    assert not turns.fallbacks
    assert turns.recognised_tokens == 0  # nothing was sent twice


def test_a_streamed_run_shows_every_turn(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "streamed")
    assert result["answer"] == RAIN
    assert result["asked"] == ["Oslo"]
    assert result["deltas"] > 1
    assert result["turns"] == 2
    assert turns.completed == {"websocket": 2}


def test_a_handoff_reaches_the_other_agent(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "handoff")
    assert result == {"answer": RAIN, "asked": ["Oslo"], "agent": "Weather agent"}
    assert turns.completed == {"websocket": 3}
    assert not turns.others


def test_a_resent_history_is_recognised(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "history")
    assert result == {"answer": "Ada."}
    assert turns.completed == {"websocket": 2}
    assert turns.recognised_tokens > 0


def test_the_program_that_connect_prints_runs_as_it_stands(server: Served, tmp_path: Path) -> None:
    connect = [sys.executable, "-m", "hotloop", "connect", "agents", "--url", server.url]
    program = tmp_path / "agent.py"
    program.write_text(subprocess.run(connect, capture_output=True, text=True, check=True).stdout)
    with counted(server) as turns:
        ended = run_client([CLIENTS / "python" / "bin" / "python", program], home=tmp_path, cwd=tmp_path)
    assert ended.out.strip() == ABOUT, ended.err
    assert turns.completed == {"websocket": 1}


def test_a_tool_that_the_server_runs_is_allowed_by_the_client(tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps({"servers": {"honest": stdio()}}))
    call = {"name": "honest__add", "arguments": {"a": 1, "b": 2}}
    script = {
        "scripts": [
            {"match": "^Add up", "turns": [{"call": call}, {"text": "It is 3."}]},
            {"match": "^Thanks", "turns": [{"text": "Gladly."}]},
        ]
    }
    with scripted(tmp_path, script, options=("--tool-servers", str(file))) as server:
        result, turns = run(server, tmp_path, "hosted")
    assert result["answers"] == ["It is 3.", "Gladly."]
    assert result["asked"] == ["honest add"]
    assert result["again"] == ["MessageOutputItem"]
    assert turns.completed == {"websocket": 3}
    assert not turns.others
