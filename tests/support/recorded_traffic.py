"""Everything that crosses a test server's doors, and one check of all of it when the test is over.

Every server of `live_server` is recorded, so no integration test has events or objects that were not held against the
contract and the order of docs/protocol.md §3, whichever client it speaks through and whatever else it looks at.
"""

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.applications import Starlette
from tests.support.event_order import (
    TERMINAL,
    check_connection,
    check_response_events,
    check_resumed_events,
    check_unfinished_events,
)
from tests.support.open_responses import check_error_body, check_event, check_request, check_response, check_schema

from hotloop.server.handshake import UpgradeRequest
from hotloop.server.websocket_raw import Door, Listener, RawWebSocket

Json = dict[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True)
class SocketTalk:
    """One WebSocket connection: messages in (True) and out (False), as they came."""

    messages: list[tuple[bool, bytes]] = field(default_factory=list[tuple[bool, bytes]])

    def check(self, *, requests: bool = True) -> None:
        """Assert that every event is in order and, if `requests`, every request that was let in is the contract's."""
        decoded = [(is_in, _decoded(data)) for is_in, data in self.messages]
        check_connection(message for is_in, message in decoded if not is_in and message is not None)
        for request in _accepted(decoded) if requests else ():
            check_request(request, websocket=True)


@dataclass(slots=True)
class Exchange:
    """One HTTP request and its answer."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    request: bytes = b""
    status: int = 0
    content_type: str = ""
    chunks: list[bytes] = field(default_factory=list[bytes])
    is_whole: bool = False  # the answer was sent to its end

    def check(self, *, requests: bool = True) -> None:
        """Assert that the answer is the contract's and, if `requests`, the request too if it was served."""
        if self.path.startswith("/v1/chat/") or not self.status:
            return
        if self.content_type.startswith("text/event-stream"):
            self._check_stream()
        elif self.content_type.startswith("application/json") and self.is_whole:
            self._check_object(json.loads(b"".join(self.chunks)))
        is_create = (self.method, self.path) == ("POST", "/v1/responses")
        if requests and is_create and self.status == 200 and "content-encoding" not in self.headers:
            check_request(json.loads(self.request), websocket=False)

    def _check_object(self, body: Json) -> None:
        if self.status >= 400:
            check_error_body(body)
        elif body.get("object") == "response" and "deleted" not in body:
            check_response(body)
        elif body.get("object") == "response.compaction":
            check_schema("CompactResource", body)

    def _check_stream(self) -> None:
        for chunk in self.chunks:
            assert not chunk or chunk.endswith(b"\n\n"), "an event that is not written in one piece"
        events = sse_events(b"".join(self.chunks).decode(), is_whole=self.is_whole)
        if "starting_after" in self.query:
            check_resumed_events(events)
        elif events and events[-1]["type"] == "error":
            check_event(events[-1])
            assert events[-1]["sequence_number"] == len(events) - 1
            check_unfinished_events(events[:-1])
        elif any(event["type"] in TERMINAL for event in events):
            check_response_events(events)
        elif events:  # the client left, or the response was cancelled
            check_unfinished_events(events)


def sse_events(text: str, *, is_whole: bool = True) -> list[Json]:
    """Events of an SSE body; asserts that it is framed as docs/protocol.md §11.1 says."""
    *blocks, rest = text.split("\n\n")
    assert rest == ""
    if is_whole:
        assert blocks and blocks.pop() == "data: [DONE]"
    events: list[Json] = []
    for block in blocks:
        first, second = block.split("\n")
        event = json.loads(second.removeprefix("data: "))
        assert first == f"event: {event['type']}"
        events.append(event)
    return events


