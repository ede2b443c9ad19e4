"""openai-node, unmodified: `ResponsesWS` and streams."""

from pathlib import Path
from typing import Any

import pytest
from tests.clients.weather import ABOUT, RAIN
from tests.support.real_clients import Turns, counted, run_node
from tests.support.served_command import Served

pytestmark = pytest.mark.long


def run(server: Served, home: Path, scenario: str) -> tuple[Any, Turns]:
    with counted(server) as turns:
        result = run_node("openai_node", scenario, server, home)
    return result, turns


@pytest.mark.parametrize("scenario", ["socket", "compressed"])
def test_responses_ws_runs_a_tool_loop(server: Served, tmp_path: Path, scenario: str) -> None:
    result, turns = run(server, tmp_path, scenario)
    assert result["answered"] == ['get_weather {"city": "Oslo"}']
    assert result["text"] == RAIN
    assert result["deltas"] > 1
    assert result["cached"] > 0
    assert turns.completed == {"websocket": 2}
    assert not turns.others


def test_an_error_event_leaves_the_connection_usable(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "refused")
    assert result == {"code": "previous_response_not_found", "text": ABOUT}
    assert turns.completed == {"websocket": 1}


def test_stream_ends_with_the_text_of_its_deltas(server: Served, tmp_path: Path) -> None:
    result, turns = run(server, tmp_path, "stream")
    assert result == {"deltas": ABOUT, "final": ABOUT}
    assert turns.completed == {"sse": 1}
