"""The raw WebSocket path as bytes on a socket: framing, limits, slow readers, the end."""

import asyncio
import json
import logging
import re
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.integration.server.test_metrics import scrape
from tests.integration.server.test_websocket import connected
from tests.support.certificates import self_signed
from tests.support.live_server import LiveServer, live_server, open_socket
from tests.support.raw_echo import Echo, EchoDoor
from tests.support.scripted_model import LOOK_UP, scripted_model
from tests.unit.server.test_frames import client_frame
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect

from hotloop.bench.frames import FrameReader as ServerFrames
from hotloop.bench.frames import handshake
from hotloop.config import ServerSettings
from hotloop.server.frames import CLOSE, CONTINUATION, GOING_AWAY, PING, PONG, TEXT
from hotloop.server.runtime import listen
from hotloop.server.unmask import unmask_numpy
from hotloop.server.websocket_raw import RawWebSocket, raw_path_fits, raw_protocol


class _Server(uvicorn.Server):
    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def echo(
    *,
    max_size: int = 2**20,
    max_pending_bytes: int = 2**20,
    slow_reader_s: float = 60.0,
    ping_s: float | None = None,
    pong_s: float = 20.0,
    certificate: Path | None = None,
) -> AsyncGenerator[int]:
    listener = listen("127.0.0.1", 0)
    listener.listen()
    config = uvicorn.Config(
        _no_http,
        ws=raw_protocol(EchoDoor(), max_pending_bytes=max_pending_bytes, slow_reader_s=slow_reader_s),
        ws_max_size=max_size,
        ws_ping_interval=ping_s,
        ws_ping_timeout=pong_s,
        ssl_certfile=certificate,
        lifespan="off",
        log_config=None,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 30)
        listener.close()


