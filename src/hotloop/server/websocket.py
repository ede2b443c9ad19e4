"""WebSocket mode of `/v1/responses` under any ASGI server: one reader task, one pump task around a `ServedConnection`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hotloop.decoding.reader import MessageReader
from hotloop.errors import ApiError
from hotloop.protocol.wire import error_body
from hotloop.server.auth import AccessPolicy, authenticate, wants_timing
from hotloop.server.connections import OpenConnections
from hotloop.server.served_connection import ServedConnection, SocketSettings
from hotloop.server.sinks import AsgiSend, WebSocketSink
from hotloop.server.slow_reader import abort_of
from hotloop.turns.runner import TurnRunner

logger = logging.getLogger(__name__)

AsgiReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiScope = MutableMapping[str, Any]

THROUGH_ASGI = "through_asgi"  # the fallback's name: every event costs a send
CLOSE_TIMEOUT_S = 5.0  # for the close frame to leave; a peer that reads nothing is left to the transport


class ResponsesSocket:
    """ASGI application for the WebSocket scope."""

    def __init__(
        self,
        runner: TurnRunner,
        policy: AccessPolicy,
        settings: SocketSettings,
        open_connections: OpenConnections,
        reader: MessageReader,
    ) -> None:
        self._runner = runner
        self._reader = reader
        self._policy = policy
        self._settings = settings
        self._open = open_connections

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One connection, handshake to close."""
        message = await receive()
        assert message["type"] == "websocket.connect", message["type"]
        try:
            principal = authenticate(self._policy, scope["headers"])
        except ApiError as error:
            await _refuse_handshake(scope, send, error)
            return
        await send({"type": "websocket.accept"})
        settings = self._settings
        sink = WebSocketSink(send, max_pending_bytes=settings.max_pending_bytes, max_delay_s=settings.max_delay_s)
        served = ServedConnection(
            self._runner,
            self._settings,
            principal,
            sink,
            self._reader,
            wants_timing=wants_timing(scope["headers"]),
            fallbacks=(THROUGH_ASGI,),
        )
        sink.on_writable(served.resume)
        self._open.add(served)
        try:
            await _AsgiConnection(served, sink, receive, send, abort_of(scope)).serve()
        finally:
            self._open.remove(served)


class _AsgiConnection:
    """Reads and writes one accepted connection."""

    def __init__(
        self,
        served: ServedConnection,
        sink: WebSocketSink,
        receive: AsgiReceive,
        send: AsgiSend,
        abort: Callable[[], None],
    ) -> None:
        self._served = served
        self._abort = abort
        self._sink = sink
        self._receive = receive
        self._send = send
        self._peer_is_gone = False

    async def serve(self) -> None:
        """Until either side closes."""
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read())
            group.create_task(self._pump(reader))
            await self._served.serve()

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._peer_is_gone = True
                self._served.stop()
                self._sink.close(1006)
                return
            text: str | None = message.get("text")
            is_text = text is not None
            reading = self._served.receive(text.encode() if text is not None else b"", is_text=is_text)
            if reading is not None:
                await asyncio.wait({reading})

    async def _pump(self, reader: "asyncio.Task[None]") -> None:
        """Send until there is nothing more to send, then close the socket and stop the reader."""
        sending = asyncio.create_task(self._sink.pump())
        closed = asyncio.create_task(self._sink.wait_closed())
        try:
            await asyncio.wait({sending, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()  # a reader that never reads would hold it for ever
            closed.cancel()
            await asyncio.gather(sending, closed, return_exceptions=True)
            self._served.stop()
        if not self._peer_is_gone:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._send({"type": "websocket.close", "code": self._sink.close_code})
            except (OSError, RuntimeError, TimeoutError):
                logger.debug("a connection was gone before it was closed, or does not read")
                self._abort()
        reader.cancel()


async def _refuse_handshake(scope: AsgiScope, send: AsgiSend, error: ApiError) -> None:
    """A plain HTTP status on the upgrade, with the ordinary error body where the server can send one."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error_body(error)})
