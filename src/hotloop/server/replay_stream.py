"""Kept events of a background response as a server-sent event stream, from a number on."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from hotloop.errors import RateLimited
from hotloop.protocol.wire import sse_error_event
from hotloop.server.body import AsgiReceive, AsgiScope
from hotloop.server.http_turn import client_left
from hotloop.server.replay import Lagged, ReplayLog
from hotloop.server.sinks import MAX_STUCK_S, SSE_HEADERS, AsgiSend, sse_event
from hotloop.server.slow_reader import abort_of

SILENCE_S = 15.0  # proxies and clients give up on silence
_COMMENT = b": keep-alive\n\n"
_DONE = b"data: [DONE]\n\n"


class ReplayStream:
    """An ASGI response. A client that leaves or stops reading ends only its own stream."""

    def __init__(self, log: ReplayLog[bytes], start: int) -> None:
        self._log = log
        self._position = start

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """Send until the log is finished."""
        sending = asyncio.create_task(self._send_all(send, abort_of(scope)))
        watch = asyncio.create_task(client_left(receive))
        try:
            await asyncio.wait({sending, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            watch.cancel()
            await asyncio.gather(sending, watch, return_exceptions=True)

    async def _send_all(self, send: AsgiSend, abort: Callable[[], None]) -> None:
        try:
            await _in_time(send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS}))
            await self._send_events(send)
            await _in_time(send({"type": "http.response.body", "body": _DONE, "more_body": False}))
        except TimeoutError:  # not reading
            abort()
        except (OSError, RuntimeError):  # gone
            return

    async def _send_events(self, send: AsgiSend) -> None:
        try:
            async with aclosing(self._log.follow(self._position, SILENCE_S)) as batches:
                async for batch in batches:
                    self._position += len(batch)
                    await self._send_body(send, b"".join(map(sse_event, batch)) or _COMMENT)
        except Lagged:
            lagged = RateLimited("The next events are no longer kept: they were not read in time.")
            await self._send_body(send, sse_event(sse_error_event(lagged, self._position)))

    async def _send_body(self, send: AsgiSend, body: bytes) -> None:
        await _in_time(send({"type": "http.response.body", "body": body, "more_body": True}))


async def _in_time(sending: Awaitable[None]) -> None:
    async with asyncio.timeout(MAX_STUCK_S):
        await sending
