"""What the raw path gives to its transport, and when."""

import asyncio
from typing import Any, cast

import pytest
from tests.support.virtual_time import run_virtual
from uvicorn.config import Config
from uvicorn.server import ServerState

from hotloop.server.frames import text_frames
from hotloop.server.handshake import UpgradeRequest
from hotloop.server.websocket_raw import Listener, RawWebSocket, raw_protocol

UPGRADE = (
    b"GET /x HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
PONG_S = 60.0


class Transport:
    """Implements what protocols use of `asyncio.Transport`; notes the writes, the end and their times.

    Nothing of it ever reaches a peer: `close` waits for that, as uvloop's does, and only `abort` ends it.
    """

    def __init__(self) -> None:
        self.writes: list[tuple[float, bytes]] = []
        self.closed_at: float | None = None
        self.aborted_at: float | None = None

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

    def set_write_buffer_limits(self, high: int) -> None: ...


class Deaf:
    """A listener that does nothing."""

    async def serve(self) -> None: ...

    def on_message(self, data: bytes, *, is_text: bool) -> None: ...

    def on_writable(self) -> None: ...

    def on_lost(self) -> None: ...


class Open:
    """A door for everybody."""

    def open(self, request: UpgradeRequest, wire: RawWebSocket) -> Listener:
        return Deaf()


def opened(
    max_delay_s: float = 0.0, ping_s: float | None = None, upgrade: bytes = UPGRADE
) -> tuple[RawWebSocket, Transport]:
    kind = raw_protocol(Open(), max_pending_bytes=2**20, slow_reader_s=60, max_delay_s=max_delay_s)
    config = Config(cast(Any, None), ws_ping_interval=ping_s, ws_ping_timeout=PONG_S)
    wire, transport = kind(config, ServerState(), {}), Transport()
    wire.connection_made(cast(Any, transport))
    wire.data_received(upgrade)
    transport.writes.clear()
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


def test_what_waits_leaves_before_a_close() -> None:
    async def main() -> None:
        wire, transport = opened(0.5)
        wire.push([b"last"])
        wire.finish(1000)
        assert [data[:6] for _, data in transport.writes] == [text_frames([b"last"])]
        wire.connection_lost(None)

    run_virtual(main())
