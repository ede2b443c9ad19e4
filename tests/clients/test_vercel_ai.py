"""The Vercel AI SDK, unmodified: its stream parser is strict about known events."""

from pathlib import Path
from typing import Any

import pytest
from tests.clients.weather import RAIN
from tests.support.real_clients import Turns, counted, run_node
from tests.support.served_command import Served

pytestmark = pytest.mark.long


def run(server: Served, home: Path, scenario: str) -> tuple[Any, Turns]:
    with counted(server) as turns:
        result = run_node("vercel_ai", scenario, server, home)
    return result, turns


def test_generate_text_runs_a_tool_loop(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "generate")
    assert (result["text"], result["asked"], result["steps"]) == (RAIN, ["Oslo"], 2)
    assert turns.completed == {"http": 2}
    assert turns.recognised_tokens > 0
    assert not turns.others


def test_stream_text_runs_a_tool_loop(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "stream")
    assert (result["asked"], result["steps"]) == (["Oslo"], 2)
    assert result["text"].endswith(RAIN)
    assert turns.completed == {"sse": 2}


def test_generate_object_fits_its_schema(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "object")
    assert result == {"name": "red", "warm": True}
