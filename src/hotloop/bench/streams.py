"""Many WebSocket connections of one client process at once, on one event loop: who got which delta when."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from hotloop.bench.answers import Answer, AnswerReader, BenchError, status_line
from hotloop.bench.clients import PATH
from hotloop.bench.frames import CLOSE, PING, PONG, TEXT, FrameReader, handshake, masked_frame
from hotloop.bench.servers import API_KEY, RunningServer

_PATIENCE_S = 60.0


@dataclass(slots=True)
class Heard:
    """What a stream heard since it was last emptied. Times are those of `time.perf_counter`."""

    deltas: int = 0
    gaps: list[float] = field(default_factory=list[float])  # between consecutive deltas of one turn
    answers: list[Answer] = field(default_factory=list[Answer])


class Stream(asyncio.Protocol):
    """One connection. `ask` starts a turn; with `keep_on` each answer is followed by the next turn at once."""

    def __init__(self, server: RunningServer) -> None:
        self.heard = Heard()
        self.keep_on: Callable[[Answer], bytes] | None = None
        self._server = server
        self._frames = FrameReader()
        self._head: bytes | None = b""
        self._reader: AnswerReader | None = None
        self._last_delta = 0.0
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[Answer] | None = None
        self._failure: BenchError | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses of asyncio's
        self._transport.write(handshake(self._server.host, self._server.port, PATH, API_KEY))

    def data_received(self, data: bytes) -> None:
        """Take what came apart."""
        arrived = time.perf_counter()
        if self._head is not None:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = None
            if head.startswith(b"HTTP/1.1 101"):
                self._open.set_result(None)
            else:
                self._open.set_exception(BenchError(f"the upgrade was refused: {status_line(head)}"))
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                self._take(payload, arrived)
            elif opcode == PING:
                self._transport.write(masked_frame(payload, PONG))
            elif opcode == CLOSE:
                self._fail(BenchError("the server closed a connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._fail(BenchError("a connection was lost"))

    async def opened(self) -> None:
        """Wait for the upgrade."""
        async with asyncio.timeout(_PATIENCE_S):
            await self._open

    def ask(self, frame: bytes) -> "asyncio.Future[Answer]":
        """Send a create that is framed already."""
        self._answer = asyncio.get_running_loop().create_future()
        self._send(frame)
        return self._answer

    def stop_reading(self) -> None:
        """From now on this client is a slow reader."""
        self._transport.pause_reading()

    def emptied(self) -> Heard:
        """What was heard up to now; starts over. The gap under way is not lost: it counts where it ends.

        Raises BenchError if the stream broke: what it did not hear would pass for idleness.
        """
        if self._failure is not None:
            raise self._failure
        heard, self.heard = self.heard, Heard()
        return heard

    def close(self) -> None:
        """Close it."""
        self._answer = None
        self._transport.abort()

    def _send(self, frame: bytes) -> None:
        self._reader = AnswerReader()
        self._last_delta = 0.0
        self._transport.write(frame)

    def _take(self, event: bytes, arrived: float) -> None:
        if self._reader is None:
            return
        if b'.delta"' in event[:60]:
            self.heard.deltas += 1
            if self._last_delta:
                self.heard.gaps.append(arrived - self._last_delta)
            self._last_delta = arrived
        try:
            answer = self._reader.add(event, arrived)
        except BenchError as error:
            self._fail(error)
            return
        if answer is None:
            return
        self.heard.answers.append(answer)
        self._reader = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
        if self.keep_on is not None:
            self._send(self.keep_on(answer))

    def _fail(self, error: BenchError) -> None:
        self._failure = self._failure or error
        for future in (self._open, self._answer):
            if future is not None and not future.done():
                future.set_exception(error)


async def connect(server: RunningServer, count: int) -> list[Stream]:
    """So many connections, all open."""
    loop = asyncio.get_running_loop()
    streams: list[Stream] = []
    for _ in range(count):
        _, stream = await loop.create_connection(lambda: Stream(server), server.host, server.port)
        streams.append(stream)
    for stream in streams:
        await stream.opened()
    return streams


def close_all(streams: Sequence[Stream]) -> None:
    """Close them."""
    for stream in streams:
        stream.close()
