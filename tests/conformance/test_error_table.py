"""The error table (docs/protocol.md §10.4), row by row over both transports.

Of each: code, status, `type`, `param`, `stream_id`, that the connection lives on, that other lanes notice nothing, and
whether the parent is still there.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conformance.error_rows import ROWS, Json, Policy, Row
from tests.support.event_order import check_response_events
from tests.support.lanes import Lane, Lanes
from tests.support.live_server import Event, LiveServer, final_response, live_server, open_socket, output_text
from tests.support.recorded_traffic import sse_events
from tests.support.scripted_model import scripted_model
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hotloop.config import ServerSettings
from hotloop.storage.memory import MemoryStore

OTHER = "other"  # a lane that runs all the while
FORKS = [row for row in ROWS if row.takes_parent and row.continues]
PER_ROW = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@asynccontextmanager
async def serving(
    monkeypatch: pytest.MonkeyPatch, row: Row | None = None, **settings: Any
) -> AsyncGenerator[LiveServer]:
    store_bytes = 2**20 if row is None else row.store_bytes
    monkeypatch.setattr("hotloop.app.PatternPolicy", Policy)
    monkeypatch.setattr("hotloop.app.MemoryStore", lambda: MemoryStore(store_bytes))
    model = scripted_model(context_tokens=100_000 if row is None else row.context_tokens)
    async with live_server(model, ServerSettings(port=0, **settings)) as server:
        yield server


@asynccontextmanager
async def connected(
    monkeypatch: pytest.MonkeyPatch, row: Row | None = None, **settings: Any
) -> AsyncGenerator[tuple[LiveServer, Lanes]]:
    """A connection on which another lane is busy until the end, and notices nothing."""
    async with serving(monkeypatch, row, **settings) as server, open_socket(server) as socket:
        lanes = Lanes(socket)
        await lanes.create(OTHER, input="forever", store=False)
        events = await lanes.until(OTHER, "response.output_text.delta")
        yield server, lanes
        await lanes.say(type="response.interrupt", response_id=events[0]["response"]["id"])
        final = check_response_events(events + await lanes.until(OTHER), lane=OTHER)
        assert final["incomplete_details"] == {"reason": "interrupted"}


async def works(lanes: Lanes, lane: Lane, **fields: Any) -> None:
    events = await lanes.turn(lane, **{"input": "hello", "store": False, **fields})
    check_response_events(events, lane=lane)
    assert output_text(events).startswith("Hello yourself")


def check_error(event: Event, row: Row, lane: Lane) -> None:
    """The `error` event of a WebSocket."""
    assert event["type"] == "error", event
    assert event["status"] == row.status
    assert event.get("stream_id") == lane
    assert ("stream_id" in event) == (lane is not None)
    check_fields(event["error"], row)


def check_fields(error: Json, row: Row) -> None:
    assert (error["code"], error["type"], error.get("param")) == (row.code, row.type, row.param)
    assert error["message"]


@PER_ROW
@pytest.mark.parametrize("lane", [None, "main"], ids=["default lane", "named lane"])
async def test_over_websocket(row: Row, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(monkeypatch, row) as (_, lanes):
        begun = await lanes.turn(lane, store=False, **row.parent)
        parent = {"previous_response_id": final_response(begun)["id"]}
        fields: Json = {"input": "hello", "store": False, **(parent if row.takes_parent else {}), **row.fields}
        events = await lanes.turn(lane, **fields)
        if row.kind == "refused":
            (refusal,) = events
            check_error(refusal, row, lane)
        else:
            final = check_response_events(events, lane=lane)
            assert final["status"] == "failed"
            check_fields(final["error"], row)
        await works(lanes, lane)
        if not row.continues:
            return
        if row.takes_parent and row.evicts:
            (gone,) = await lanes.turn(lane, input="hello", store=False, **parent)
            assert gone["error"]["code"] == "previous_response_not_found"
        else:
            await works(lanes, lane, **parent)


@pytest.mark.parametrize("row", FORKS, ids=[row.name for row in FORKS])
async def test_a_fork_from_another_lane_leaves_the_parent(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(monkeypatch, row) as (_, lanes):
        begun = await lanes.turn("main", store=False, **row.parent)
        parent = {"previous_response_id": final_response(begun)["id"]}
        await lanes.turn("fork", **{"input": "hello", "store": False, **parent, **row.fields})
        await works(lanes, "main", **parent)


@PER_ROW
@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_over_http(row: Row, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch, row) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:

        async def create(**fields: Any) -> httpx.Response:
            return await client.post("/responses", json={"model": "test", "input": "hello", **fields})

        stores = row.store_bytes > 1000
        begun = await create(store=stores, **row.parent)
        parent = {"previous_response_id": begun.json()["id"]} if row.takes_parent and stores else {}
        answer = await create(**{**parent, "stream": stream, **row.fields})
        if stream and row.kind == "failed":
            assert answer.status_code == 200
            final = check_response_events(sse_events(answer.text))
            assert final["status"] == "failed"
            check_fields(final["error"], row)
        else:
            assert answer.status_code == row.status
            assert answer.headers["content-type"] == "application/json"
            check_fields(answer.json()["error"], row)
        assert (await create(store=False)).status_code == 200
        if parent and row.continues:  # the store has it, whatever became of the continuation
            assert (await create(**parent)).status_code == 200


# --- what only a WebSocket can do wrong ---


def of(code: str, status: int = 400, param: str | None = None, kind: str = "invalid_request_error") -> Row:
    return Row(code, code, {}, status, kind, param)


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 257, 7])
async def test_a_bad_lane_name(name: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(monkeypatch) as (_, lanes):
        await lanes.say(type="response.create", model="test", input="hello", stream_id=name)
        check_error(await lanes.next_event(None), of("invalid_stream_id", param="stream_id"), None)
        await works(lanes, None)


async def test_one_lane_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(monkeypatch) as (_, lanes):
        first = final_response(await lanes.turn("lane0", input="hello", store=False))
        for number in range(1, 31):  # with the lane that runs, 32
            await works(lanes, f"lane{number}")
        (error,) = await lanes.turn("one_more", input="hello", previous_response_id=first["id"])
        check_error(error, of("websocket_stream_limit_reached", param="stream_id"), "one_more")
        await works(lanes, "lane0", previous_response_id=first["id"])


async def test_the_end_of_the_lifetime(monkeypatch: pytest.MonkeyPatch) -> None:
    """New creates are refused, running turns finish, then the connection is closed."""
    async with serving(monkeypatch, connection_lifetime_s=1.0) as server, open_socket(server) as socket:
        lanes = Lanes(socket)
        await lanes.create("a", input="forever", store=False)
        events = await lanes.until("a", "response.output_text.delta")
        while True:  # until the lifetime is over
            (*_, last) = await lanes.turn("b", input="hello", store=False)
            if last["type"] == "error":
                break
        check_error(last, of("websocket_connection_limit_reached"), "b")
        await lanes.say(type="response.interrupt", response_id=events[0]["response"]["id"])
        check_response_events(events + await lanes.until("a"), lane="a")
        check_error(await lanes.next_event(None), of("websocket_connection_limit_reached"), None)
        assert await close_code(lanes) == 1001


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_request", "type"),
        ('{"type": 3}', "invalid_request", "type"),
        ('{"type": "response.dance"}', "invalid_request", "type"),
        (b'{"type": "response.create"}', "invalid_request", "type"),
    ],
)
async def test_no_client_event(message: str | bytes, code: str, param: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch) as server, open_socket(server) as socket:
        lanes = Lanes(socket)
        parent = final_response(await lanes.turn(None, input="hello", store=False))["id"]
        await socket.send_text(message)
        check_error(await lanes.next_event(None), of(code, param=param), None)
        await works(lanes, None, previous_response_id=parent)


async def test_background_over_websocket(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(monkeypatch) as (_, lanes):
        (error,) = await lanes.turn("main", input="hello", background=True)
        check_error(error, of("unsupported_parameter", param="background"), "main")
        await works(lanes, "main")


async def test_too_many_waiting_creates(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(monkeypatch) as (_, lanes):
        parent = final_response(await lanes.turn("main", input="hello", store=False))["id"]
        await lanes.create("main", input="forever", store=False)
        running = await lanes.until("main", "response.output_text.delta")
        for _ in range(64):
            await lanes.create("main", input="hello", store=False, previous_response_id=parent)
        await lanes.create("main", input="hello", store=False, previous_response_id=parent)
        *_, error = await lanes.until("main", "error")
        check_error(error, of("rate_limit_exceeded", 429, kind="rate_limit_error"), "main")
        await lanes.say(type="response.interrupt", response_id=running[0]["response"]["id"])
        assert final_response(await lanes.until("main"))["status"] == "incomplete"
        for _ in range(64):  # what waited is served, its parent was kept
            assert final_response(await lanes.until("main"))["status"] == "completed"


async def test_a_message_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch, max_message_bytes=10_000) as server:
        async with open_socket(server) as socket:
            await socket.send(input="x" * 20_000)
            assert await close_code(Lanes(socket)) == 1009
        async with httpx.AsyncClient(base_url=server.url) as client:
            answer = await client.post("/responses", json={"model": "test", "input": "x" * 20_000})
            assert answer.status_code == 413
            check_fields(answer.json()["error"], of("payload_too_large"))
            assert (await client.post("/responses", json={"model": "test", "input": "hello"})).status_code == 200


async def close_code(lanes: Lanes) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        await lanes.next_event(None)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


# --- before a request is looked at ---


@pytest.mark.parametrize(
    ("headers", "row"),
    [
        ({}, of("invalid_api_key", 401)),
        ({"Authorization": "Bearer wrong"}, of("invalid_api_key", 401)),
        (
            {"Authorization": "Bearer sesame", "Origin": "https://evil.example"},
            of("forbidden", 403, kind="permission_error"),
        ),
    ],
    ids=["no key", "a wrong key", "a foreign page"],
)
async def test_who_may_not_come_in(headers: dict[str, str], row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch, api_key="sesame") as server:
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(server, additional_headers=headers):
                pass
        assert refused.value.response.status_code == row.status
        check_fields(json.loads(refused.value.response.body or b"")["error"], row)
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
            answer = await client.post("/responses", json={"model": "test", "input": "hello"})
            assert answer.status_code == row.status
            check_fields(answer.json()["error"], row)


async def test_a_server_that_shuts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    row = of("server_is_overloaded", 503, kind="service_unavailable_error")
    async with connected(monkeypatch) as (server, lanes), httpx.AsyncClient(base_url=server.url) as client:
        drain = asyncio.create_task(server.app.connections.drain(30))
        await asyncio.sleep(0)  # it has begun
        (error,) = await lanes.turn("main", input="hello")
        check_error(error, row, "main")
        assert error["error"]["headers"]["retry-after"]
        answer = await client.post("/responses", json={"model": "test", "input": "hello"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        check_fields(answer.json()["error"], row)
    await drain


# --- what only HTTP can do wrong ---


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/responses/resp_unknown"),
        ("DELETE", "/responses/resp_unknown"),
        ("POST", "/responses/resp_unknown/cancel"),
        ("GET", "/responses/resp_unknown/input_items"),
    ],
)
async def test_an_unknown_response(method: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.request(method, path)
        assert answer.status_code == 404
        check_fields(answer.json()["error"], of("response_not_found"))


async def test_an_interrupt_of_an_unknown_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a WebSocket an `error` event would read as the end of the turn that runs."""
    async with connected(monkeypatch) as (_, lanes):
        await lanes.say(type="response.interrupt", response_id="resp_unknown")
        event = await lanes.next_event(None)
        assert event["type"] == "response.interrupt.failed"
        assert event["error"]["code"] == "response_not_found"
        await works(lanes, None)


