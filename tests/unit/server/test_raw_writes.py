"""What the raw path gives to its transport, and when."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from tests.support.virtual_time import run_virtual
from tests.unit.server.test_frames import client_frame
from uvicorn.config import Config
from uvicorn.server import ServerState

from hotloop.server.frames import (
    LONG_FRAME_BYTES,
    PING,
    PONG,
    TEXT,
    close_frame,
    control_frame,
    deflated_frame,
    text_frames,
)
from hotloop.server.handshake import UpgradeRequest
from hotloop.server.websocket_raw import DEFLATE_FROM_BYTES, Listener, RawWebSocket, raw_protocol

UPGRADE = (
    b"GET /x HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
PONG_S = 60.0
MAX_PENDING = 2**20


class Transport:
    """Implements what protocols use of `asyncio.Transport`; notes the writes, the end and their times.

    Nothing of it ever reaches a peer: `close` waits for that, as uvloop's does, and only `abort` ends it.
    """

    def __init__(self) -> None:
        self.writes: list[tuple[float, bytes]] = []
        self.closed_at: float | None = None
        self.aborted_at: float | None = None
        self.is_reading = True
        self.unsent = 0

    def write(self, data: bytes) -> None:
        self.writes.append((round(asyncio.get_running_loop().time(), 3), data))

    def get_extra_info(self, name: str) -> None:
        return None

    def close(self) -> None:
        self.closed_at = round(asyncio.get_running_loop().time(), 3)

    def is_closing(self) -> bool:
        return self.closed_at is not None

    def abort(self) -> None:
        self.aborted_at = round(asyncio.get_running_loop().time(), 3)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int) -> None: ...


class Recorder:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.writable = 0
        self.on_next: Callable[[], None] = _nothing

    async def serve(self) -> None: ...

    def on_message(self, data: bytes, *, is_text: bool) -> None:
        self.messages.append(data)
        self.on_next()

    def on_writable(self) -> None:
        self.writable += 1

    def on_lost(self) -> None: ...


def _nothing() -> None: ...


class Open:
    """A door for everybody."""

    def open(self, request: UpgradeRequest, wire: RawWebSocket) -> Listener:
        return Recorder()


def listener_of(wire: RawWebSocket) -> Recorder:
    return cast(Recorder, wire._listener)


def opened(
    max_delay_s: float = 0.0, ping_s: float | None = None, upgrade: bytes = UPGRADE
) -> tuple[RawWebSocket, Transport]:
    wire, transport = upgraded(upgrade, max_delay_s=max_delay_s, ws_ping_interval=ping_s)
    transport.writes.clear()
    return wire, transport


def upgraded(upgrade: bytes, *, max_delay_s: float = 0.0, **options: Any) -> tuple[RawWebSocket, Transport]:
    """With the answer to the upgrade still among the writes; `options` are uvicorn's."""
    kind = raw_protocol(Open(), max_pending_bytes=MAX_PENDING, slow_reader_s=60, max_delay_s=max_delay_s)
    given: dict[str, Any] = {"ws_ping_interval": None, "ws_ping_timeout": PONG_S, **options}
    config = Config(cast(Any, None), **given)
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    wire, transport = kind(config, state, {}), Transport()
    wire.connection_made(cast(Any, transport))
    wire.data_received(upgrade)
    return wire, transport


@pytest.mark.parametrize(("max_delay_s", "expected"), [(0.0, [0.0, 0.02, 0.04]), (0.03, [0.03, 0.07])])
def test_events_of_one_tick_or_of_the_delay_leave_in_one_write(max_delay_s: float, expected: list[float]) -> None:
    async def main() -> None:
        wire, transport = opened(max_delay_s)
        for number in range(3):
            wire.push([b"%d" % number])
            wire.push([b"x"])
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        assert [at for at, _ in transport.writes] == expected
        sent = b"".join(data for _, data in transport.writes)
        assert sent == text_frames([b"0", b"x", b"1", b"x", b"2", b"x"])

    run_virtual(main())


def test_what_a_message_starts_in_the_next_callback_leaves_with_its_first_events() -> None:
    async def main() -> None:
        wire, transport = opened()
        listener, loop = listener_of(wire), asyncio.get_running_loop()

        def answer() -> None:
            wire.push([b"created"])
            loop.call_soon(wire.push, [b"first step"])

        listener.on_next = answer
        for _ in range(2):
            wire.data_received(client_frame(TEXT, b"create"))
            await asyncio.sleep(0)
        listener.on_next = _nothing
        wire.data_received(client_frame(TEXT, b"nothing to say"))
        wire.push([b"later"])
        await asyncio.sleep(0)
        answered = text_frames([b"created", b"first step"])
        assert [data for _, data in transport.writes] == [answered, answered, text_frames([b"later"])]
        wire.connection_lost(None)

    run_virtual(main())


