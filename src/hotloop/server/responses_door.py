"""WebSocket mode of `/v1/responses` on the raw path: who may come in, and what gets the messages."""

from hotloop.decoding.reader import MessageReader
from hotloop.errors import NotFound
from hotloop.server.auth import AccessPolicy, authenticate, wants_timing
from hotloop.server.connections import OpenConnections
from hotloop.server.handshake import UpgradeRequest
from hotloop.server.served_connection import ServedConnection, SocketSettings
from hotloop.server.unmask import slower_paths
from hotloop.server.websocket_raw import RawWebSocket
from hotloop.turns.runner import TurnRunner

PATH = "/v1/responses"


class ResponsesDoor:
    """Implements `websocket_raw.Door`."""

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
        self._fallbacks = slower_paths()

    def open(self, request: UpgradeRequest, wire: RawWebSocket) -> "_Listener":
        """Let the caller in, or raise the ApiError that says why not."""
        if request.path != PATH:
            raise NotFound(f"No WebSocket at this path; it is {PATH}.")
        principal = authenticate(self._policy, request.headers)
        served = ServedConnection(
            self._runner,
            self._settings,
            principal,
            wire,
            self._reader,
            wants_timing=wants_timing(request.headers),
            fallbacks=self._fallbacks,
        )
        return _Listener(served, wire, self._open)


class _Listener:
    """One connection's messages, straight to what serves it."""

    def __init__(self, served: ServedConnection, wire: RawWebSocket, open_connections: OpenConnections) -> None:
        self._served = served
        self._wire = wire
        self._open = open_connections

    async def serve(self) -> None:
        """Own the connection's turns until it is lost."""
        self._open.add(self._served)
        try:
            await self._served.serve()
        finally:
            self._open.remove(self._served)

    def on_message(self, data: bytes, *, is_text: bool) -> None:
        reading = self._served.receive(data, is_text=is_text)
        if reading is not None:
            self._wire.hold_reading(reading)

    def on_writable(self) -> None:
        self._served.resume()

    def on_lost(self) -> None:
        self._served.stop()