class RecordedTraffic:
    """What one server heard and said."""

    def __init__(self) -> None:
        self.sockets: list[SocketTalk] = []
        self.exchanges: list[Exchange] = []

    def check(self, *, requests: bool = True) -> None:
        """Assert all that the parts assert."""
        for talk in self.sockets:
            talk.check(requests=requests)
        for exchange in self.exchanges:
            exchange.check(requests=requests)

    def asgi(self, app: Starlette) -> Starlette:
        """The application, listened in on."""

        async def recorded(scope: Message, receive: Receive, send: Send) -> None:
            match scope["type"]:
                case "http":
                    await app(scope, *self._http(scope, receive, send))
                case "websocket":
                    await app(scope, *self._websocket(receive, send))
                case _:
                    await app(scope, receive, send)

        return cast(Starlette, recorded)  # uvicorn wants any ASGI application

    def listen_in(self, websocket: "type[Any] | None") -> None:
        """Record the connections of a raw WebSocket class, which ASGI never sees."""
        if websocket is not None:
            websocket.door = _RecordingDoor(websocket.door, self)

    def _http(self, scope: Message, receive: Receive, send: Send) -> tuple[Receive, Send]:
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        exchange = Exchange(scope["method"], scope["path"], scope["query_string"].decode(), headers)
        self.exchanges.append(exchange)

        async def hear() -> Message:
            message = await receive()
            exchange.request += message.get("body", b"")
            return message

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.content_type = dict(message["headers"]).get(b"content-type", b"").decode()
            else:
                exchange.chunks.append(message.get("body", b""))
                exchange.is_whole = not message.get("more_body", False)
            await send(message)

        return hear, say

    def _websocket(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        talk = SocketTalk()
        self.sockets.append(talk)

        async def hear() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and message.get("text") is not None:
                talk.messages.append((True, message["text"].encode()))
            return message

        async def say(message: Message) -> None:
            if message["type"] == "websocket.send":
                talk.messages.append((False, message["text"].encode()))
            await send(message)

        return hear, say


class _RecordingDoor:
    """Implements `websocket_raw.Door`: the server's own, listened in on."""

    def __init__(self, door: Door, traffic: RecordedTraffic) -> None:
        self._door = door
        self._traffic = traffic

    def open(self, request: UpgradeRequest, wire: RawWebSocket) -> Listener:
        listener = self._door.open(request, wire)
        talk = SocketTalk()
        self._traffic.sockets.append(talk)
        push, on_message = wire.push, listener.on_message

        def say(events: Iterable[bytes]) -> None:
            listed = list(events)
            if not wire.is_closed:
                talk.messages += [(False, event) for event in listed]
            push(listed)

        def hear(data: bytes, *, is_text: bool) -> None:
            if is_text:
                talk.messages.append((True, data))
            on_message(data, is_text=is_text)

        wire.push = say  # type: ignore[method-assign]
        listener.on_message = hear  # type: ignore[method-assign]
        return listener


def _decoded(data: bytes) -> Json | None:
    """None for what is no JSON object: a client may send anything."""
    try:
        message = json.loads(data)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None  # pyright: ignore[reportUnknownVariableType]


def _accepted(messages: Iterable[tuple[bool, Json | None]]) -> list[Json]:
    """The creates that became responses. A lane is first in, first out; only what is refused on receipt overtakes."""
    waiting: dict[str | None, deque[Json]] = {}
    accepted: list[Json] = []
    newest: Json | None = None  # the create that came just before
    for is_in, message in messages:
        if message is None:
            newest = None
            continue
        lane = waiting.setdefault(
            message.get("stream_id") if isinstance(message.get("stream_id"), str) else None, deque()
        )
        if is_in:
            newest = message if message.get("type") == "response.create" else None
            if newest is not None:
                lane.append(newest)
        elif message["type"] == "response.created":
            # A successor of a steered response comes without a create of its own.
            parent = message["response"]["previous_response_id"]
            if lane and lane[0].get("previous_response_id") == parent:
                accepted.append(lane.popleft())
        elif message["type"] == "error" and lane:
            if newest is lane[-1]:
                lane.pop()
            else:
                lane.popleft()
    return accepted
