"""Events to a client through ASGI sends: one WebSocket message per event, one SSE body chunk per loop tick.

A sink only appends; one pump per connection sends. What one tick pushed is taken together.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from hotloop.errors import ApiError
from hotloop.protocol.wire import sse_error_event

MAX_STUCK_S = 120.0  # for 16 MiB on their way at 1 Mbit/s
TOO_SLOW = 1008  # close code for a client that does not read (docs/protocol.md §1.7)

AsgiSend = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ConnectionSink(Protocol):
    """Where a connection's messages go."""

    @property
    def is_closed(self) -> bool:
        """The client is gone or too slow; what is pushed goes nowhere."""
        ...

    @property
    def is_paused(self) -> bool:
        """The client does not read at present."""
        ...

    def push(self, events: Iterable[bytes]) -> None:
        """Send each event as one message, in this order. Never blocks."""
        ...

    def finish(self, code: int) -> None:
        """Nothing more will be pushed: close with `code` once everything is sent. Idempotent."""
        ...

    def close(self, code: int) -> None:
        """Close with `code` now; what is queued is dropped. Idempotent."""
        ...


class StuckWatch:
    """Notices that one send has been under way for `max_s` seconds: the client does not read. A send costs it two stamps.

    Args:
        on_stuck: called once, at most.
    """

    def __init__(self, max_s: float, on_stuck: Callable[[], None]) -> None:
        self._max_s = max_s
        self._on_stuck = on_stuck
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None  # of the send under way
        self._timer = self._loop.call_later(max_s, self._check)

    def begin(self) -> None:
        """A send begins."""
        self._began = self._loop.time()

    def end(self) -> None:
        """It is over."""
        self._began = None

    @property
    def is_under_way(self) -> bool:
        """A send is: seen from outside of it, the server holds more than the client takes."""
        return self._began is not None

    def stop(self) -> None:
        """No more sends. Idempotent."""
        self._timer.cancel()

    def _check(self) -> None:
        left = self._max_s if self._began is None else self._began + self._max_s - self._loop.time()
        if left <= 0:
            self._on_stuck()
        else:
            self._timer = self._loop.call_later(left, self._check)


class WebSocketSink:
    """Sends events as text messages of one connection.

    Args:
        send: the connection's ASGI send.
        max_pending_bytes: unsent bytes at which the reader counts as too slow; the sink then closes.
        max_stuck_s: the same for the seconds of one send.
        max_delay_s: how long an event may wait for others to leave with.
    """

    def __init__(
        self, send: AsgiSend, *, max_pending_bytes: int, max_stuck_s: float = MAX_STUCK_S, max_delay_s: float = 0.0
    ) -> None:
        self._send = send
        self._max_pending = max_pending_bytes
        self._max_stuck_s = max_stuck_s
        self._max_delay_s = max_delay_s
        self._queue: deque[bytes] = deque()
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._closed = asyncio.Event()
        self._is_finishing = False
        self._flow = _Flow()
        self.is_closed = False
        self.close_code = 1000
        self.bytes_out = 0

    def on_writable(self, resume: Callable[[], None]) -> None:
        """Have `resume` called when the client reads again after `is_paused`."""
        self._flow.resume = resume

    @property
    def is_paused(self) -> bool:
        """A send waits for the client."""
        return self._flow.is_paused

    def push(self, events: Iterable[bytes]) -> None:
        """Queue each event as one message."""
        if self.is_closed:
            return
        for event in events:
            self._queue.append(event)
            self._pending_bytes += len(event)
            self.bytes_out += len(event)
        if self._pending_bytes > self._max_pending:
            self.close(TOO_SLOW)
        self._wake.set()

    def close(self, code: int) -> None:
        """Drop what is queued, end the pump; the socket is to be closed with `code`."""
        if self.is_closed:
            return
        self.is_closed = True
        self.close_code = code
        self._queue.clear()
        self._pending_bytes = 0
        self._wake.set()
        self._closed.set()

    async def wait_closed(self) -> None:
        """Until `close`, even while the pump is stuck in a send."""
        await self._closed.wait()

    def finish(self, code: int) -> None:
        """Nothing more will be pushed: the pump ends when the queue is empty, the socket is to be closed with `code`."""
        self._is_finishing = True
        self.close_code = code
        self._wake.set()

    async def pump(self) -> None:
        """Send until closed, or finished and empty."""
        watch = self._flow.watch = StuckWatch(self._max_stuck_s, lambda: self.close(TOO_SLOW))
        try:
            while True:
                await self._send_queued(watch)
                self._flow.go_on()
                if self.is_closed or (self._is_finishing and not self._queue):
                    return
                self._wake.clear()
                await self._wake.wait()
                if self._max_delay_s and not self._is_finishing:
                    await asyncio.sleep(self._max_delay_s)
        finally:
            watch.stop()

    async def _send_queued(self, watch: StuckWatch) -> None:
        while self._queue and not self.is_closed:
            event = self._queue.popleft()
            self._pending_bytes -= len(event)
            watch.begin()
            try:
                await self._send({"type": "websocket.send", "text": event.decode()})
            except (OSError, RuntimeError):  # the peer is gone; servers differ in what they raise
                self.close(1006)
            watch.end()


