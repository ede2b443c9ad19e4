"""uvicorn's own protocols, with a deadline for peers that do not read.

uvicorn waits for such a peer for ever: `transport.close` sends what is left first. Here the connection is cut off, and the
application can do the same (`slow_reader.abort_of`).
"""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from hotloop.server.slow_reader import ABORT, SlowReader, limit_unsent


class GuardedHttp(HttpToolsProtocol):
    """HTTP."""

    slow_reader_s = 60.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Guard the connection, and let the application cut it off."""
        super().connection_made(transport)
        limit_unsent(transport)
        self._slow = SlowReader(transport, self.slow_reader_s, transport.abort)
        self.app_state = {**self.app_state, ABORT: transport.abort}

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
