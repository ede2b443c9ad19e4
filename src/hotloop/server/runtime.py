"""Running the ASGI application in uvicorn: one process, one loop, a graceful end.

SIGTERM or SIGINT: no new turns, running ones finish up to a limit, then connections close with 1012. A second signal drops
what still runs; a third ends without cleaning up.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from hotloop.server.connections import OpenConnections

logger = logging.getLogger(__name__)

LINGER_S = 3  # for what connections were sent to leave, once all turns are over; who does not read then is cut off
KEEP_ALIVE_S = 300  # an agent's tool may run for minutes between two requests on one HTTP connection


class DrainingServer(uvicorn.Server):
    """uvicorn, with running turns finished before it shuts down, and exit code 0 after a signal."""

    def __init__(self, config: uvicorn.Config, open_connections: OpenConnections, drain_timeout_s: float) -> None:
        super().__init__(config)
        self._open = open_connections
        self._drain_timeout_s = drain_timeout_s
        self._drain: asyncio.Task[None] | None = None
        self._signals = 0

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals through the loop; unlike uvicorn's own, they are not raised again after the end."""
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self.handle_exit, sig, None)
        try:
            yield
        finally:
            for sig in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(sig)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain, then stop. Second: drop what runs, then stop. Third: stop at once."""
        self._signals += 1
        if self._drain is None:
            self._drain = asyncio.create_task(self._drain_then_stop())
        elif self._signals == 2:
            self._open.abandon()
            self.should_exit = True
        else:
            self.force_exit = True

    async def _drain_then_stop(self) -> None:
        await self._open.drain(self._drain_timeout_s)
        self.should_exit = True


def uvicorn_config(
    app: Starlette,
    *,
    websocket: type[asyncio.Protocol] | None,
    host: str,
    port: int,
    max_message_bytes: int,
    slow_reader_s: float,
    log_level: str,
) -> uvicorn.Config:
    """Settings of the listening side. `websocket` None: through ASGI, where deflate would be all or nothing."""
    http, through_asgi = _protocols(slow_reader_s)
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=http,
        ws=websocket or through_asgi,
        ws_max_size=max_message_bytes,
        ws_per_message_deflate=websocket is not None,
        ws_ping_interval=30.0,
        ws_ping_timeout=60.0,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=LINGER_S,
        log_level=log_level,
        access_log=False,
        server_header=False,
        log_config=None,
    )


def _protocols(slow_reader_s: float) -> tuple[type[asyncio.Protocol] | str, type[asyncio.Protocol] | str]:
    """For HTTP, and for WebSocket through ASGI."""
    try:
        from hotloop.server.guarded import guarded
    except ImportError:
        logger.warning("this uvicorn has its protocols elsewhere: clients that do not read are left to it")
        return "auto", "auto"
    return guarded(slow_reader_s)


def listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that the port is known before anything is announced. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, so that asyncio's own loop switches Nagle's algorithm off too: it asks the socket for its protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.set_inheritable(True)
    except BaseException:
        listener.close()
        raise
    return listener
