"""`Idempotency-Key` over a real socket, on every POST that makes something."""

import asyncio
from typing import Any

import httpx
import pytest
from tests.support.live_server import PATIENCE_S, live_server
from tests.support.scripted_model import scripted_model

KEY = {"Idempotency-Key": "once"}
HELLO: dict[str, Any] = {"model": "test", "input": "hello"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/responses", HELLO),
        ("/responses", {**HELLO, "stream": True}),
        ("/responses", {**HELLO, "background": True}),
        ("/chat/completions", {"model": "test", "messages": [{"role": "user", "content": "hello"}]}),
        ("/conversations", {"metadata": {"k": "v"}}),
    ],
    ids=["json", "stream", "background", "chat", "conversation"],
)
async def test_a_repeated_post_gets_the_first_answer_byte_for_byte(path: str, body: dict[str, Any]) -> None:
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        first = await client.post(path, json=body, headers=KEY)
        again = await client.post(path, json=body, headers=KEY)
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        other = await client.post(path, json={**body, "user": "other"}, headers=KEY)
        assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")
        assert (await client.post(path, json=body)).content != first.content
        await asyncio.wait_for(server.app.connections.wait_empty(), PATIENCE_S)


async def test_two_at_once_are_one_turn() -> None:
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        body = {**HELLO, "input": "long", "stream": True}
        answers = await asyncio.gather(*[client.post("/responses", json=body, headers=KEY) for _ in range(3)])
        assert len({answer.content for answer in answers}) == 1
        assert len(server.app.services.records.latest()) == 1


async def test_a_client_that_leaves_stops_its_turn_and_may_try_again() -> None:
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        body = {**HELLO, "input": "forever", "stream": True}
        async with client.stream("POST", "/responses", json=body, headers=KEY) as stream:
            async for _ in stream.aiter_bytes():
                break
        await asyncio.wait_for(server.app.connections.wait_empty(), PATIENCE_S)
        assert [record.outcome for record in server.app.services.records.latest()] == ["cancelled"]
        again = await client.post("/responses", json=HELLO, headers=KEY)
        assert again.status_code == 200
