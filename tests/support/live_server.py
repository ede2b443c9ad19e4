"""A real server on a real socket inside the test's own loop, and a client that speaks the wire and nothing more."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import uvicorn
from tests.support.recorded_traffic import RecordedTraffic
from websockets.asyncio.client import ClientConnection, connect

from hotloop.app import App, build_app
from hotloop.config import ServerSettings
from hotloop.models.token_model import TokenModel
from hotloop.server.runtime import listen, uvicorn_config
from hotloop.server.websocket import THROUGH_ASGI
from hotloop.turns.record import TurnRecord

TERMINAL = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})
PATIENCE_S = 30.0
WEBSOCKET = "raw"  # the path that WebSockets take; tests of both set it

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LiveServer:
    """A running server. `url` ends in `/v1`."""

    url: str
    app: App
    uvicorn: uvicorn.Server

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/responses"

    def slower_paths(self, record: TurnRecord) -> list[str]:
        """A turn's fallbacks; that its WebSocket goes through ASGI is what the test asked for."""
        wanted = {THROUGH_ASGI} if self.app.websocket is None else set[str]()
        return [name for name in record.fallbacks if name not in wanted]


class _Server(uvicorn.Server):
    """uvicorn without its clock: it looks ten times a second whether to end, and then gives connections a tenth of one."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_over = asyncio.Event()

    def capture_signals(self) -> Any:
        return nullcontext()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.is_over.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_CLOSING_ROUNDS):
            if self.server_state.connections or self.server_state.tasks:
                await asyncio.sleep(0)
        await self._wait_tasks_to_complete()
        await self.lifespan.shutdown()


_CLOSING_ROUNDS = 50  # of the loop, in which connections close; uvicorn waits for those that take longer


@asynccontextmanager
async def live_server(
    model: TokenModel, settings: ServerSettings | None = None, *, checks_requests: bool = True
) -> AsyncGenerator[LiveServer]:
    """Serve `model` on a free port until the block ends; the model is closed with the server.

    All that was said meanwhile, by whatever client, is then checked; requests only if they are meant to be the contract's.
    """
    settings = replace(settings or ServerSettings(port=0), websocket=WEBSOCKET)
    listener = listen("127.0.0.1", 0)
    app = build_app(model, settings)
    port = listener.getsockname()[1]
    traffic = RecordedTraffic()
    traffic.listen_in(app.websocket)
    config = uvicorn_config(
        traffic.asgi(app.asgi),
        websocket=app.websocket,
        host="127.0.0.1",
        port=port,
        max_message_bytes=settings.max_message_bytes,
        slow_reader_s=settings.slow_reader_s,
        log_level="warning",
    )
    server = _Server(config)
    listener.listen(128)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield LiveServer(f"http://127.0.0.1:{port}/v1", app, server)
    finally:
        server.is_over.set()
        await asyncio.wait_for(serving, PATIENCE_S)
        listener.close()
    traffic.check(requests=checks_requests)


class Socket:
    """One WebSocket connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **fields: Any) -> None:
        """Send a `response.create` with these fields."""
        await self.send_text(json.dumps({"type": "response.create", "model": "test", **fields}))

    async def send_text(self, text: str | bytes) -> None:
        await self.connection.send(text)

    async def receive(self) -> Event:
        """The next event."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.connection.recv()
        assert isinstance(message, str), "binary frames break clients"
        event: Event = json.loads(message)
        return event

    async def until_terminal(self) -> list[Event]:
        """Events up to and with the first terminal or error event."""
        events = [await self.receive()]
        while events[-1]["type"] not in TERMINAL:
            events.append(await self.receive())
        return events

    async def turn(self, **fields: Any) -> list[Event]:
        """Send a create and read its events."""
        await self.send(**fields)
        return await self.until_terminal()


@asynccontextmanager
async def open_socket(server: LiveServer, **options: Any) -> AsyncGenerator[Socket]:
    """A connection to the server's WebSocket mode."""
    async with connect(server.socket_url, max_size=None, compression=None, **options) as connection:
        yield Socket(connection)


def final_response(events: list[Event]) -> dict[str, Any]:
    """The response object of the terminal event."""
    response: dict[str, Any] = events[-1]["response"]
    return response


def output_text(events: list[Event]) -> str:
    """All text of the final output."""
    return "".join(
        part["text"]
        for item in final_response(events)["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )


def calls(events: list[Event]) -> list[dict[str, Any]]:
    """The calls of the final output."""
    return [item for item in final_response(events)["output"] if item["type"].endswith("_call")]