async def _no_http(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("only WebSocket is served here")


class Wire:
    """A client that sends bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = ServerFrames()
        self._ready: list[tuple[int, bytes]] = []

    async def frame(self) -> tuple[int, bytes]:
        while not self._ready:
            data = await asyncio.wait_for(self.reader.read(65536), 30)
            assert data, "the server closed"
            self._ready = self._frames.feed(data)
        return self._ready.pop(0)


@asynccontextmanager
async def wire_to(port: int) -> AsyncGenerator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(handshake("127.0.0.1", port, "/v1/responses"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield Wire(reader, writer)
    finally:
        writer.close()


def test_uvicorn_still_makes_protocols_the_way_ours_expects() -> None:
    assert raw_path_fits()
    assert issubclass(RawWebSocket, asyncio.Protocol)


def _other_arguments(patch: pytest.MonkeyPatch) -> None:
    def other(self: Any, config: Any) -> None: ...

    patch.setattr(WebSocketsSansIOProtocol, "__init__", other)


def _other_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("hotloop.server.websocket_raw.ServerState", object)


def _elsewhere(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "uvicorn.protocols.websockets.websockets_sansio_impl", None)


@pytest.mark.parametrize("change", [_other_arguments, _other_state, _elsewhere])
def test_another_contract_falls_back_to_asgi_and_says_so(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    change(monkeypatch)
    assert not raw_path_fits()
    assert "events go through ASGI" in caplog.text


@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_messages_of_every_frame_size_come_back(compression: Any) -> None:
    async with (
        echo(max_size=2**23) as port,
        connect(f"ws://127.0.0.1:{port}/", compression=compression, max_size=None) as peer,
    ):
        for size in (0, 1, 125, 126, 65535, 65536, 1_000_000):
            await peer.send("é" * (size // 2))
            assert await peer.recv() == "é" * (size // 2)
        await peer.send(["in ", "", "pieces"])
        assert await peer.recv() == "in pieces"
        await (await peer.ping())
    assert peer.close_code == 1000


async def test_tls_is_uvicorns_affair(tmp_path: Path) -> None:
    certificate = self_signed("localhost", tmp_path)
    trust = ssl.create_default_context(cafile=certificate)
    async with (
        echo(max_size=2**23, certificate=certificate) as port,
        connect(f"wss://localhost:{port}/", ssl=trust, max_size=None) as peer,
    ):
        for text in ("", "short", "é" * 1_000_000):
            await peer.send(text)
            assert await peer.recv() == text
        await (await peer.ping())
    assert peer.close_code == 1000


async def test_a_message_may_be_cut_at_every_byte() -> None:
    message = client_frame(TEXT, b"first", fin=False) + client_frame(CONTINUATION, "-日本".encode())
    async with echo() as port, wire_to(port) as wire:
        for cut in range(1, len(message)):
            wire.writer.write(message[:cut])
            await wire.writer.drain()
            await asyncio.sleep(0)
            wire.writer.write(message[cut:])
            assert await wire.frame() == (TEXT, "first-日本".encode())


async def test_a_whole_session_may_be_cut_at_every_byte() -> None:
    """The upgrade, a create in two fragments with a ping between them, a close: in whatever two pieces each comes."""
    create = b'{"type":"response.create","model":"test","input":"hello","store":false}'
    async with live_server(scripted_model()) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        steps = [
            handshake("127.0.0.1", port, "/v1/responses"),
            client_frame(TEXT, create[:20], fin=False)
            + client_frame(PING, b"there?")
            + client_frame(CONTINUATION, create[20:]),
            client_frame(CLOSE, (1000).to_bytes(2, "big")),
        ]
        expected = await _session(port, steps, 0, 0)
        assert (PONG, b"there?") in expected
        assert [kind for kind, _ in expected[-2:]] == ["response.completed", CLOSE]
        for number, step in enumerate(steps):
            for cut in range(1, len(step)):
                assert await _session(port, steps, number, cut) == expected, (number, cut)


async def _session(port: int, steps: list[bytes], cut_step: int, cut: int) -> list[tuple[object, object]]:
    """What comes back, by type and text. A step follows when the one before it is answered; one comes in two pieces."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    frames, received = ServerFrames(), list[tuple[object, object]]()
    try:
        for number, step in enumerate(steps):
            at = cut if number == cut_step else 0
            writer.write(step[:at])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(step[at:])
            if number == 0:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
                assert head.startswith(b"HTTP/1.1 101 ")
            while number > 0 and (not received or received[-1][0] not in ("response.completed", CLOSE)[number - 1 :]):
                for opcode, payload in frames.feed(await asyncio.wait_for(reader.read(65536), 30)):
                    event = json.loads(payload) if opcode == TEXT else {"type": opcode, "delta": payload}
                    received.append((event["type"], event.get("delta")))
        assert await asyncio.wait_for(reader.read(), 30) == b""
    finally:
        writer.close()
    return received


async def test_without_its_contract_the_same_turns_go_through_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.app.raw_path_fits", lambda: False)
    async with live_server(scripted_model()) as server, open_socket(server) as peer:
        assert server.app.websocket is None
        events = await peer.turn(input="hello", store=False)
        assert events[-1]["type"] == "response.completed"
        assert server.app.services.records.counters.fallbacks == {"through_asgi": 1}


async def test_where_numpy_unmasks_every_turn_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("unmask", "frames"):
        monkeypatch.setattr(f"hotloop.server.{module}.unmask", unmask_numpy)
    async with live_server(scripted_model()) as server:
        assert "is unmasked with numpy" in caplog.text
        async with open_socket(server, additional_headers={"hotloop-timing": "1"}) as peer:
            for _ in range(2):
                *_, timing, last = await peer.turn(input="hello", store=False)
                assert last["type"] == "response.completed"
                assert "unmasked_by_numpy" in timing["fallbacks"]
        assert "unmasked_by_numpy" in server.app.services.records.latest()[-1].fallbacks
        assert (await scrape(server))["hotloop:fallbacks_total", (("reason", "unmasked_by_numpy"),)] == 2


async def test_a_breach_is_answered_with_its_close_code() -> None:
    async with echo() as port, wire_to(port) as wire:
        wire.writer.write(b"\x81\x02hi")
        opcode, payload = await wire.frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1002)
        assert await asyncio.wait_for(wire.reader.read(), 30) == b""


