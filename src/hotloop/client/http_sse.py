"""Turns over plain HTTP: every request carries the whole history, the answer comes as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import httpx

from hotloop.client.conversation import Conversation
from hotloop.client.errors import CannotConnect, ConnectionLost
from hotloop.client.events import Event, Terminal, decode, refusal_of_body, retry_after_s
from hotloop.client.sse import SseDecoder
from hotloop.client.transport import SILENCE_S, Traffic, headers, uses_proxy

CONNECT_TIMEOUT_S = 5.0
TAIL_TIMEOUT_S = 1.0  # after the last event: what is left is `[DONE]`, and reading it keeps the connection alive
_OK = 200
_ERROR_BODY_BYTES = 65_536


class HttpTransport:
    """Stateless requests to `<url>/responses` on a kept-alive connection.

    Args:
        url: base URL with http or https.
        api_key: sent as bearer token.
        silence_s: no byte for so long is a lost connection.
    """

    def __init__(self, url: str, *, api_key: str | None = None, silence_s: float = SILENCE_S) -> None:
        self._url = url.rstrip("/")
        self._traffic = Traffic()
        self._client = httpx.AsyncClient(
            headers={**headers(api_key), "Content-Type": "application/json", "Accept": "text/event-stream"},
            timeout=httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S),
            trust_env=uses_proxy(url),
        )

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    async def warm_up(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        """Nothing: a stateless server would forget it."""
        nothing: tuple[Event, ...] = ()
        for event in nothing:
            yield event

    async def stream(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        body = conversation.create_body()
        self._traffic.requests += 1
        self._traffic.bytes_out += len(body)
        try:
            async with self._client.stream("POST", f"{self._url}/responses", content=body) as response:
                if response.status_code != _OK:
                    wait_s = retry_after_s(dict(response.headers))
                    raise refusal_of_body(response.status_code, await _beginning(response), wait_s)
                async with aclosing(self._events(response)) as events:
                    async for event in events:
                        yield event
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise CannotConnect(self._url, str(error) or "no answer") from error
        except httpx.HTTPError as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error

    async def reset(self) -> None:
        """Nothing to forget: httpx drops a broken connection by itself."""

    async def close(self) -> None:
        await self._client.aclose()

    async def _events(self, response: httpx.Response) -> AsyncGenerator[Event, None]:
        decoder = SseDecoder()
        chunks = response.aiter_bytes()
        async for chunk in chunks:
            self._traffic.bytes_in += len(chunk)
            for data in decoder.feed(chunk):
                event: Event | None = decode(data) if data != b"[DONE]" else None
                if event is not None:
                    yield event
                if isinstance(event, Terminal):
                    await _read_tail(chunks)
                    return
        raise ConnectionLost("the stream ended before the response did")


async def _read_tail(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end, so that the connection can serve the next turn; a server that keeps it open loses it."""
    try:
        async with asyncio.timeout(TAIL_TIMEOUT_S):
            async for _ in chunks:
                pass
    except (TimeoutError, httpx.HTTPError):
        return  # the response is whole, only the connection is lost


async def _beginning(response: httpx.Response) -> bytes:
    """As much of an error body as could hold an error object."""
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _ERROR_BODY_BYTES:
            break
    return body
