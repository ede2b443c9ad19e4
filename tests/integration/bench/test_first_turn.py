"""What the first turn of a server waits for, against the next ones whose grammar is new too (docs/measurements.md)."""

import json
import logging
import time
from statistics import median
from typing import Any

from tests.support.served_command import Served, served
from websockets.sync.client import ClientConnection, connect

logger = logging.getLogger(__name__)

SERVERS = 3
TURNS = 5


def tool(number: int) -> dict[str, Any]:
    """One whose grammar no turn before it had."""
    fields = {f"key_{number}": {"type": "string"}}
    parameters = {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}
    return {"type": "function", "name": f"look_up_{number}", "parameters": parameters, "strict": True}


def rendering_ms(socket: ClientConnection, served: Served, number: int) -> float:
    """A turn's time from admission to the whole prompt and its grammar."""
    create = {"type": "response.create", "model": served.model, "store": False, "input": "hello"}
    socket.send(json.dumps({**create, "tools": [tool(number)], "max_output_tokens": 2}))
    timing: dict[str, Any] = {}
    while True:
        event = json.loads(socket.recv(30))
        if event["type"] == "hotloop:timing":
            timing = event["stamps"]
        elif event["type"] in ("response.completed", "response.incomplete"):
            return float(timing["rendered"] - timing["admitted"]) * 1e3
        assert event["type"] not in ("response.failed", "error"), event


def test_the_first_turn_of_a_server_is_one_like_any_other() -> None:
    first: list[float] = []
    later: list[float] = []
    ready: list[float] = []
    for _ in range(SERVERS):
        started = time.perf_counter()
        with served() as server:
            ready.append(time.perf_counter() - started)
            url = server.url.replace("http", "ws", 1) + "/responses"
            with connect(url, additional_headers={"hotloop-timing": "1"}, compression=None) as socket:
                taken = [rendering_ms(socket, server, number) for number in range(TURNS)]
        first.append(taken[0])
        later += taken[1:]
    logger.info(
        "a first turn's rendering: %.1f ms, of the next ones: %.1f ms; a server is ready after %.2f s",
        median(first),
        median(later),
        median(ready),
    )
    assert median(first) < 5 * median(later), "it waited for a process to start"
