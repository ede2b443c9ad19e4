"""uvicorn's own protocols, with a deadline for peers that do not read or do not finish what they send, and a bound for heads.

uvicorn waits for such a peer for ever: `transport.close` sends what is left first, and a request's head may grow without end.
Here the connection is cut off, and the application can do the same (`slow_reader.abort_of`).
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from hotloop.errors import InvalidRequest
from hotloop.protocol.wire import error_body
from hotloop.server.handshake import refusal_response
from hotloop.server.slow_reader import ABORT, SlowReader, limit_unsent
from hotloop.server.slow_sender import SLOW_SENDER_S, SlowSender

MAX_HEAD_BYTES: Final = 64 * 1024  # behind the piece that a head begins in


class GuardedHttp(HttpToolsProtocol):
    """HTTP, and the upgrades of either WebSocket path."""

    slow_reader_s = 60.0
    slow_sender_s = SLOW_SENDER_S
    _is_in_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Guard the connection, and let the application cut it off."""
        super().connection_made(transport)
        limit_unsent(transport)
        self._slow = SlowReader(transport, self.slow_reader_s, transport.abort)
        self._sender = SlowSender(self.slow_sender_s, self._sends_no_more)
        self.app_state = {**self.app_state, ABORT: transport.abort}

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        self._sender.taken_bytes += len(data)
        goes_on = self._is_in_head
        super().data_received(data)
        if goes_on and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse_head()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._sender.is_owed = self._is_in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._sender.arrived()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """The socket is somebody else's from now on."""
        self._slow.resumed()
        self._sender.stop()
        super().handle_websocket_upgrade()

    def _sends_no_more(self) -> None:
        if self.pipeline or (self._is_in_head and self._is_answering()):  # the request before it is at work
            self._sender = SlowSender(self.slow_sender_s, self._sends_no_more)
        else:
            self.transport.abort()

    def _is_answering(self) -> bool:
        return bool(self.cycle and not self.cycle.response_complete)

    def _refuse_head(self) -> None:
        if not self._is_answering():
            error = InvalidRequest(f"The request's head is larger than {MAX_HEAD_BYTES} bytes.")
            self.transport.write(refusal_response(431, error_body(error)))
        self.transport.close()

    def pause_writing(self) -> None:
        """The peer does not read."""
        super().pause_writing()
        self._slow.paused()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._slow.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._slow.resumed()
        self._sender.stop()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while; who has not even read the last answer is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """WebSocket through ASGI."""

    slow_reader_s = 60.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Guard the connection, and let the application cut it off."""
        super().connection_made(transport)
        self._slow = SlowReader(self.transport, self.slow_reader_s, self.transport.abort)

    def pause_writing(self) -> None:
        """The peer does not read."""
        super().pause_writing()
        self._slow.paused()

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._slow.resumed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._slow.resumed()
        super().connection_lost(exc)


def guarded(slow_reader_s: float) -> tuple[type[asyncio.Protocol], type[asyncio.Protocol]]:
    """The classes to give to uvicorn for HTTP and for WebSocket through ASGI."""

    class Http(GuardedHttp):
        pass

    class WebSocket(GuardedWebSocket):
        pass

    Http.slow_reader_s = WebSocket.slow_reader_s = slow_reader_s
    return Http, WebSocket
