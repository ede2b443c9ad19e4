"""pydantic-ai, unmodified, over the Responses API."""

from pathlib import Path
from typing import Any

import pytest
from tests.clients.weather import RAIN, SUN
from tests.support.real_clients import Turns, counted, run_python
from tests.support.served_command import Served

pytestmark = pytest.mark.long


def run(server: Served, home: Path, scenario: str) -> tuple[Any, Turns]:
    with counted(server) as turns:
        result = run_python("pydantic_agent", scenario, server, home)
    return result, turns


def test_tools_run_while_the_history_is_sent_again(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "loop")
    assert result == {"answers": [RAIN, SUN], "asked": ["Oslo", "Rome"]}
    assert turns.completed == {"http": 4}
    assert turns.recognised_tokens > 0
    assert not turns.others


def test_tools_run_on_a_chain_that_the_server_remembers(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "chain")
    assert result == {"answers": [RAIN], "asked": ["Oslo"]}
    assert turns.completed == {"http": 2}
    assert turns.recognised_tokens == 0


def test_a_streamed_run_uses_its_tool(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "stream")
    assert result["asked"] == ["Oslo"]
    assert result["text"].endswith(RAIN)
    assert turns.completed == {"sse": 2}


def test_native_output_is_an_instance_of_the_class(server: Served, tmp_path: Path) -> None:
    result, _ = run(server, tmp_path, "structured")
    assert result == {"name": "red", "warm": True}
