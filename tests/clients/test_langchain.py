"""LangChain's ChatOpenAI, unmodified, over the Responses API."""

from pathlib import Path
from typing import Any

import pytest
from tests.clients.weather import ABOUT, RAIN
from tests.support.real_clients import Turns, counted, run_python
from tests.support.served_command import Served

pytestmark = pytest.mark.long


def run(server: Served, home: Path, scenario: str) -> tuple[Any, Turns]:
    with counted(server) as turns:
        result = run_python("langchain", scenario, server, home)
    return result, turns


def test_a_tool_loop_that_sends_its_history_again(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "loop")
    assert result == {"text": RAIN, "asked": ["Oslo"]}
    assert turns.completed == {"http": 2}
    assert turns.recognised_tokens > 0


def test_a_tool_loop_that_sends_what_is_new(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "chain")
    assert result == {"text": RAIN, "asked": ["Oslo"]}
    assert turns.completed == {"http": 2}
    assert turns.recognised_tokens == 0


def test_a_stream_comes_in_pieces(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "stream")
    assert result["text"] == ABOUT
    assert result["pieces"] > 1
    assert turns.completed == {"sse": 1}


def test_structured_output_is_an_instance_of_the_class(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "structured")
    assert result == {"name": "red", "warm": True}