@pytest.mark.parametrize(("body", "row"), [(b"{", of("invalid_json")), (b"\xff{}", of("invalid_json"))])
async def test_a_body_that_is_no_json(body: bytes, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/responses", content=body)
        assert answer.status_code == row.status
        check_fields(answer.json()["error"], row)


async def test_an_unknown_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(monkeypatch) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/responses", content=b"{}", headers={"Content-Encoding": "br"})
        assert answer.status_code == 415
        check_fields(answer.json()["error"], of("unsupported_content_encoding"))


async def test_too_many_background_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        serving(monkeypatch, background_running=1, background_waiting=0) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        body = {"model": "test", "input": "forever", "background": True}
        begun = (await client.post("/responses", json=body)).json()
        answer = await client.post("/responses", json=body)
        assert answer.status_code == 429
        assert answer.headers["retry-after"]
        check_fields(answer.json()["error"], of("rate_limit_exceeded", kind="rate_limit_error"))
        await client.post(f"/responses/{begun['id']}/cancel")


async def test_an_idempotency_key_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"Idempotency-Key": "one"}
    async with serving(monkeypatch) as server, httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        assert (await client.post("/responses", json={"model": "test", "input": "hello"})).status_code == 200
        answer = await client.post("/responses", json={"model": "test", "input": "hello again"})
        assert answer.status_code == 409
        check_fields(answer.json()["error"], of("idempotency_key_reused"))