class _Flow:
    """Tells producers to hold back while a send waits, and to go on when it is over."""

    def __init__(self) -> None:
        self.watch: StuckWatch | None = None
        self.resume: Callable[[], None] | None = None
        self._was_told = False

    @property
    def is_paused(self) -> bool:
        """A send is under way, so it waits: one that does not is over before anybody can ask."""
        is_waiting = self.watch is not None and self.watch.is_under_way
        self._was_told = self._was_told or is_waiting
        return is_waiting

    def go_on(self) -> None:
        """No send waits: who was told otherwise may send what was held back."""
        if self._was_told:
            self._was_told = False
            if self.resume is not None:
                self.resume()


class LaneSink:
    """One turn's share of its connection's sink; counts the turn's own bytes."""

    def __init__(self, sink: ConnectionSink) -> None:
        self._sink = sink
        self.bytes_out = 0

    @property
    def is_closed(self) -> bool:
        """The connection is gone or too slow."""
        return self._sink.is_closed

    @property
    def is_paused(self) -> bool:
        """The connection's client does not read at present."""
        return self._sink.is_paused

    def push(self, events: Iterable[bytes]) -> None:
        """Queue each event as one message."""
        events = events if isinstance(events, list) else list(events)
        # A delta comes alone.
        self.bytes_out += len(events[0]) if len(events) == 1 else sum(map(len, events))
        self._sink.push(events)


def sse_event(event: bytes) -> bytes:
    """An event framed, its blank line included."""
    kind = event[9 : event.index(b'"', 9)]  # every event begins {"type":"
    return b"event: %b\ndata: %b\n\n" % (kind, event)


class SseSink:
    """Sends events as server-sent events; `[DONE]` ends the stream. Starts the response with its first event."""

    def __init__(
        self, send: AsgiSend, *, max_pending_bytes: int, max_stuck_s: float = MAX_STUCK_S, max_delay_s: float = 0.0
    ) -> None:
        self._send = send
        self._max_pending = max_pending_bytes
        self._max_stuck_s = max_stuck_s
        self._max_delay_s = max_delay_s
        self._chunks: list[bytes] = []
        self._pending_bytes = 0
        self._wake = asyncio.Event()
        self._is_finishing = False
        self._has_started = False
        self._pushed = 0
        self._flow = _Flow()
        self.is_closed = False
        self.bytes_out = 0

    def on_writable(self, resume: Callable[[], None]) -> None:
        """Have `resume` called when the client reads again after `is_paused`."""
        self._flow.resume = resume

    @property
    def is_paused(self) -> bool:
        """A send waits for the client."""
        return self._flow.is_paused

    def push(self, events: Iterable[bytes]) -> None:
        """Queue each event, its blank line included, as one piece."""
        for event in events:
            self._pushed += 1
            self._add(sse_event(event))

    def push_data(self, messages: Iterable[bytes]) -> None:
        """Queue messages that have no event type."""
        for message in messages:
            self._add(b"data: %b\n\n" % message)

    def push_error(self, error: ApiError) -> None:
        """An `error` event in the middle of a response."""
        self.push([sse_error_event(error, self._pushed)])  # an event's number is how many were before it

    def close(self) -> None:
        """The client is gone: drop what is queued, end the pump."""
        self.is_closed = True
        self._chunks.clear()
        self._wake.set()

    def finish(self) -> None:
        """The last event was pushed."""
        self._add(b"data: [DONE]\n\n")
        self._is_finishing = True
        self._wake.set()

    async def pump(self) -> None:
        """Send until closed or finished; all that one tick pushed leaves in one chunk."""
        watch = self._flow.watch = StuckWatch(self._max_stuck_s, self.close)
        try:
            while not self.is_closed:
                await self._wake.wait()
                if self._max_delay_s and not self._is_finishing:
                    await asyncio.sleep(self._max_delay_s)
                self._wake.clear()
                watch.begin()
                if await self._send_chunks():
                    return
                watch.end()
                self._flow.go_on()
        finally:
            watch.end()
            watch.stop()

    async def _send_chunks(self) -> bool:
        """Whether that was all."""
        if self._chunks:
            body = b"".join(self._chunks)
            self._chunks.clear()
            self._pending_bytes = 0
            await self._send_body(body)
        if not self._is_finishing or self._chunks:
            return False
        if self._has_started and not self.is_closed:
            await self._send_body(b"", more=False)
        return True

    async def _send_body(self, body: bytes, *, more: bool = True) -> None:
        try:
            if not self._has_started:
                self._has_started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except (OSError, RuntimeError):  # the peer is gone; servers differ in what they raise
            self.close()

    def _add(self, chunk: bytes) -> None:
        if self.is_closed:
            return
        self._chunks.append(chunk)
        self.bytes_out += len(chunk)
        self._pending_bytes += len(chunk)
        if self._pending_bytes > self._max_pending:
            self.close()
        self._wake.set()


SSE_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class DiscardSink:
    """For answers that are one JSON object: events are counted, not sent."""

    is_paused = False

    def __init__(self) -> None:
        self.is_closed = False
        self.bytes_out = 0

    def push(self, events: Iterable[bytes]) -> None:
        """Count the bytes."""
        self.bytes_out += sum(map(len, events))
