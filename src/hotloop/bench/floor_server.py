"""The cheapest socket programs worth comparing with, one per process: `python -m hotloop.bench.floor_server raw|asgi`.

    raw   an asyncio.Protocol on uvloop that neither unmasks nor decodes: 1 KB in, 200 B frames out
    asgi  the same frames through ASGI sends, in uvicorn with the WebSocket implementation that hotloop runs on

A request is 1024 bytes that begin with a letter and seven digits, the number of frames: `T` one frame per loop tick, `B`
sixteen per loop tick (raw: in one write). The port stands on the first line of stdout.
"""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, cast

import uvicorn
import uvloop

REQUEST_BYTES: Final = 1024
FRAME_PAYLOAD_BYTES: Final = 200  # a delta event of hotloop's is 190 to 200 bytes
BATCH: Final = 16
_EVENT = (
    '{"type":"response.output_text.delta","sequence_number":1234,"item_id":"msg_0123456789abcdef0123456789abcdef",'
    '"output_index":0,"content_index":0,"delta":" hello","logprobs":[]}'
)
PAYLOAD: Final = _EVENT.ljust(FRAME_PAYLOAD_BYTES)
FRAME: Final = bytes((0x81, 126)) + FRAME_PAYLOAD_BYTES.to_bytes(2, "big") + PAYLOAD.encode()


def request_bytes(mode: str, frames: int) -> bytes:
    """A request, before any WebSocket framing."""
    return f"{mode}{frames:07d}".encode().ljust(REQUEST_BYTES, b"x")


class RawProtocol(asyncio.Protocol):
    """The floor: no handshake, no unmasking, frames made beforehand."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's.
        self._write = cast(asyncio.WriteTransport, transport).write
        self._loop = asyncio.get_running_loop()
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request."""
        self._pending += data
        if len(self._pending) < REQUEST_BYTES:
            return
        mode, frames = self._pending[:1], int(self._pending[1:8])
        self._pending = self._pending[REQUEST_BYTES:]
        if mode == b"T":
            self._one_per_tick(frames)
        else:
            self._batch_per_tick(frames)

    def _one_per_tick(self, left: int) -> None:
        self._write(FRAME)
        if left > 1:
            self._loop.call_soon(self._one_per_tick, left - 1)

    def _batch_per_tick(self, left: int) -> None:
        self._write(FRAME * min(left, BATCH))
        if left > BATCH:
            self._loop.call_soon(self._batch_per_tick, left - BATCH)


_Message = MutableMapping[str, Any]


async def asgi_app(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """The same frames, each through one ASGI send."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message["text"]
        per_tick = 1 if text[0] == "T" else BATCH
        for number in range(1, int(text[1:8]) + 1):
            await send({"type": "websocket.send", "text": PAYLOAD})
            if number % per_tick == 0:
                await asyncio.sleep(0)


async def _serve_raw(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(RawProtocol, sock=listener)
    await server.serve_forever()


async def _serve_asgi(listener: socket.socket) -> None:
    config = uvicorn.Config(
        asgi_app,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        lifespan="off",
        access_log=False,
        log_config=None,
    )
    await uvicorn.Server(config).serve(sockets=[listener])


def main(kind: str) -> None:
    """Serve on a free loopback port until killed."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    serve = {"raw": _serve_raw, "asgi": _serve_asgi}[kind]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(listener))


if __name__ == "__main__":
    main(sys.argv[1])
