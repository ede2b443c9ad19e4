"""A host on the internet, as far as a fetcher can tell: real HTTP over a real socket on loopback, under a public address."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpcore

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
PUBLIC = "93.184.215.14"  # whatever is connected to there is the host of the test


def answer(body: bytes, *headers: str, status: str = "200 OK", kind: str = "text/plain") -> Behaviour:
    """One whole answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join(lines).encode() + body)

    return say


def redirect(target: str) -> Behaviour:
    return answer(b"", f"Location: {target}", status="302 Found")


async def endless(writer: asyncio.StreamWriter) -> None:
    """A body without an end, as fast as it is read."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()


async def stalled(writer: asyncio.StreamWriter) -> None:
    """The first byte of a body, and no other."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nx")
    await writer.drain()
    await asyncio.Event().wait()


async def silent(writer: asyncio.StreamWriter) -> None:
    """No answer."""
    await asyncio.Event().wait()


async def huge_header(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Much: " + b"x" * 2**20 + b"\r\n\r\n")
    await writer.drain()


async def broken_off(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nx")


class RemoteHost(httpcore.AsyncNetworkBackend):
    """What is connected to, and how it behaves by path. Also the resolver: `addresses` are given out in turn."""

    def __init__(self, behaviours: dict[str, Behaviour], addresses: Sequence[Sequence[str]]) -> None:
        self.behaviours = behaviours
        self.port = 0
        self.requests: list[str] = []  # request line and headers
        self.connected: list[tuple[str, int]] = []
        self.resolved: list[str] = []
        self.left = asyncio.Event()  # a client closed its connection
        self._addresses = list(addresses)
        self._inner: Any = httpcore.AnyIOBackend()

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The next of the addresses, the last for good; a name of none fails."""
        self.resolved.append(host)
        found = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
        if not found:
            raise OSError("no such name")
        return found

    async def connect_tcp(self, host: str, port: int, *rest: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        self.connected.append((host, port))
        stream: httpcore.AsyncNetworkStream = await self._inner.connect_tcp("127.0.0.1", self.port, *rest, **more)
        return stream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        watching: asyncio.Task[None] | None = None
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            watching = asyncio.ensure_future(self._watch(reader))
            await self.behaviours[head.split(" ")[1].partition("?")[0]](writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            if watching is not None:
                await watching  # ends with the connection

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """Until the client closes."""
        with suppress(OSError):
            await reader.read()
        self.left.set()


@asynccontextmanager
async def remote_host(
    behaviours: dict[str, Behaviour],
    addresses: Sequence[Sequence[str]] = ((PUBLIC,),),
    *,
    tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[RemoteHost]:
    host = RemoteHost(behaviours, addresses)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(host.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    host.port = server.sockets[0].getsockname()[1]
    try:
        yield host
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
