"""Clients that do not finish what they send, and heads that do not end, over real sockets."""

import asyncio
from contextlib import suppress
from typing import Any, cast

import pytest
from tests.support.live_server import LiveServer, live_server
from tests.support.scripted_model import scripted_model
from tests.unit.server.test_raw_writes import Transport
from uvicorn.config import Config
from uvicorn.server import ServerState

from hotloop.server.guarded import MAX_HEAD_BYTES, GuardedHttp

HEAD = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
BEGINNINGS = {"nothing": b"", "half a head": HEAD[:40], "no body": HEAD, "half a body": HEAD + b'{"model": '}


async def opened(server: LiveServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_who_does_not_go_on_is_cut_off(beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedHttp, "slow_sender_s", 0.05)
    async with live_server(scripted_model()) as server:
        reader, writer = await opened(server)
        writer.write(beginning)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        assert not server.uvicorn.server_state.connections
        assert not server.app.services.records.latest(), "what never came is no turn"


async def test_a_finished_request_is_answered_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedHttp, "slow_sender_s", 0.01)
    body = b'{"model": "test", "input": "hello", "stream": true}'
    model = scripted_model([{"match": "^hello", "turns": [{"text": "At last.", "delay": 0.1}]}])
    async with live_server(model) as server:
        reader, writer = await opened(server)
        writer.write(HEAD.replace(b"1000", b"%d" % len(body)) + body)
        answer = await asyncio.wait_for(reader.readuntil(b"data: [DONE]\n\n"), 30)
        assert b"response.completed" in answer
        writer.close()


@pytest.mark.parametrize("piece", [b"x-more: " + b"y" * 10_000 + b"\r\n", b"y" * 10_000], ids=["lines", "one line"])
async def test_a_head_without_end_is_cut_off(piece: bytes) -> None:
    async with live_server(scripted_model()) as server:
        _, writer = await opened(server)
        writer.write(b"GET /healthz HTTP/1.1\r\nx-first: ")
        with pytest.raises(ConnectionError):
            await write_on(writer, piece)
        writer.transport.abort()


async def write_on(writer: asyncio.StreamWriter, piece: bytes) -> None:
    for _ in range(100 * MAX_HEAD_BYTES // len(piece)):
        writer.write(piece)
        await writer.drain()


def opened_by_hand() -> tuple[GuardedHttp, Transport]:
    config = Config(unasked, ws="none", log_config=None, lifespan="off")
    config.load()
    protocol, transport = GuardedHttp(config, ServerState(), {}), Transport()
    protocol.connection_made(cast(Any, transport))
    return protocol, transport


@pytest.mark.parametrize("unsent", [0, 1])
async def test_who_has_not_even_read_the_last_answer_is_not_waited_for(unsent: int) -> None:
    protocol, transport = opened_by_hand()
    transport.unsent = unsent
    protocol.timeout_keep_alive_handler()
    assert transport.closed_at is not None
    assert (transport.aborted_at is not None) is bool(unsent)
    protocol.connection_lost(None)


async def test_what_is_refused_is_the_head_that_is_too_large() -> None:
    protocol, transport = opened_by_hand()
    protocol.data_received(b"GET / HTTP/1.1\r\n")
    for _ in range(MAX_HEAD_BYTES // 1024):
        protocol.data_received(b"x-more: %b\r\n" % (b"y" * 1014))
    assert transport.writes == []
    protocol.data_received(b"x")
    ((_, answer),) = transport.writes
    assert answer.startswith(b"HTTP/1.1 431 ") and b'"type":"invalid_request_error"' in answer
    assert transport.closed_at is not None
    protocol.connection_lost(None)


async def unasked(scope: object, receive: object, send: object) -> None:
    raise AssertionError("the request never came")
