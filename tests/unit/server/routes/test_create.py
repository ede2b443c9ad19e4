import asyncio
import json
from typing import Any

import pytest
from tests.support.asgi_client import HttpExchange
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say
from tests.support.turns import Pipeline

from hotloop.decoding.reader import MessageReader
from hotloop.seams.engine import EndReason
from hotloop.server import http_turn
from hotloop.server.auth import AccessPolicy
from hotloop.server.background import BackgroundLimits, BackgroundTurns
from hotloop.server.connections import OpenConnections
from hotloop.server.door import Door
from hotloop.server.http_turn import HttpTurns
from hotloop.server.routes.create import CreateResponse
from hotloop.turns.terms import Terms, terms_of


class Server:
    """The create door over a toy pipeline."""

    def __init__(self, pipeline: Pipeline | None = None, *, api_key: str = "", max_pending_bytes: int = 2**20) -> None:
        self.pipeline = pipeline or Pipeline()
        self.open = OpenConnections()
        self.door = CreateResponse(
            HttpTurns(self.pipeline.runner, self.open, max_pending_bytes=max_pending_bytes),
            Door(AccessPolicy(api_key), self.open, MessageReader(2**20), max_body_bytes=1000),
            BackgroundTurns(self.pipeline.runner, self.open, BackgroundLimits()),
        )

    def post(self, **fields: Any) -> HttpExchange:
        return self.post_raw(json.dumps({"model": "toy", "input": "hi", **fields}).encode())

    def post_raw(self, body: bytes, **headers: str) -> HttpExchange:
        return HttpExchange(self.door, body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def next_run(self) -> None:
        await asyncio.wait_for(self.pipeline.engine.has_run.wait(), timeout=60)
        self.pipeline.engine.has_run.clear()

    def check_nothing_is_left(self) -> None:
        assert len(self.open) == 0
        assert all(run.is_over for run in self.pipeline.engine.runs)


async def test_without_stream_the_answer_is_the_response_object() -> None:
    server = Server()
    exchange = await server.post(store=False).over()
    assert exchange.status == 200
    assert exchange.headers[b"content-type"] == b"application/json"
    assert (exchange.json["status"], exchange.json["output"][0]["content"][0]["text"]) == ("completed", "ok")
    server.check_nothing_is_left()
    server.pipeline.services.prefixes.clear()
    assert server.pipeline.engine.open_handles == 0


async def test_with_stream_the_answer_is_every_event_then_done() -> None:
    server = Server()
    exchange = await server.post(stream=True).over()
    assert exchange.status == 200
    check_response_events(exchange.events)
    assert exchange.body.endswith(b"data: [DONE]\n\n")
    assert exchange.messages[-1]["more_body"] is False
    server.check_nothing_is_left()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_its_plain_status_streaming_or_not(stream: bool) -> None:
    exchange = await Server().post(stream=stream, model="gone").over()
    assert exchange.status == 404
    assert exchange.json["error"]["code"] == "model_not_found"


async def test_a_turn_that_fails_is_a_5xx_without_stream_and_says_when_to_retry() -> None:
    server = Server()
    server.pipeline.engine.fails_with = EndReason.UNAVAILABLE
    exchange = await server.post().over()
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "engine_unavailable")
    assert exchange.headers[b"retry-after"] == b"1"


