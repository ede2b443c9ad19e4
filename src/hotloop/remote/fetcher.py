"""One GET of a stranger's URL.

    checked ─▶ resolved once, every address looked at ─▶ connected to that address ─▶ status, type, length ─▶ body, counted
       ▲                                                                                │
       └────────────────────────── redirect, at most MAX_REDIRECTS ──────────────────────┘

The URL is parsed once: what was checked is what is asked for. No proxy of the environment, no cookies, no credentials, no
compression. Nothing of an answer is logged.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import httpcore
import httpx

from hotloop.errors import (
    RemoteContentTooLarge,
    RemoteFetchFailed,
    RemoteFetchTimeout,
    RemoteUrlNotAllowed,
    UnsupportedValue,
)
from hotloop.remote.addresses import is_public
from hotloop.remote.sources import Source
from hotloop.seams.remote import Fetched

MAX_REDIRECTS = 3
MAX_URL_CHARS = 8192
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_ADDRESSES = 4  # tried of those that a name has

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of one fetch, and how many run at once in this process. `total_s` counts the wait for a place."""

    max_bytes: int = 4 * 2**20
    total_s: float = 10.0
    at_once: int = 8


class SystemResolver:
    """Asks the system, in threads of its own: a name server that hangs holds up no other work that is done in threads."""

    def __init__(self, threads: int = 4) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Every address of the host. Raises OSError."""
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class HttpContent:
    """Implements `seams.remote.RemoteContent`.

    Args:
        sources: the allow-list.
        limits: bounds.
        resolver: finds the addresses of a host; the system's by default.
        backend: opens connections, to addresses only.
        tls: what certificates are checked against; made at the first use by default.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        limits: FetchLimits | None = None,
        *,
        resolver: Resolve | None = None,
        backend: httpcore.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._limits = limits or FetchLimits()
        self._resolver = resolver or SystemResolver()
        # What the class is to type checkers depends on whether anyio, which httpx needs, is there.
        self._backend = backend or cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())
        self._tls = tls
        self._places = asyncio.Semaphore(self._limits.at_once)

    async def fetch(self, url: str, accepts: Callable[[str], bool], *, param: str) -> Fetched:
        """See the seam."""
        try:
            async with asyncio.timeout(self._limits.total_s), self._places:
                return await self._follow(self._checked(url, param), accepts, param)
        except TimeoutError:
            raise RemoteFetchTimeout(self._limits.total_s, param=param) from None
        except (httpcore.NetworkError, httpcore.TimeoutException):
            raise RemoteFetchFailed("the host cannot be reached, or broke off", param=param) from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise RemoteFetchFailed(
                "the host's answer is no valid HTTP, or its headers are too long", param=param
            ) from None

    async def _follow(self, url: httpx.URL, accepts: Callable[[str], bool], param: str) -> Fetched:
        for _ in range(MAX_REDIRECTS + 1):
            async with self._answer(url, param) as answer:
                if answer.status not in _REDIRECTS:
                    return await self._read(answer, accepts, param)
                target = _header(answer, b"location")
            try:
                further = url.join(target)
            except (httpx.InvalidURL, ValueError):
                raise RemoteFetchFailed("the host redirects to what is no URL", param=param) from None
            # Every hop is judged like the first; a step down from https is none that the allow-list could mean.
            if url.scheme == "https" and further.scheme != "https":
                raise RemoteUrlNotAllowed("the host redirects to a URL without https", param=param)
            url = self._checked(str(further), param)
        raise RemoteFetchFailed(f"the host redirects more than {MAX_REDIRECTS} times", param=param)

    def _checked(self, text: str, param: str) -> httpx.URL:
        """The URL, if it is one that may be fetched."""
        url = _parsed(text)
        if url is None:
            raise RemoteUrlNotAllowed("it is not an http or https URL of a host", param=param)
        if url.userinfo:
            raise RemoteUrlNotAllowed("it holds a user name or password", param=param)
        if not any(source.allows(url) for source in self._sources):
            raise RemoteUrlNotAllowed("this server does not fetch from that host, scheme or port", param=param)
        return url

    @asynccontextmanager
    async def _answer(self, url: httpx.URL, param: str) -> AsyncGenerator[httpcore.Response]:
        backend = _Pinned(self._backend, self._resolver, param)
        if url.scheme == "https" and self._tls is None:
            self._tls = await asyncio.to_thread(httpcore.default_ssl_context)
        origin = httpcore.URL(scheme=url.scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        headers = [(b"Host", url.netloc), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"hotloop")]
        async with (
            httpcore.AsyncConnectionPool(self._tls, max_connections=1, network_backend=backend) as pool,
            pool.stream("GET", origin, headers=headers) as answer,
        ):
            yield answer

    async def _read(self, answer: httpcore.Response, accepts: Callable[[str], bool], param: str) -> Fetched:
        if answer.status != 200:
            raise RemoteFetchFailed(f"the host answered with status {answer.status}", param=param)
        if _header(answer, b"content-encoding").lower() not in ("", "identity"):
            raise RemoteFetchFailed("the host compresses its answer, which was not asked for", param=param)
        media_type = _header(answer, b"content-type").partition(";")[0].strip().lower()
        if not accepts(media_type):
            kind = media_type[:80] if media_type and media_type.isprintable() else "unknown"
            raise UnsupportedValue(f"What is at this URL is of type {kind}, which this model cannot read.", param=param)
        length, limit = _header(answer, b"content-length"), self._limits.max_bytes
        if length.isdecimal() and int(length[:20]) > limit:
            raise RemoteContentTooLarge(limit, param=param)
        data = bytearray()
        async for chunk in answer.aiter_stream():
            data += chunk
            if len(data) > limit:
                raise RemoteContentTooLarge(limit, param=param)
        return Fetched(media_type, bytes(data))


def _parsed(text: str) -> httpx.URL | None:
    if len(text) > MAX_URL_CHARS:
        return None
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        return None
    return url if url.raw_host and url.scheme in ("http", "https") else None


def _header(answer: httpcore.Response, name: bytes) -> str:
    return next((value for key, value in answer.headers if key.lower() == name), b"").decode("latin-1").strip()


class _Pinned(httpcore.AsyncNetworkBackend):
    """Looks a host up once and connects to what it found, if all of it is public: a name cannot change its mind."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend, resolver: Resolve, param: str) -> None:
        self._inner = inner
        self._resolver = resolver
        self._param = param

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolver(host, port)
        except OSError:
            addresses = ()
        if not addresses:
            raise RemoteFetchFailed("the host has no address", param=self._param)
        if not all(map(is_public, addresses)):
            raise RemoteUrlNotAllowed("the host is not at a public address", param=self._param)
        failure: httpcore.NetworkError | None = None
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.NetworkError as error:
                failure = error
        assert failure is not None
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
