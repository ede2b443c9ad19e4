"""The server's end of the link to an engine host, and the starting and stopping of that process."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from typing import cast

import msgspec

from hotloop.engines.llama.faults import LibraryError, ModelFileError
from hotloop.engines.llama.messages import (
    FrameReader,
    FromHost,
    Ready,
    Step,
    Unusable,
    from_host_decoder,
)
from hotloop.engines.llama.options import HostOptions

STOP_GRACE_S = 5.0  # the host ends itself on the end of the link; what still lives then is killed


class HostLink(asyncio.Protocol):
    """Frames to and from one engine host. Every callback comes on the event loop.

    Args:
        on_lost: gets what the host says of its end, "" if it says nothing.
    """

    def __init__(self, on_step: Callable[[Step], None], on_lost: Callable[[str], None]) -> None:
        self._on_step = on_step
        self._on_lost = on_lost
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._first: asyncio.Future[FromHost] = asyncio.get_running_loop().create_future()
        self._end_reason = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # a stream socket's transport is one

    def data_received(self, data: bytes) -> None:
        for body in self._frames.feed(data):
            message = from_host_decoder.decode(body)
            if isinstance(message, Step):
                self._on_step(message)
            elif not self._first.done():
                self._first.set_result(message)
            elif isinstance(message, Unusable):
                self._end_reason = message.reason

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._first.done():
            self._first.set_result(Unusable("the engine host ended while it started"))
        self._on_lost(self._end_reason)

    def send(self, encoded: bytes) -> None:
        """Queue a frame; it leaves at once unless the host does not read."""
        assert self._transport is not None, "send before the link is up"
        self._transport.write(encoded)

    async def ready(self) -> Ready:
        """Wait until the model is loaded. Raises ModelFileError or LibraryError if it cannot be."""
        message = await self._first
        if isinstance(message, Ready):
            return message
        reason = message.reason if isinstance(message, Unusable) else "the engine host speaks out of turn"
        if isinstance(message, Unusable) and message.path is not None:
            raise ModelFileError(message.path, reason)
        raise LibraryError(reason)

    def close(self) -> None:
        """Hang up; the host ends itself."""
        if self._transport is not None:
            self._transport.abort()


class HostProcess:
    """A running engine host. `stop` must be awaited in the end."""

    def __init__(self, process: asyncio.subprocess.Process, link: HostLink) -> None:
        self._process = process
        self.link = link

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it now, whatever it does. The link is lost next."""
        if self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> None:
        """Leave no process behind. Idempotent."""
        self.link.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_GRACE_S)
        except TimeoutError:
            self.kill()
            await self._process.wait()


async def spawn(options: HostOptions, make_link: Callable[[], HostLink]) -> HostProcess:
    """Start a host process. Its model is loaded when `link.ready()` returns."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await _spawn_process(options, theirs)
        _, link = await asyncio.get_running_loop().create_unix_connection(make_link, sock=ours)
    except BaseException:
        ours.close()  # a host that already lives ends itself by this
        raise
    return HostProcess(process, link)


async def _spawn_process(options: HostOptions, link: socket.socket) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the working directory may hold anything, a `queue.py` too
        "-m",
        "hotloop.engines.llama.host",
        str(link.fileno()),
        str(os.getpid()),
        msgspec.json.encode(options).decode(),
        pass_fds=(link.fileno(),),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        # spinning OpenMP threads starve each other and the server: 155 instead of 8,000 tokens/s on two cores
        # a failed assertion in ggml would run a debugger for seconds before the process ends
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"},
    )
