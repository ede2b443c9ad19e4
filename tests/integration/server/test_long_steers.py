"""Long events that act on a response are read in another process, and do what short ones do."""

import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from tests.support.event_order import check_response_events
from tests.support.live_server import Event, LiveServer, Socket, live_server, open_socket, output_text
from tests.support.scripted_model import LOOK_UP, STEERED, scripted_model

from hotloop.decoding.reader import UNAVAILABLE
from hotloop.protocol.client_event import ClientEvent, read_event
from hotloop.protocol.request import split_input

LONG = 2000
PADDING = "padding " * (LONG // 8)

SCRIPT: list[dict[str, Any]] = [
    *STEERED,
    {
        "match": "^look",
        "turns": [
            {"call": {"name": "look_up", "arguments": {"key": "a"}}, "pace": {"tokens": 1, "seconds": 0.01}},
        ],
    },
    {"match": "^hurry", "turns": [{"text": "Found."}]},
]


@pytest.fixture(autouse=True, params=["raw", "asgi"])
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.live_server.WEBSOCKET", request.param)
    monkeypatch.setattr("hotloop.turns.history.STRETCH_BYTES", LONG // 2)  # shorter than what is long, as it really is


@asynccontextmanager
async def connected() -> AsyncGenerator[tuple[LiveServer, Socket]]:
    async with (
        live_server(scripted_model(SCRIPT), checks_requests=False) as server,
        open_socket(server) as socket,
    ):
        server.app.reader._long_bytes = LONG
        yield server, socket


def fallbacks(server: LiveServer) -> int:
    return server.app.services.records.counters.fallbacks.get(UNAVAILABLE, 0)


def break_reading_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is long is not read on the loop from now on; the decode process is another program."""

    def read_short(message: bytes) -> ClientEvent:
        assert len(message) < LONG, "read on the loop"
        return read_event(message)

    def split_short(raw: msgspec.Raw) -> list[msgspec.Raw]:
        assert memoryview(raw).nbytes < LONG, "split on the loop"
        return split_input(raw)

    monkeypatch.setattr("hotloop.decoding.reader.read_event", read_short)
    monkeypatch.setattr("hotloop.server.served_connection.read_event", read_short)
    monkeypatch.setattr("hotloop.turns.history.split_input", split_short)


async def until(socket: Socket, kind: str) -> Event:
    while True:
        event = await socket.receive()
        assert event["type"] != "error", event
        if event["type"] == kind:
            return event


async def running(socket: Socket, text: str, **fields: Any) -> str:
    """A response whose first item is being written."""
    await socket.send(input=text, store=False, **fields)
    response_id: str = (await until(socket, "response.created"))["response"]["id"]
    await until(socket, "response.output_item.added")
    return response_id


async def steer(socket: Socket, target: str, value: object) -> None:
    await socket.send_text(
        json.dumps({"type": "response.steer", "previous_response_id": target, "input": value}, indent=1)
    )


WRONG: list[dict[str, Any]] = [
    {"type": "response.steer", "previous_response_id": "resp_unknown", "input": "x"},
    {"type": "response.steer", "previous_response_id": 7, "input": ["x", {"a": 1.50}]},
    {"type": "response.steer", "previous_response_id": "resp_unknown", "input": [{"role": "assistant", "content": ""}]},
    {"type": "response.steer", "previous_response_id": "resp_unknown"},
    {"type": "response.inject", "response_id": "resp_unknown", "input": [{"a": "ü"}]},
    {"type": "response.inject", "response_id": 7},
    {"type": "response.interrupt", "response_id": "resp_unknown"},
    {"type": "response.interrupt", "response_id": "resp_unknown", "mode": "x"},
    {"type": "response.interrupt", "response_id": 7},
    {"type": "unheard.of"},
    {"type": 7},
]


async def test_what_goes_wrong_is_told_as_of_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (server, socket):
        break_reading_here(monkeypatch)
        for event in WRONG:
            answers: list[str | bytes] = []
            for padding in ("", PADDING):
                await socket.send_text(json.dumps({**event, "x": padding}, ensure_ascii=False))
                answers.append(await socket.connection.recv())
            assert answers[0] == answers[1]
        assert server.app.reader.pids
        assert fallbacks(server) == 0


async def test_input_of_a_steer_that_is_refused_comes_back_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (_, socket):
        break_reading_here(monkeypatch)
        await steer(socket, "resp_unknown", PADDING)  # the process is there from now on
        await until(socket, "response.steer.failed")
        target = await running(socket, "ponder this")
        value = [{"role": "user", "content": PADDING}, {"role": "nobody", "content": PADDING}]
        await steer(socket, target, value)
        failed = await until(socket, "response.steer.failed")
        assert failed["steer"] == {"previous_response_id": target, "input": value}
        assert failed["error"]["code"] == "invalid_input" and "input[1].role" in failed["error"]["message"]


@pytest.mark.parametrize(
    "value",
    ["shorter, please " + PADDING, [{"role": "user", "content": PADDING}, {"role": "user", "content": "shorter"}]],
)
async def test_a_successor_takes_the_long_input(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (server, socket):
        break_reading_here(monkeypatch)
        await steer(socket, "resp_unknown", PADDING)  # the process is there from now on
        await until(socket, "response.steer.failed")
        target = await running(socket, "ponder this")
        await steer(socket, target, value)
        await socket.until_terminal()
        events = await socket.until_terminal()
        assert check_response_events(events)["previous_response_id"] == target
        assert output_text(events) == "Short, then."
        assert fallbacks(server) == 0


async def test_a_long_steer_stands_before_the_outputs_that_were_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (server, socket):
        break_reading_here(monkeypatch)
        await steer(socket, "resp_unknown", PADDING)
        await until(socket, "response.steer.failed")
        target = await running(socket, "look", tools=[LOOK_UP])
        await steer(socket, target, PADDING)
        (stub,) = (await until(socket, "response.steer.pending"))["required_input"]
        output = {"type": "function_call_output", "call_id": stub["call_id"], "output": "it is there"}
        own = [output, {"role": "user", "content": "hurry"}]
        events = await socket.turn(input=own, store=False, previous_response_id=target, tools=[LOOK_UP])
        assert output_text(events) == "Found."
        assert server.app.services.records.latest()[-1].new_items == 3
        assert fallbacks(server) == 0


async def test_the_process_is_killed_while_it_reads_a_steer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (server, socket):
        break_reading_here(monkeypatch)
        await steer(socket, "resp_unknown", PADDING)
        before = await until(socket, "response.steer.failed")
        pids = server.app.reader.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await steer(socket, "resp_unknown", PADDING)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert await until(socket, "response.steer.failed") == before
        assert not {*pids} & {*server.app.reader.pids}
        assert fallbacks(server) == 0


async def test_without_the_process_the_steer_is_read_here_and_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (server, socket):
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        target = await running(socket, "ponder this")
        await steer(socket, target, "shorter " + PADDING)
        await socket.until_terminal()  # at the end of an item, be it the last
        assert output_text(await socket.until_terminal()) == "Short, then."
        assert fallbacks(server) == 2  # the event, and the input of the successor
        assert UNAVAILABLE in server.app.services.records.latest()[-1].fallbacks