# --- both, with more than one request ---


async def test_a_conversation_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    row = of("conversation_locked", 409, "conversation")
    async with connected(monkeypatch) as (server, lanes), httpx.AsyncClient(base_url=server.url) as client:
        conversation = (await client.post("/conversations", json={})).json()["id"]
        await lanes.create("a", input="forever", conversation=conversation)
        running = await lanes.until("a", "response.output_text.delta")
        (error,) = await lanes.turn("b", input="hello", conversation=conversation)
        check_error(error, row, "b")
        body = {"model": "test", "input": "hello", "conversation": conversation}
        answer = await client.post("/responses", json=body)
        assert answer.status_code == 409
        check_fields(answer.json()["error"], row)
        await lanes.say(type="response.interrupt", response_id=running[0]["response"]["id"])
        await lanes.until("a")
        await works(lanes, "b", conversation=conversation, store=True)


@pytest.mark.parametrize("transport", ["websocket", "json", "sse"])
async def test_a_forbidden_output(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released text is never rewritten: the response ends incomplete where the forbidden part would begin."""
    said: list[Json] = [{"match": ".", "turns": [{"text": "It begins well. And now the forbidden word, and more."}]}]
    monkeypatch.setattr("hotloop.app.PatternPolicy", Policy)
    async with live_server(scripted_model(said)) as server:
        if transport == "websocket":
            async with open_socket(server) as socket:
                final = check_response_events(await socket.turn(input="go"))
        else:
            async with httpx.AsyncClient(base_url=server.url) as client:
                body = {"model": "test", "input": "go", "stream": transport == "sse"}
                answer = await client.post("/responses", json=body)
                final = check_response_events(sse_events(answer.text)) if transport == "sse" else answer.json()
    assert final["incomplete_details"] == {"reason": "content_filter"}
    assert "begins well" in json.dumps(final["output"])
    assert "forbidden word" not in json.dumps(final["output"])


# --- the table itself ---

# Where the codes that no create of ROWS provokes are provoked.
BY_TEST = {
    "invalid_stream_id": test_a_bad_lane_name,
    "websocket_stream_limit_reached": test_one_lane_too_many,
    "websocket_connection_limit_reached": test_the_end_of_the_lifetime,
    "invalid_json": test_a_body_that_is_no_json,
    "invalid_request": test_no_client_event,
    "invalid_api_key": test_who_may_not_come_in,
    "rate_limit_exceeded": test_too_many_waiting_creates,
    "server_is_overloaded": test_a_server_that_shuts_down,
    "response_not_found": test_an_unknown_response,
    "payload_too_large": test_a_message_that_is_too_large,
    "conversation_locked": test_a_conversation_in_use,
    "idempotency_key_reused": test_an_idempotency_key_used_again,
    "unsupported_content_encoding": test_an_unknown_encoding,
}
NOT_PRODUCED = {
    "unknown_parameter": "unknown fields are ignored: agents add fields often",
    "insufficient_quota": "there are no quotas",
    "usage_not_included": "there are no plans",
    "slow_down": "`server_is_overloaded` says it",
}
# Provoked where more than a create is needed for it; the file names the code.
ELSEWHERE = {
    "invalid_encrypted_content": "tests/integration/server/test_sealed_reasoning.py",
    "remote_fetch_failed": "tests/integration/server/test_attachments.py",
    "remote_fetch_timeout": "tests/integration/server/test_attachments.py",
    "remote_content_too_large": "tests/integration/server/test_attachments.py",
}


def test_every_code_of_the_table_is_provoked_or_its_absence_explained() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "protocol.md").read_text()
    table = text[text.index("### 10.4 Table") : text.index("Open Responses error `type` values")]
    codes = {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([a-z_]+)`", line.split("|")[1])
    }
    assert codes == {row.code for row in ROWS} | set(BY_TEST) | set(NOT_PRODUCED) | set(ELSEWHERE)
    for code, path in ELSEWHERE.items():
        assert f'"{code}"' in (root / path).read_text(), code
