"""A stand-in for a server: plays written-down turns over real sockets, WebSocket and HTTP on one port.

It knows the protocol's event order and nothing of models. Each request takes the next turn from the list; warm-ups are
answered beside it. What clients sent is kept for the test to look at.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

Json = dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """An error event on WebSocket, a status on HTTP."""

    status: int
    code: str
    message: str = "no"
    param: str | None = None
    retry_after: str | None = None

    @property
    def error(self) -> Json:
        return {"type": "invalid_request_error", "code": self.code, "message": self.message, "param": self.param}


@dataclass(frozen=True)
class Gate:
    """The server goes on when the test (or a tool) sets the event."""

    opened: asyncio.Event


@dataclass(frozen=True)
class Drop:
    """The connection goes away without a word."""


@dataclass(frozen=True)
class Stall:
    """The server falls silent and keeps the connection."""


Step = Json | Refusal | Gate | Drop | Stall
Turn = Sequence[Step]


def say(text: str) -> Json:
    """A message item."""
    part: Json = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}


def call(call_id: str, name: str, arguments: str | Json) -> Json:
    """A function call item."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": text,
    }


def shell(call_id: str, command: str) -> Json:
    return call(call_id, "shell", {"command": command})


def response(response_id: str, status: str, **fields: Any) -> Json:
    return {"id": response_id, "object": "response", "status": status, "output": [], "usage": None, **fields}


def begin(response_id: str) -> list[Json]:
    return [
        {"type": "response.created", "sequence_number": 0, "response": response(response_id, "in_progress")},
        {"type": "response.in_progress", "sequence_number": 1, "response": response(response_id, "in_progress")},
    ]


def item_events(index: int, item: Json) -> list[Json]:
    """One item, from added to done, as the protocol orders it."""
    added = {"type": "response.output_item.added", "output_index": index, "item": {**item, "status": "in_progress"}}
    done = {"type": "response.output_item.done", "output_index": index, "item": item}
    at = {"item_id": item["id"], "output_index": index}
    if item["type"] != "message":
        delta = {"type": "response.function_call_arguments.delta", **at, "delta": item["arguments"]}
        whole = {"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"]}
        return [added, delta, whole, done]
    text = item["content"][0]["text"]
    in_part = {**at, "content_index": 0}
    return [
        added,
        {"type": "response.content_part.added", **in_part, "part": {"type": "output_text", "text": ""}},
        *({"type": "response.output_text.delta", **in_part, "delta": char, "logprobs": []} for char in text),
        {"type": "response.output_text.done", **in_part, "text": text},
        {"type": "response.content_part.done", **in_part, "part": item["content"][0]},
        done,
    ]


