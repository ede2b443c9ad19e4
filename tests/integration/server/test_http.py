"""The HTTP door over a real socket: JSON, SSE, retrieve, refusals."""

import asyncio
import gzip
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest
import zstandard
from tests.integration.server.test_websocket import REFUSED
from tests.support.event_order import check_response_events
from tests.support.live_server import LiveServer, live_server
from tests.support.recorded_traffic import sse_events
from tests.support.scripted_model import LOOK_UP, scripted_model

from hotloop.config import ServerSettings


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[tuple[LiveServer, httpx.AsyncClient]]:
    async with (
        live_server(scripted_model(), ServerSettings(port=0, **settings)) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        yield server, client


async def create(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/responses", json={"model": "test", **fields})


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


async def test_a_json_answer_is_the_response_object() -> None:
    async with served() as (_, client):
        answer = await create(client, input="hello")
        assert answer.status_code == 200
        assert text_of(answer.json()) == "Hello yourself, \u00e9lan \U0001f600."


async def test_a_stream_has_the_same_events_as_a_socket_and_ends_with_done() -> None:
    async with served() as (_, client):
        answer = await create(client, input="think", stream=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = sse_events(answer.text)
        check_response_events(events)
        assert events[-1]["type"] == "response.completed"
        assert "stream_id" not in events[0]


async def test_a_stored_response_can_be_read_and_continued() -> None:
    async with served() as (_, client):
        first = (await create(client, input="hello, the magic word is plum")).json()
        assert (await client.get(f"/responses/{first['id']}")).json() == first
        second = (await create(client, input="remember", previous_response_id=first["id"])).json()
        assert text_of(second) == "I do."
        assert second["usage"]["input_tokens_details"]["cached_tokens"] > 0


async def test_an_unstored_response_is_gone_at_once() -> None:
    async with served() as (server, client):
        first = (await create(client, input="hello", store=False)).json()
        assert (await client.get(f"/responses/{first['id']}")).status_code == 404
        again = await create(client, input="hello", previous_response_id=first["id"])
        assert again.status_code == 400
        assert again.json()["error"]["code"] == "previous_response_not_found"
        assert len(server.app.services.chains) == 0


async def test_a_full_history_finds_the_kv_of_the_turn_before() -> None:
    async with served() as (_, client):
        history: list[Any] = [{"role": "user", "content": "two steps"}]
        usages: list[dict[str, Any]] = []
        done: dict[str, Any] = {}
        for _ in range(3):
            done = (await create(client, input=history, tools=[LOOK_UP], store=False)).json()
            usages.append(done["usage"])
            history += done["output"]
            history += [
                {"type": "function_call_output", "call_id": item["call_id"], "output": "found"}
                for item in done["output"]
                if item["type"] == "function_call"
            ]
        assert text_of(done) == "Both are known."
        for before, after in pairwise(usages):
            assert after["input_tokens_details"]["cached_tokens"] >= before["input_tokens"]


@pytest.mark.parametrize(
    ("fields", "code", "status", "param"),
    [row[1:] for row in REFUSED if row[0] not in ("lane", "background")],
    ids=[row[0] for row in REFUSED if row[0] not in ("lane", "background")],
)
async def test_a_refused_request_gets_its_status_and_code(
    fields: dict[str, Any], code: str, status: int, param: str | None
) -> None:
    async with served() as (_, client):
        answer = await create(client, **{"input": "hello", **fields})
        assert answer.status_code == status
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == (code, param)
        assert (await create(client, input="hello")).status_code == 200


@pytest.mark.parametrize(("word", "status"), [("die early", 503), ("die late", 503), ("time out", 504)])
async def test_an_engine_failure_is_a_5xx_without_a_stream_and_response_failed_with_one(word: str, status: int) -> None:
    async with served() as (_, client):
        assert (await create(client, input=word)).status_code == status
        events = sse_events((await create(client, input=word, stream=True)).text)
        check_response_events(events)
        assert events[-1]["type"] == "response.failed"


async def test_refusals_of_a_stream_are_plain_answers() -> None:
    async with served() as (_, client):
        answer = await create(client, input="hello", stream=True, previous_response_id="resp_x")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/json"


async def test_bodies_that_are_no_request_are_refused() -> None:
    async with served(max_message_bytes=5000) as (_, client):
        assert (await client.post("/responses", content=b"{")).json()["error"]["code"] == "invalid_json"
        assert (await client.post("/responses", content=b"[]")).json()["error"]["code"] == "invalid_type"
        assert (await create(client, input="hello", stream_id="a")).json()["error"]["param"] == "stream_id"
        big = await create(client, input="x" * 6000)
        assert (big.status_code, big.json()["error"]["code"]) == (413, "payload_too_large")


async def test_a_client_that_leaves_stops_its_turn() -> None:
    async with served() as (server, client):
        async with client.stream(
            "POST", "/responses", json={"model": "test", "input": "forever", "stream": True}
        ) as stream:
            async for _ in stream.aiter_bytes():
                break
        async with asyncio.timeout(30):
            await server.app.connections.wait_empty()
        assert not server.app.services.models["test"].engine.runs  # type: ignore[attr-defined]  # the scripted one
        assert [record.outcome for record in server.app.services.records.latest()] == ["cancelled"]


async def test_models_health_and_unknown_paths() -> None:
    async with served() as (_, client):
        (model,) = (await client.get("/models")).json()["data"]
        assert model["id"] == "test"
        assert (await client.get("/models/test")).json() == model
        assert (await client.get("/models/none")).json()["error"]["code"] == "model_not_found"
        assert (await client.get(str(client.base_url).replace("/v1/", "/healthz"))).json()["status"] == "ok"
        assert (await client.get("/nowhere")).json()["error"]["code"] == "not_found"
        assert (await client.get("/responses")).status_code == 405
        assert (await client.get("/responses/resp_none")).json()["error"]["code"] == "response_not_found"


async def test_the_key_is_asked_for() -> None:
    async with served(api_key="sesame") as (_, client):
        assert (await create(client, input="hello")).status_code == 401
        assert (await client.get("/models")).status_code == 401
        for headers in ({"Authorization": "Bearer sesame"}, {"api-key": "sesame"}):
            assert (await client.get("/models", headers=headers)).status_code == 200


async def test_without_a_key_only_loopback_names_are_answered_to() -> None:
    async with served() as (_, client):
        assert (await client.get("/models", headers={"Host": "evil.example"})).status_code == 403
        assert (await client.get("/models", headers={"Origin": "https://evil.example"})).status_code == 403
        assert (await client.get("/models", headers={"Origin": "http://localhost:3000"})).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_compressed_request_is_read_and_a_bomb_is_refused(encoding: str) -> None:
    compress = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor().compress
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    async with served(max_message_bytes=100_000) as (_, client):
        body = json.dumps({"model": "test", "input": "hello"}).encode()
        answer = await client.post("/responses", content=compress(body), headers=headers)
        assert answer.status_code == 200
        bomb = compress(b" " * 50_000_000)
        assert len(bomb) < 100_000
        for path in ("/responses", "/responses/input_tokens", "/chat/completions", "/conversations"):
            refused = await client.post(path, content=bomb, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large")
        unknown = await client.post("/responses", content=body, headers={**headers, "Content-Encoding": "br"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (415, "unsupported_content_encoding")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/responses", "POST"),
        ("GET", "/chat/completions", "POST"),
        ("PATCH", "/responses/resp_x", "GET"),
        ("GET", "/responses/resp_x/cancel", "POST"),
        ("POST", "/models", "GET"),
    ],
)
async def test_a_wrong_method_is_told_the_right_one(method: str, path: str, allowed: str) -> None:
    async with served() as (_, client):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert allowed in answer.headers["allow"]
