"""ASGI without a server: a WebSocket peer and an HTTP request, so that a door can be tested without a socket."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Door = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

PATIENCE_S = 60.0


class WebSocketPeer:
    """One connection to a WebSocket door. `hears` off: the peer reads nothing, sends block."""

    def __init__(self, door: Door, headers: dict[str, str] | None = None) -> None:
        scope: Message = {
            "type": "websocket",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "extensions": {"websocket.http.response": {}},
        }
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.hears = asyncio.Event()
        self.hears.set()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self.served = asyncio.ensure_future(door(scope, self._inbox.get, self._send))

    async def _send(self, message: Message) -> None:
        await self.hears.wait()
        self._outbox.put_nowait(message)

    def say(self, **fields: Any) -> None:
        """Send one event."""
        self.say_raw(json.dumps(fields))

    def say_raw(self, text: str | bytes) -> None:
        """Send one message as it is."""
        self._inbox.put_nowait({"type": "websocket.receive", "text" if isinstance(text, str) else "bytes": text})

    def create(self, **fields: Any) -> None:
        """Send a `response.create` to the toy model."""
        self.say(type="response.create", **{"model": "toy", "input": "hi", **fields})

    def leave(self) -> None:
        """Drop the connection."""
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def message(self) -> Message:
        """The next ASGI message from the door."""
        return await asyncio.wait_for(self._outbox.get(), PATIENCE_S)

    async def event(self) -> dict[str, Any]:
        """The next event."""
        message = await self.message()
        assert message["type"] == "websocket.send", message
        found: dict[str, Any] = json.loads(message["text"])
        return found

    async def until(self, *types: str) -> list[dict[str, Any]]:
        """Events up to and with the first of one of `types`."""
        events = [await self.event()]
        while events[-1]["type"] not in types:
            events.append(await self.event())
        return events

    async def turn(self, **fields: Any) -> list[dict[str, Any]]:
        """Send a create and read it to its end."""
        self.create(**fields)
        return await self.until("response.completed", "response.failed", "response.incomplete", "error")

    async def accepted(self) -> "WebSocketPeer":
        """Wait for the handshake."""
        message = await self.message()
        assert message["type"] == "websocket.accept", message
        return self

    async def gone(self) -> None:
        """Until the door lets go of the connection."""
        await asyncio.wait_for(self.served, PATIENCE_S)


class HttpExchange:
    """One POST to an HTTP door."""

    def __init__(self, door: Door, body: bytes, method: str = "POST", headers: dict[str, str] | None = None) -> None:
        scope: Message = {
            "type": "http",
            "method": method,
            "path": "/v1/responses",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        }
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.messages: list[Message] = []
        self.hears = asyncio.Event()
        self.hears.set()
        self.began = asyncio.Event()
        self.served = asyncio.ensure_future(door(scope, self._inbox.get, self._send))

    async def _send(self, message: Message) -> None:
        await self.hears.wait()
        self.messages.append(message)
        self.began.set()

    def leave(self) -> None:
        """Drop the connection."""
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def over(self) -> "HttpExchange":
        """Until the door is done with it."""
        await asyncio.wait_for(self.served, PATIENCE_S)
        return self

    @property
    def status(self) -> int:
        """Status of the response."""
        found: int = self.messages[0]["status"]
        return found

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Headers of the response."""
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        """All of the body."""
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def json(self) -> Any:
        """The body decoded."""
        return json.loads(self.body)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of an SSE body."""
        blocks = self.body.split(b"\n\n")
        return [json.loads(block.split(b"\ndata: ")[1]) for block in blocks if block.startswith(b"event: ")]