async def test_a_turn_that_is_cut_is_still_a_200() -> None:
    exchange = await Server().post(max_output_tokens=2).over()
    assert (exchange.status, exchange.json["status"]) == (200, "incomplete")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"nonsense", {}, 400, "invalid_json"),
        (b'{"model":"\xff"}', {}, 400, "invalid_json"),
        (b'{"model":"toy","stream_id":"a"}', {}, 400, "invalid_value"),
        (b" " * 1001, {}, 413, "payload_too_large"),
        (b"{}", {"content_length": "1001"}, 413, "payload_too_large"),
        (b"{}", {"origin": "https://evil.example"}, 403, "forbidden"),
    ],
)
async def test_a_bad_request_is_refused_with_its_status(
    body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    exchange = await Server().post_raw(body, **headers).over()
    assert (exchange.status, exchange.json["error"]["code"]) == (status, code)


async def test_another_method_is_not_possible() -> None:
    exchange = await HttpExchange(Server().door, b"", method="DELETE").over()
    assert (exchange.status, exchange.json["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_its_turn(stream: bool) -> None:
    server = Server()
    server.pipeline.engine.pause()
    exchange = server.post(stream=stream, store=False)
    await server.next_run()
    exchange.leave()
    await exchange.over()
    await asyncio.wait_for(server.pipeline.engine.runs[0].over.wait(), timeout=60)
    server.check_nothing_is_left()
    assert server.pipeline.engine.open_handles == 0


async def test_a_client_that_leaves_before_its_request_was_read_is_no_matter() -> None:
    server = Server()
    exchange = server.post_raw(b"")
    exchange._inbox.get_nowait()
    exchange.leave()
    await exchange.over()
    assert exchange.messages == []


async def test_a_server_that_shuts_down_takes_nothing_new() -> None:
    server = Server()
    server.open.is_draining = True
    exchange = await server.post().over()
    assert (exchange.status, exchange.json["error"]["code"]) == (503, "server_is_overloaded")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_the_server_does_not_wait_for_is_stopped(stream: bool) -> None:
    server = Server()
    server.pipeline.engine.pause()
    exchange = server.post(stream=stream)
    await server.next_run()
    if stream:
        await asyncio.wait_for(exchange.began.wait(), timeout=60)
    await server.open.drain(timeout_s=0.01)
    await exchange.over()
    assert exchange.status == (200 if stream else 503)
    assert sum(message["type"] == "http.response.start" for message in exchange.messages) == 1
    if stream:
        error = exchange.events[-1]
        assert (error["type"], error["sequence_number"]) == ("error", len(exchange.events) - 1)
        assert error["code"] == error["error"]["code"] == "server_is_overloaded"
        assert exchange.body.endswith(b"data: [DONE]\n\n")
    server.check_nothing_is_left()


@pytest.mark.parametrize("way", ["cap", "patience", "shutdown"])
async def test_a_reader_that_never_reads_is_given_up(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "patience":
        monkeypatch.setattr(http_turn, "FLUSH_TIMEOUT_S", 0.01)
    pipeline = Pipeline(ToyEngine(lambda prompt: say("x" * 1000), context_tokens=4096))
    server = Server(pipeline, max_pending_bytes=3_000 if way == "cap" else 2**30)
    exchange = server.post(stream=True)
    exchange.hears.clear()
    await server.next_run()
    if way == "shutdown":
        await server.open.drain(timeout_s=0.01)
    await exchange.over()
    await asyncio.wait_for(pipeline.engine.runs[0].over.wait(), timeout=60)
    server.check_nothing_is_left()


async def test_unchanged_settings_are_not_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def noting(*given: Any, **asked: Any) -> Terms:
        made.append(given)
        return terms_of(*given, **asked)

    monkeypatch.setattr("hotloop.turns.terms.terms_of", noting)
    server = Server()
    tools = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in ("a", "b")]
    steps: list[tuple[dict[str, Any], int]] = [
        ({"tools": tools}, 1),
        ({"tools": tools}, 1),
        ({"tools": tools, "instructions": "Be brief."}, 2),
        ({"tools": tools, "instructions": "Be brief."}, 2),
        ({"tools": tools[1:], "instructions": "Be brief."}, 3),
        ({"tools": tools}, 4),
    ]
    previous: str | None = None
    for fields, expected in steps:
        answer = (await server.post(previous_response_id=previous, **fields).over()).json
        previous = answer["id"]
        assert [tool["name"] for tool in answer["tools"]] == [tool["name"] for tool in fields["tools"]]
        assert answer["instructions"] == fields.get("instructions")
        assert len(made) == expected
