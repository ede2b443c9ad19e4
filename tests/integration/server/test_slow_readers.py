"""Clients that read slowly or not at all, over real sockets, on all three ways out: raw, through ASGI, as SSE."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from tests.support.live_server import LiveServer, live_server
from tests.support.scripted_model import scripted_model

from hotloop.bench.frames import FrameReader, handshake, masked_frame
from hotloop.config import ServerSettings
from hotloop.server.guarded import GuardedHttp, GuardedWebSocket
from hotloop.server.slow_reader import SlowReader
from hotloop.turns.record import TurnRecord

WAYS = ("raw", "asgi", "sse")
WORDS = 60_000
KERNEL_BYTES = 2**20 + 2**19  # what the sockets of a loopback connection take
ENDLESS = [
    {"match": "^long", "turns": [{"text": "word " * WORDS}]},
    {"match": "^some", "turns": [{"text": "word " * 12_000}]},
]


@dataclass(frozen=True, slots=True)
class Peer:
    """A client whose receive buffer is as small as the kernel allows."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    way: str

    async def ask(self, server: LiveServer, word: str) -> None:
        body = json.dumps({"type": "response.create", "model": "test", "store": False, "input": word, "stream": True})
        if self.way == "sse":
            head = f"POST /v1/responses HTTP/1.1\r\nHost: {_host(server)}\r\nContent-Length: {len(body)}\r\n\r\n"
            self.writer.write((head + body).encode())
            return
        self.writer.write(handshake("127.0.0.1", _port(server), "/v1/responses"))
        assert b" 101 " in await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)
        self.writer.write(masked_frame(body.encode()))

    async def deltas(self) -> list[str]:
        """What the deltas say, up to the end of the response."""
        frames, data = FrameReader(), b""
        found: list[str] = []
        while True:
            chunk = await asyncio.wait_for(self.reader.read(2**16), 30)
            assert chunk, "the stream ended before its response"
            if self.way == "sse":
                *blocks, data = (data + chunk).split(b"\n\n")
                lines = (re.search(rb"data: ({.*)", block) for block in blocks)
                events = [json.loads(line[1]) for line in lines if line is not None]
            else:
                events = [json.loads(payload) for _, payload in frames.feed(chunk)]
            for event in events:
                if event["type"] == "response.output_text.delta":
                    found.append(event["delta"])
                elif event["type"] == "response.completed":
                    return found


def _port(server: LiveServer) -> int:
    return int(server.url.split(":")[2].split("/")[0])


def _host(server: LiveServer) -> str:
    return f"127.0.0.1:{_port(server)}"


@asynccontextmanager
async def connected(
    way: str, monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> AsyncGenerator[tuple[LiveServer, Peer]]:
    monkeypatch.setattr("tests.support.live_server.WEBSOCKET", "raw" if way == "raw" else "asgi")
    model = scripted_model(ENDLESS, context_tokens=2**20)
    async with live_server(model, ServerSettings(port=0, slow_reader_s=slow_s)) as server:
        tight = socket.socket()
        tight.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(tight.connect, ("127.0.0.1", _port(server)))
        reader, writer = await asyncio.open_connection(sock=tight, limit=2**12)
        try:
            yield server, Peer(reader, writer, way)
        finally:
            writer.transport.abort()


class Held:
    """What connections cost that were given up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes: list[int] = []
        check = SlowReader._check

        def measured(watch: SlowReader) -> None:
            self.bytes.append(watch._transport.get_write_buffer_size())
            check(watch)

        monkeypatch.setattr(SlowReader, "_check", measured)


@pytest.mark.parametrize("way", WAYS)
async def test_a_reader_that_never_reads_costs_little_and_is_gone_at_its_deadline(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch)
    async with connected(way, monkeypatch, slow_s=0.5) as (server, peer):
        ended: asyncio.Future[TurnRecord] = asyncio.get_running_loop().create_future()
        server.app.services.records.tell = ended.set_result
        await peer.ask(server, "long")
        record = await asyncio.wait_for(ended, 60)
        assert record.outcome == "cancelled"
        assert record.bytes_out <= KERNEL_BYTES
        assert held.bytes and max(held.bytes) <= 2**20
        await asyncio.wait_for(server.app.connections.wait_empty(), 30)
        assert not server.uvicorn.server_state.connections, "the socket is still there"


@pytest.mark.parametrize("way", WAYS)
async def test_a_reader_that_pauses_gets_what_it_missed_as_one_text(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(way, monkeypatch, slow_s=60) as (server, peer):
        ended: asyncio.Future[TurnRecord] = asyncio.get_running_loop().create_future()
        server.app.services.records.tell = ended.set_result
        await peer.ask(server, "some")
        assert (await asyncio.wait_for(ended, 60)).outcome == "completed"
        texts = await peer.deltas()
        assert "".join(texts) == "word " * 12_000
        assert max(map(len, texts)) > 20 * len("word "), "what was written meanwhile came as single deltas"


async def test_an_answer_that_nobody_reads_does_not_keep_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected("sse", monkeypatch, slow_s=0.2) as (server, peer):
        item = {"type": "message", "role": "user", "content": "x" * 8 * 2**20}
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            made = (await client.post("/conversations", json={"items": [item]})).json()
        path = f"/v1/conversations/{made['id']}/items"
        peer.writer.write(f"GET {path} HTTP/1.1\r\nHost: {_host(server)}\r\n\r\n".encode())
        gone = asyncio.Event()
        lost = GuardedHttp.connection_lost

        def noting(protocol: GuardedHttp, exc: Exception | None) -> None:
            lost(protocol, exc)
            gone.set()

        monkeypatch.setattr(GuardedHttp, "connection_lost", noting)
        await asyncio.wait_for(gone.wait(), 30)


def test_uvicorn_still_calls_its_protocols_the_way_ours_expect() -> None:
    for kind in (GuardedHttp, GuardedWebSocket):
        for name in ("connection_made", "pause_writing", "resume_writing", "connection_lost"):
            assert name in vars(kind) and hasattr(kind.__base__, name)
    assert hasattr(GuardedHttp.__base__, "timeout_keep_alive_handler")