@pytest.mark.parametrize("behind", [b"", client_frame(TEXT, b"behind"), client_frame(PING, b"there?")])
async def test_nothing_counts_behind_a_close(
    behind: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []

    def on_message(self: Echo, data: bytes, *, is_text: bool) -> None:
        heard.append(data)
        self._wire.finish(1001)

    monkeypatch.setattr(Echo, "on_message", on_message)
    async with echo() as port, wire_to(port) as wire:
        wire.writer.write(client_frame(TEXT, b"close"))
        assert await wire.frame() == (CLOSE, (1001).to_bytes(2, "big"))
        wire.writer.write(behind + client_frame(CLOSE, (1001).to_bytes(2, "big")))
        assert await asyncio.wait_for(wire.reader.read(), 30) == b""
    assert heard == [b"close"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_size_over_the_limit_closes_with_1009_before_it_is_sent() -> None:
    async with echo(max_size=1000) as port, wire_to(port) as wire:
        wire.writer.write(b"\x81\xff" + (2**40).to_bytes(8, "big") + b"mask")
        opcode, payload = await wire.frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (CLOSE, 1009)


async def test_a_peer_is_pinged_for_as_long_as_it_answers_and_then_dropped() -> None:
    async with echo(ping_s=0.01, pong_s=0.5) as port, wire_to(port) as wire:
        for _ in range(3):
            opcode, payload = await wire.frame()
            assert opcode == PING
            wire.writer.write(client_frame(PONG, payload))
        assert (await wire.frame())[0] == PING
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(wire.reader.read(), 30) == b""


def _tight(port: int) -> socket.socket:
    """A connected client whose receive buffer is as small as the kernel allows."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect(("127.0.0.1", port))
    return peer


async def _write_for_ever(writer: asyncio.StreamWriter, message: bytes) -> None:
    while True:
        writer.write(message)
        await asyncio.wait_for(writer.drain(), 30)


@pytest.mark.parametrize(("pending", "slow_s"), [(2**16, 3600.0), (2**30, 0.05)], ids=["bytes", "time"])
async def test_a_reader_that_never_reads_is_cut_off(pending: int, slow_s: float) -> None:
    async with echo(max_pending_bytes=pending, slow_reader_s=slow_s) as port:
        peer = await asyncio.to_thread(_tight, port)
        reader, writer = await asyncio.open_connection(sock=peer, limit=1)
        writer.write(handshake("127.0.0.1", port, "/"))
        with pytest.raises(ConnectionError):
            await _write_for_ever(writer, client_frame(TEXT, b"x" * 100_000))
        writer.transport.abort()
        assert not reader.at_eof()


_SEALED = re.compile(r',"encrypted_content":"[^"]*"')  # another one each time


async def _events(path: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("tests.support.live_server.WEBSOCKET", path)
    numbers = count()

    def numbered(self: object, prefix: str) -> str:
        return f"{prefix}_{next(numbers):032x}"

    monkeypatch.setattr("hotloop.turns.services.FreshIds.__call__", numbered)
    for module in ("turn", "ending"):
        monkeypatch.setattr(f"hotloop.turns.{module}.wall_clock", lambda: 1_700_000_000.0)
    async with live_server(scripted_model(), ServerSettings(port=0)) as server:
        return [await _transcript(server, word) for word in ("hello", "think about it", "two steps")]


async def _transcript(server: LiveServer, word: str) -> str:
    async with open_socket(server) as peer:
        await peer.send(input=word, store=False, tools=[LOOK_UP])
        lines: list[str] = []
        while not lines or not lines[-1].startswith('{"type":"response.completed"'):
            message = await asyncio.wait_for(peer.connection.recv(), 30)
            assert isinstance(message, str)
            lines.append(message)
        return _SEALED.sub("", "\n".join(lines))


async def test_both_paths_put_the_same_bytes_on_the_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, asgi = await _events("raw", monkeypatch), await _events("asgi", monkeypatch)
    assert raw == asgi


async def test_a_shutdown_in_the_middle_of_a_stream_ends_with_a_close_frame() -> None:
    async with connected() as (server, peer):
        await peer.send(input="slow start")
        assert (await peer.receive())["type"] == "response.created"
        await server.app.connections.drain(0)
        await asyncio.wait_for(peer.connection.wait_closed(), 30)
        assert peer.connection.close_code == 1012


async def test_uvicorns_own_shutdown_finds_the_connections_and_says_goodbye() -> None:
    async with AsyncExitStack() as server:
        port = await server.enter_async_context(echo())
        async with connect(f"ws://127.0.0.1:{port}/") as peer:
            await server.aclose()
            await asyncio.wait_for(peer.wait_closed(), 30)
            assert peer.close_code == GOING_AWAY


async def test_only_the_responses_path_takes_websockets() -> None:
    async with connected() as (server, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
        writer.write(handshake("127.0.0.1", 1, "/v1/other"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert head.startswith(b"HTTP/1.1 404 ")
        writer.close()


async def test_a_door_that_breaks_answers_500_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: EchoDoor, request: Any, wire: Any) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(EchoDoor, "open", broken)
    async with echo() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(handshake("127.0.0.1", port, "/"))
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in answer
        writer.close()