def end(response_id: str, items: Sequence[Json], usage: tuple[int, int, int]) -> Json:
    read, cached, written = usage
    counts = {"input_tokens": read, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": written}
    whole = response(response_id, "completed", output=list(items), usage=counts)
    return {"type": "response.completed", "response": whole}


def turn(
    response_id: str,
    *items: Json,
    usage: tuple[int, int, int] = (10, 5, 3),
    engine_s: float | None = None,
    before_end: Sequence[Step] = (),
) -> list[Step]:
    """A whole turn; `before_end` stands between the last item and `response.completed`."""
    events: list[Step] = [*begin(response_id)]
    for index, item in enumerate(items):
        events += item_events(index, item)
    if engine_s is not None:
        events.append({"type": "hotloop:timing", "stamps": {"admitted": 0.001}, "engine_s": engine_s, "fallbacks": []})
    return [*events, *before_end, end(response_id, items, usage)]


def failed(response_id: str, code: str, message: str = "broken") -> list[Step]:
    whole = response(response_id, "failed", error={"code": code, "message": message})
    return [*begin(response_id), {"type": "response.failed", "response": whole}]


def incomplete(response_id: str, reason: str) -> list[Step]:
    whole = response(response_id, "incomplete", incomplete_details={"reason": reason})
    return [*begin(response_id), {"type": "response.incomplete", "response": whole}]


@dataclass(frozen=True)
class Received:
    """A create as it came."""

    over: Literal["ws", "http"]
    connection: int  # counts all connections of the server, from 1
    headers: dict[str, str]
    body: Json

    @property
    def is_warm_up(self) -> bool:
        return self.body.get("generate") is False


@dataclass
class RecordedWire:
    """The server's script and its memory.

    Attributes:
        upgrade: what a WebSocket handshake gets: accepted, an HTTP status, or silence.
    """

    turns: list[Turn]
    upgrade: Literal["accept", "stall"] | int = "accept"
    warm_up: Turn = field(default_factory=lambda: turn("resp_warm", usage=(4, 0, 0)))
    port: int = 0
    received: list[Received] = field(default_factory=list[Received])
    handshakes: int = 0
    connections: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def creates(self) -> list[Received]:
        return [request for request in self.received if not request.is_warm_up]

    @property
    def inputs(self) -> list[list[Json]]:
        return [request.body["input"] for request in self.creates]

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator["RecordedWire", None]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    def next_turn(self, request: Received) -> Turn:
        self.received.append(request)
        if request.is_warm_up:
            return self.warm_up
        assert self.turns, f"one request more than the script has turns: {request}"
        return self.turns.pop(0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._serve(reader, writer, self.connections)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
            if "upgrade" in headers:
                return await self._websocket(head, headers, reader, writer, number)
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            if lines[0].startswith("GET /v1/models "):
                await _answer(writer, 200, {"object": "list", "data": [{"id": "tiny", "object": "model"}]})
                continue
            assert lines[0].startswith("POST /v1/responses "), lines[0]
            request = Received("http", number, headers, json.loads(body))
            if not await _play_http(self.next_turn(request), writer):
                writer.transport.abort()
                return None

    async def _websocket(
        self,
        head: bytes,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
    ) -> None:
        self.handshakes += 1
        if self.upgrade == "stall":
            await reader.read()
            return
        if isinstance(self.upgrade, int):
            await _answer(writer, self.upgrade, {"error": Refusal(self.upgrade, "no_upgrade").error})
            return
        await _WebSocketSide(self, reader, writer, number, headers).serve(head)


class _WebSocketSide:
    """One accepted connection."""

    def __init__(
        self,
        wire: RecordedWire,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        number: int,
        headers: dict[str, str],
    ) -> None:
        self._wire = wire
        self._reader = reader
        self._writer = writer
        self._number = number
        self._headers = headers
        self._protocol = ServerProtocol(max_size=None)

    async def serve(self, head: bytes) -> None:
        self._protocol.receive_data(head)
        (request,) = self._protocol.events_received()
        assert isinstance(request, Request)
        assert request.path == "/v1/responses"
        self._protocol.send_response(self._protocol.accept(request))
        await self._flush()
        while self._protocol.state is State.OPEN and (data := await self._reader.read(65_536)):
            self._protocol.receive_data(data)
            await self._flush()
            for frame in self._protocol.events_received():
                if isinstance(frame, Frame) and frame.opcode is Opcode.TEXT:
                    received = Received("ws", self._number, self._headers, json.loads(bytes(frame.data)))
                    await self._play(self._wire.next_turn(received))

    async def _play(self, turn_: Turn) -> None:
        number = 0
        for step in turn_:
            match step:
                case Gate(opened):
                    await opened.wait()
                case Stall():
                    await asyncio.Event().wait()
                case Drop():
                    self._writer.transport.abort()
                    return
                case Refusal():
                    wait = {"headers": {"retry-after": step.retry_after}} if step.retry_after else {}
                    await self._send({"type": "error", "status": step.status, "error": {**step.error, **wait}})
                case dict():
                    await self._send({**step, "sequence_number": number})
                    number += 1

    async def _send(self, event: Json) -> None:
        self._protocol.send_text(json.dumps(event).encode())
        await self._flush()

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
        await self._writer.drain()


async def _play_http(turn_: Turn, writer: asyncio.StreamWriter) -> bool:
    """Answer one POST; False if the connection is to be dropped."""
    if isinstance(turn_[0], Refusal):
        refusal = turn_[0]
        wait = {"Retry-After": refusal.retry_after} if refusal.retry_after else {}
        await _answer(writer, refusal.status, {"error": refusal.error}, wait)
        return True
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    number = 0
    for step in turn_:
        match step:
            case Gate(opened):
                await opened.wait()
            case Stall():
                await asyncio.Event().wait()
            case Drop():
                return False
            case Refusal():
                number = await _write_event(writer, {**step.error, "type": "error", "error": step.error}, number)
            case dict():
                number = await _write_event(writer, step, number)
    await _write_chunk(writer, b"data: [DONE]\n\n")
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _write_event(writer: asyncio.StreamWriter, event: Json, number: int) -> int:
    data = json.dumps({**event, "sequence_number": number})
    await _write_chunk(writer, f"event: {event['type']}\ndata: {data}\n\n".encode())
    return number + 1


async def _write_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()


async def _answer(writer: asyncio.StreamWriter, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
    text = json.dumps(body).encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n{extra}\r\n"
    writer.write(head.encode() + text)
    await writer.drain()
