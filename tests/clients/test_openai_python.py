"""openai-python, unmodified: WebSocket, streams, structured output, stored responses, conversations."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.clients.weather import ABOUT, RAIN
from tests.support.mcp_servers import stdio
from tests.support.real_clients import Turns, counted, run_python, scripted
from tests.support.served_command import Served

pytestmark = pytest.mark.long


def run(server: Served, home: Path, scenario: str) -> tuple[Any, Turns]:
    with counted(server) as turns:
        result = run_python("openai_python", scenario, server, home)
    return result, turns


def test_connect_runs_a_tool_loop_over_one_websocket(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "connect")
    assert result["answered"] == ['get_weather {"city": "Oslo"}']
    assert result["text"] == RAIN
    assert result["deltas"] > 1
    assert result["cached"] > 0
    assert turns.completed == {"websocket": 2}
    assert not turns.others


def test_an_error_event_leaves_the_connection_usable(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "error")
    assert result == {"type": "error", "code": "previous_response_not_found", "text": ABOUT}
    assert turns.completed == {"websocket": 1}


def test_steer_brings_a_successor(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "steer")
    assert result["texts"][1] == '{"name":"red","warm":true}'


def test_stream_ends_with_the_text_of_its_deltas(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "stream")
    assert result == {"deltas": ABOUT, "final": ABOUT}
    assert turns.completed == {"sse": 1}


def test_parse_gives_an_instance_of_the_class(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "parse")
    assert result == {"name": "red", "warm": True}


def test_retrieve_lists_and_deletes_a_stored_response(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "retrieve")
    assert result == {"same": True, "inputs": ["What can you do?"], "gone": "NotFoundError"}


def test_input_tokens_counts_what_a_response_then_uses(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "input_tokens")
    assert result["counted"] == result["used"] > 0


def test_conversations_remember(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "conversations")
    assert result == {"text": "Ada.", "items": ["message"] * 4, "deleted": True}


def test_compact_gives_items_to_go_on_from(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "compact")
    assert result["object"] == "response.compaction"
    assert "compaction" in result["kinds"]
    assert result["text"] == ABOUT


def test_tools_of_an_mcp_server_are_allowed_called_and_streamed(tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps({"servers": {"honest": stdio()}}))
    call = {"name": "honest__add", "arguments": {"a": 1, "b": 2}}
    script = {"scripts": [{"match": "^Add up", "turns": [{"call": call}, {"text": "It is 3."}]}]}
    with scripted(tmp_path, script, options=("--tool-servers", str(file))) as server:
        result, turns = run(server, tmp_path, "mcp")
    assert result == {
        "asked": 'honest add {"a": 1, "b": 2}',
        "output": "3",
        "events": ["response.mcp_call.in_progress", "response.mcp_call_arguments.done", "response.mcp_call.completed"],
        "text": "It is 3.",
        "socket": ["mcp_list_tools", "mcp_call", "message"],
    }
    assert turns.completed == {"http": 1, "sse": 1, "websocket": 1}
    assert not turns.others
