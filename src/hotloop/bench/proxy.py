"""A TCP proxy that behaves like a wide-area link: `python -m hotloop.bench.proxy HOST PORT ROUND_TRIP_MS UP_MBIT`.

Every byte is held for half the round trip; towards the server it is sent no faster than the link's rate. Bytes keep their
order, and what waits is bounded: then the sender is no longer read from. There is no loss and no slow start, both of which
would cost long requests more. The port stands on the first line of stdout.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import uvloop

_CHUNK = 16_384
_CHUNKS_WAITING = 256  # 4 MiB: far more than a link of 20 Mbit/s and 40 ms holds
_PATIENCE_S = 120.0


@dataclass(slots=True)
class Link:
    """One direction: bytes leave one after the other at `rate` (bytes a second; 0: at once) and arrive `delay_s` later."""

    delay_s: float
    rate: float = 0.0
    _free_at: float = 0.0

    def arrival(self, now: float, size: int) -> float:
        """When the last of `size` bytes given to the link now is at its other end."""
        start = max(now, self._free_at)
        self._free_at = start + (size / self.rate if self.rate else 0.0)
        return self._free_at + self.delay_s


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, clock: Callable[[], float]
) -> None:
    """Carry one direction until its sender is done."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS_WAITING)

    async def take() -> None:
        while data := await reader.read(_CHUNK):
            await waiting.put((link.arrival(clock(), len(data)), data))
        await waiting.put((0.0, b""))

    async def give() -> None:
        while True:
            due, data = await waiting.get()
            if not data:
                return
            if due > clock():
                await asyncio.sleep(due - clock())
            writer.write(data)
            async with asyncio.timeout(_PATIENCE_S):
                await writer.drain()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            group.create_task(give())
    except* (OSError, TimeoutError):
        pass  # a peer is gone: so is the connection
    finally:
        writer.close()


async def serve(listener: socket.socket, host: str, port: int, round_trip_s: float, up_rate: float) -> None:
    """Forward every connection to `host:port` until cancelled."""
    clock = time.perf_counter  # finer than the clock of uvloop, which has milliseconds

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, server_writer, Link(round_trip_s / 2, up_rate), clock))
            group.create_task(_pump(server_reader, writer, Link(round_trip_s / 2), clock))

    server = await asyncio.start_server(forward, sock=listener)
    async with server:
        await server.serve_forever()


def main(host: str, port: str, round_trip_ms: str, up_mbit: str) -> None:
    """Serve on a free loopback port until killed."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(listener, host, int(port), float(round_trip_ms) / 1e3, float(up_mbit) * 1e6 / 8))


if __name__ == "__main__":
    main(*sys.argv[1:])
