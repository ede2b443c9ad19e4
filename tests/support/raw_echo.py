"""The raw WebSocket path with a listener that sends every message back: `python -m tests.support.raw_echo [PORT]`."""

import asyncio
import sys

import uvicorn
import uvloop

from hotloop.server.frames import BINARY, frame_head
from hotloop.server.handshake import UpgradeRequest
from hotloop.server.runtime import listen
from hotloop.server.websocket_raw import RawWebSocket, raw_protocol


class Echo:
    """Implements `Listener`."""

    def __init__(self, wire: RawWebSocket) -> None:
        self._wire = wire

    async def serve(self) -> None:
        pass

    def on_message(self, data: bytes, *, is_text: bool) -> None:
        if is_text:
            self._wire.push([data])
        else:  # hotloop itself never sends binary messages
            self._wire.send_frame(frame_head(0x80 | BINARY, len(data)) + data)

    def on_writable(self) -> None:
        pass

    def on_lost(self) -> None:
        pass


class EchoDoor:
    """Implements `Door`: anybody may come in."""

    def open(self, request: UpgradeRequest, wire: RawWebSocket) -> Echo:
        return Echo(wire)


async def serve(port: int, *, deflate: bool = True) -> None:
    """Until cancelled."""
    listener = listen("127.0.0.1", port)
    listener.listen()
    config = uvicorn.Config(
        _no_http,
        ws=raw_protocol(EchoDoor(), max_pending_bytes=64 * 2**20, slow_reader_s=30),
        ws_max_size=64 * 2**20,
        ws_per_message_deflate=deflate,
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await uvicorn.Server(config).serve(sockets=[listener])


async def _no_http(scope: object, receive: object, send: object) -> None:
    raise AssertionError("only WebSocket is served here")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
