"""How a connection of the raw path ends when its peer does nothing for it: every wait has a deadline."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.virtual_time import run_virtual
from tests.unit.server.test_frames import client_frame
from tests.unit.server.test_raw_writes import PONG_S, Transport, opened

from hotloop.server.frames import CLOSE, PING, PONG, TEXT, close_frame
from hotloop.server.websocket_raw import CLOSE_TIMEOUT_S, RawWebSocket

PING_S = 30.0
BYE = client_frame(CLOSE, (1000).to_bytes(2, "big"))


def pings(transport: Transport) -> list[tuple[float, bytes]]:
    """When each was sent, and its payload."""
    return [(at, data[2:]) for at, data in transport.writes if data[0] == 0x80 | PING]


def test_a_peer_that_answers_no_ping_is_dropped_at_its_deadline() -> None:
    async def main() -> None:
        wire, transport = opened(ping_s=PING_S)
        await asyncio.sleep(PING_S + PONG_S + 1)
        assert [at for at, _ in pings(transport)] == [PING_S]
        assert transport.aborted_at == PING_S + PONG_S
        wire.connection_lost(None)

    run_virtual(main())


def test_a_peer_that_answers_is_pinged_again_and_kept() -> None:
    async def main() -> None:
        wire, transport = opened(ping_s=PING_S)
        for number in range(1, 6):
            await asyncio.sleep(PING_S + 1)
            assert len(pings(transport)) == number
            wire.data_received(client_frame(PONG, b"unasked for"))
            wire.data_received(client_frame(PONG, pings(transport)[-1][1]))
        assert transport.aborted_at is None
        wire.connection_lost(None)

    run_virtual(main())


def test_pongs_that_answer_nothing_keep_nobody() -> None:
    async def main() -> None:
        wire, transport = opened(ping_s=PING_S)
        for _ in range(int(PING_S + PONG_S)):
            wire.data_received(client_frame(PONG, b"unasked for"))
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        assert transport.aborted_at == PING_S + PONG_S
        wire.connection_lost(None)

    run_virtual(main())


def finished(wire: RawWebSocket) -> None:
    wire.push([b"last"])
    wire.finish(1000)


def closed_by_peer(wire: RawWebSocket) -> None:
    wire.data_received(BYE)


def broken(wire: RawWebSocket) -> None:
    wire.data_received(b"\x81\x02hi")


def stopped(wire: RawWebSocket) -> None:
    wire.shutdown()


ENDINGS = [(finished, 1000), (closed_by_peer, 1000), (broken, 1002), (stopped, 1001)]


@pytest.mark.parametrize(("end", "code"), ENDINGS)
def test_a_peer_that_does_not_let_go_is_dropped_after_a_few_seconds(
    end: Callable[[RawWebSocket], None], code: int
) -> None:
    async def main() -> None:
        wire, transport = opened(ping_s=PING_S)
        await asyncio.sleep(1)
        end(wire)
        assert code.to_bytes(2, "big") in transport.writes[-1][1]
        assert wire.close_code == code
        await asyncio.sleep(CLOSE_TIMEOUT_S + PING_S + PONG_S)
        assert transport.aborted_at == 1 + CLOSE_TIMEOUT_S
        wire.connection_lost(None)

    run_virtual(main())


@pytest.mark.parametrize(("end", "code"), ENDINGS)
def test_no_timer_outlives_the_connection(end: Callable[[RawWebSocket], None], code: int) -> None:
    async def main() -> None:
        wire, transport = opened(ping_s=PING_S)
        end(wire)
        wire.connection_lost(None)
        await asyncio.sleep(CLOSE_TIMEOUT_S + PING_S + PONG_S)
        assert transport.aborted_at is None, code

    run_virtual(main())


def test_a_peer_that_answers_the_close_is_let_go_at_once() -> None:
    async def main() -> None:
        wire, transport = opened()
        wire.finish(1000)
        assert (transport.closed_at, transport.aborted_at) == (None, None), "its half of the handshake is waited for"
        await asyncio.sleep(1)
        wire.data_received(client_frame(TEXT, b"too late") + BYE)
        assert transport.closed_at == 1
        assert [data for _, data in transport.writes] == [close_frame(1000)]
        wire.connection_lost(None)

    run_virtual(main())


def test_a_refused_upgrade_does_not_wait_for_its_peer() -> None:
    async def main() -> None:
        wire, transport = opened(upgrade=b"GET /x HTTP/1.1\r\nupgrade: websocket\r\n\r\n")
        await asyncio.sleep(CLOSE_TIMEOUT_S + 1)
        assert (transport.closed_at, transport.aborted_at) == (0, CLOSE_TIMEOUT_S)
        wire.connection_lost(None)

    run_virtual(main())


def test_the_server_knows_its_connections_while_they_are_open() -> None:
    async def main() -> None:
        wire, _ = opened()
        known: set[Any] = wire._server.connections
        assert wire in known
        (task,) = wire._server.tasks  # what serves it: uvicorn waits for that too
        await asyncio.wait_for(task, 1)
        await asyncio.sleep(0)
        assert not wire._server.tasks
        wire.finish(1000)
        assert wire in known, "a shutdown waits for those that are being closed"
        wire.connection_lost(None)
        assert not known

    run_virtual(main())
