"""Long messages are read in another process: on every path the client sees the same, in the same order."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
from tests.support.event_order import check_response_events, split_responses
from tests.support.live_server import (
    TERMINAL,
    LiveServer,
    Socket,
    final_response,
    live_server,
    open_socket,
    output_text,
)
from tests.support.scripted_model import scripted_model

from hotloop.decoding.reader import UNAVAILABLE
from hotloop.protocol.items import Item
from hotloop.protocol.request import decode_item


@pytest.fixture(autouse=True, params=["raw", "asgi"])
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.live_server.WEBSOCKET", request.param)


LONG = 2000


@asynccontextmanager
async def connected() -> AsyncGenerator[tuple[LiveServer, Socket]]:
    async with live_server(scripted_model()) as server, open_socket(server) as socket:
        server.app.reader._long_bytes = LONG
        yield server, socket


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


PADDED = user("padding " * (LONG // 8))


async def test_what_follows_a_long_message_waits_for_it() -> None:
    async with connected() as (server, socket):
        await socket.send(input=[PADDED, user("hello")], metadata={"n": "0"})
        await socket.send(input="hello", metadata={"n": "1"})
        await socket.connection.send(b"binary")
        await socket.send(input=[PADDED, user("hello")], metadata={"n": "2"})
        await socket.send(input=[PADDED, {"role": "nobody"}], stream_id="other")
        await socket.send(input="hello", metadata={"n": "4"})
        events: list[dict[str, Any]] = []
        while sum(event["type"] in TERMINAL for event in events) < 6:
            events.append(await socket.receive())
        errors = [event for event in events if event["type"] == "error"]
        turns = split_responses([event for event in events if event["type"] != "error"])
        assert [final_response(turn)["metadata"]["n"] for turn in turns] == ["0", "1", "2", "4"]
        assert [event["error"]["param"] for event in errors] == ["type", "input[1].role"]
        assert server.app.reader.pids


async def test_a_long_history_is_recognised_and_only_what_is_new_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (server, socket):
        first = await socket.turn(input=[PADDED, user("hello")], store=False)
        output = final_response(first)["output"]
        parsed: list[object] = []

        def noting(raw: msgspec.Raw, param: str) -> Item:
            parsed.append(param)
            return decode_item(raw, param)

        monkeypatch.setattr("hotloop.turns.history.decode_item", noting)
        resent = [{"content": PADDED["content"], "role": "user"}, user("hello"), *output]  # written anew
        second = await socket.turn(input=[*resent, user("hello")], store=False)
        check_response_events(second)
        record = server.app.services.records.latest()[-1]
        assert record.recognised_items == len(resent)
        assert parsed == [f"input[{len(resent)}]"]
        assert server.slower_paths(record) == []


async def test_a_long_continuation_over_its_parent() -> None:
    async with connected() as (_, socket):
        first = await socket.turn(input="hello, the magic word is plum", store=False)
        second = await socket.turn(
            input=[PADDED, user("remember")], store=False, previous_response_id=final_response(first)["id"]
        )
        check_response_events(second)
        assert final_response(second)["usage"]["input_tokens_details"]["cached_tokens"] > 0


async def test_refusals_of_long_messages_are_those_of_short_ones() -> None:
    wrong: list[dict[str, Any]] = [
        {"input": [user("hello"), {"type": "function_call", "name": "f"}]},
        {"input": "hello", "temperature": 7},
        {"input": "hello", "tools": [{"type": "function"}]},
        {"input": "hello", "stream_id": "a b"},
        {"input": [{"type": "item_reference", "id": "msg_unknown"}]},
        {"input": "hello", "previous_response_id": "resp_unknown"},
        {"input": "hello", "background": True},
    ]
    async with connected() as (_, socket):
        for fields in wrong:
            (short,) = await socket.turn(**fields)
            (long,) = await socket.turn(**fields, padding="x" * LONG)
            assert long == short
        await socket.send_text('{"type":"unheard.of","x":"%s"}' % ("x" * LONG))
        assert (await socket.receive())["error"]["code"] == "invalid_request"
        await socket.send_text('{"type":"response.create","x":"%s"' % ("x" * LONG))
        assert (await socket.receive())["error"]["code"] == "invalid_json"
        assert output_text(await socket.turn(input=[PADDED, user("hello")])).startswith("Hello")


async def test_the_process_is_killed_between_two_messages_and_within_one() -> None:
    async with connected() as (server, socket):
        for at_work in (False, True):
            check_response_events(await socket.turn(input=[PADDED, user("hello")]))
            (pid,) = server.app.reader.pids
            if at_work:
                os.kill(pid, signal.SIGSTOP)
                await socket.send(input=[PADDED, user("hello")])
                os.kill(pid, signal.SIGKILL)
                check_response_events(await socket.until_terminal())
            else:
                os.kill(pid, signal.SIGKILL)


async def test_a_client_that_leaves_while_its_message_is_read_leaves_nothing_behind() -> None:
    async with connected() as (server, socket):
        await socket.turn(input=[PADDED, user("hello")])
        (pid,) = server.app.reader.pids
        os.kill(pid, signal.SIGSTOP)
        async with open_socket(server) as other:
            await other.send(input=[PADDED, user("hello")])
            await other.send(input="hello")
            await socket.turn(input="hello")  # a round trip: the message has been received
        os.kill(pid, signal.SIGCONT)
        check_response_events(await socket.turn(input=[PADDED, user("hello")]))


async def test_without_the_process_the_turn_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as (server, socket):
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        check_response_events(await socket.turn(input=[PADDED, user("hello")]))
        assert UNAVAILABLE in server.app.services.records.latest()[-1].fallbacks
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            body = {"model": "test", "input": [PADDED, user("hello")]}
            assert (await client.post("/responses", json=body)).status_code == 200
            assert UNAVAILABLE in server.app.services.records.latest()[-1].fallbacks
        assert server.app.services.records.counters.fallbacks[UNAVAILABLE] == 2


async def test_long_bodies_over_http() -> None:
    async with connected() as (server, _), httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        body: dict[str, Any] = {"model": "test", "input": [PADDED, user("hello")]}
        answer = await client.post("/responses", json=body)
        assert answer.json()["output"][0]["content"][0]["text"].startswith("Hello")
        counted = await client.post("/responses/input_tokens", json=body)
        assert counted.json()["input_tokens"] == answer.json()["usage"]["input_tokens"]
        wrong = {**body, "input": [PADDED, {"role": "user"}]}
        for path in ("/responses", "/responses/input_tokens"):
            refused = await client.post(path, json=wrong)
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[1].content")
        broken = await client.post("/responses", content=json.dumps(body)[:-1])
        assert broken.json()["error"]["code"] == "invalid_json"
        several = await asyncio.gather(*(client.post("/responses", json=body) for _ in range(4)))
        assert all(one.status_code == 200 for one in several)