def test_what_waits_leaves_before_a_close() -> None:
    async def main() -> None:
        wire, transport = opened(0.5)
        wire.push([b"last"])
        wire.finish(1000)
        assert [data[:6] for _, data in transport.writes] == [text_frames([b"last"])]
        wire.connection_lost(None)

    run_virtual(main())


def test_what_comes_while_the_peer_does_not_read_leaves_in_one_write_when_it_does() -> None:
    async def main() -> None:
        wire, transport = opened()
        wire.push([b"before"])
        wire.pause_writing()
        for number in range(3):
            wire.push([b"%d" % number])
            await asyncio.sleep(1)
        wire.data_received(client_frame(PING, b"there?"))
        assert (wire.is_paused, transport.writes, listener_of(wire).writable) == (True, [], 0)
        wire.resume_writing()
        expected = text_frames([b"before", b"0", b"1", b"2"]) + control_frame(PONG, b"there?")
        assert [data for _, data in transport.writes] == [expected]
        assert (wire.is_paused, listener_of(wire).writable) == (False, 1)
        wire.connection_lost(None)

    run_virtual(main())


def test_more_than_the_cap_is_not_kept_for_a_peer_that_does_not_read() -> None:
    async def main() -> None:
        wire, transport = opened()
        for _ in range(5):  # what has left counts no more
            wire.pause_writing()
            wire.push([b"x" * (MAX_PENDING * 3 // 4)])
            wire.resume_writing()
        wire.pause_writing()
        wire.push([b"x" * (MAX_PENDING // 2)])
        assert (transport.aborted_at, wire.is_closed) == (None, False)
        wire.push([b"x" * (MAX_PENDING // 2)])
        assert (transport.aborted_at, wire.is_closed) == (0, True)
        wire.push([b"nobody gets this"])
        wire.connection_lost(None)

    run_virtual(main())


def test_a_close_drops_what_waits_and_a_finish_sends_it() -> None:
    async def main() -> None:
        for end, expected in (("close", b""), ("finish", text_frames([b"waits"]))):
            wire, transport = opened()
            wire.pause_writing()
            wire.push([b"waits"])
            getattr(wire, end)(1008)
            getattr(wire, end)(1000)
            assert [data for _, data in transport.writes] == [expected + close_frame(1008)]
            wire.connection_lost(None)

    run_virtual(main())


def test_nothing_is_read_while_a_message_is_being_read_not_even_what_came_with_it() -> None:
    async def main() -> None:
        wire, transport = opened()
        listener, loop = listener_of(wire), asyncio.get_running_loop()
        readings: list[asyncio.Future[None]] = []

        def hold() -> None:
            readings.append(loop.create_future())
            wire.hold_reading(readings[-1])

        listener.on_next = hold
        long = b"x" * LONG_FRAME_BYTES
        wire.data_received(client_frame(TEXT, long) * 2 + client_frame(TEXT, b"short"))
        for number in (1, 2, 3):
            assert (listener.messages, transport.is_reading) == ([long, long, b"short"][:number], False)
            readings[-1].set_result(None)
            await asyncio.sleep(0)
        assert transport.is_reading
        wire.data_received(client_frame(TEXT, long) * 2)
        wire.connection_lost(None)
        transport.close()
        readings[-1].set_result(None)
        await asyncio.sleep(0)
        assert len(listener.messages) == 4, "the connection is lost: what was left is nobody's"

    run_virtual(main())


def test_many_long_messages_together_all_arrive_where_nobody_holds_them() -> None:
    async def main() -> None:
        wire, _ = opened()
        sent = [b"%d" % number * LONG_FRAME_BYTES for number in range(5)]
        wire.data_received(b"".join(client_frame(TEXT, one) for one in sent))
        assert listener_of(wire).messages == sent
        wire.connection_lost(None)

    run_virtual(main())


@pytest.mark.parametrize("is_on", [True, False])
def test_only_large_events_are_compressed_and_only_where_that_was_agreed_on(is_on: bool) -> None:
    async def main() -> None:
        offer = UPGRADE[:-2] + b"sec-websocket-extensions: permessage-deflate\r\n\r\n"
        wire, transport = upgraded(offer, ws_per_message_deflate=is_on)
        answer = transport.writes.pop()[1]
        assert (b"permessage-deflate" in answer) is is_on
        assert b"\r\ndate: today\r\n" in answer
        small, large = b"x" * (DEFLATE_FROM_BYTES - 1), b"x" * DEFLATE_FROM_BYTES
        wire.push([small, large, small])
        await asyncio.sleep(0)
        ((_, sent),) = transport.writes
        plain = text_frames([small])
        assert sent == plain + (deflated_frame(large) if is_on else text_frames([large])) + plain
        wire.connection_lost(None)

    run_virtual(main())
