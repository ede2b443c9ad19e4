"""A server over streamable HTTP: no redirect to another origin, no proxy of the environment, bounded answers.

What goes wrong on the way becomes an answer to the one request it concerns; the session, which others share, goes on.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED, INTERNAL_ERROR

from hotloop.protocol.wire import json_bytes

MAX_MESSAGE_BYTES = 8 * 2**20
_UNREACHABLE = "the server cannot be reached"


@asynccontextmanager
async def http_streams(
    url: str, headers: Mapping[str, str], *, connect_timeout_s: float, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> AsyncGenerator[TransportStreams]:
    """The streams a session takes. Nothing is connected before the first message."""
    # Reading has no timeout of its own: whoever waits for an answer has one.
    timeout = httpx2.Timeout(connect_timeout_s, read=None)
    # Certificates are those of the environment, proxies are not (`trust_env` of the client).
    transport = _Guarded(httpx2.AsyncHTTPTransport(), max_message_bytes)
    client = httpx2.AsyncClient(
        transport=transport,
        headers={"Accept-Encoding": "identity", **headers},
        timeout=timeout,
        trust_env=False,
    )
    # A redirect is followed within the origin only (the library's `stream_within_origin`).
    async with client, streamable_http_client(url, http_client=client, max_sse_event_size=max_message_bytes) as streams:
        yield streams


class _Guarded(httpx2.AsyncBaseTransport):
    """Bounds each answer, and turns failures into answers."""

    def __init__(self, inner: httpx2.AsyncHTTPTransport, max_bytes: int) -> None:
        self._inner = inner
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError:
            return _error(502, CONNECTION_CLOSED, _UNREACHABLE)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            return _error(502, INTERNAL_ERROR, "the server compresses its answers, which was not asked for")
        # 404 tells the session that it is over, 405 that there is no stream to listen to.
        if response.status_code >= 400 and response.status_code not in (404, 405) and not _is_json(response):
            await response.aclose()
            status = response.status_code
            return _error(status, INTERNAL_ERROR, f"the server answered with HTTP status {status}", status)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Bounded(response.stream, self._max_bytes),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._inner = inner
        self._left = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._left -= len(chunk)
                if self._left < 0:
                    raise httpx2.StreamError("the answer is too long")
                yield chunk
        except httpx2.TransportError:
            raise httpx2.StreamError("the server broke off") from None

    async def aclose(self) -> None:
        await self._inner.aclose()


def _is_json(response: httpx2.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.lower().startswith("application/json")


def _error(status: int, code: int, message: str, http_status: int | None = None) -> httpx2.Response:
    """An answer as the protocol has it."""
    error = {"code": code, "message": message} | ({} if http_status is None else {"data": {"http_status": http_status}})
    body = json_bytes({"jsonrpc": "2.0", "id": None, "error": error})
    return httpx2.Response(status, headers={"content-type": "application/json"}, content=body)
