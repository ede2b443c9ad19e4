"""Turns over one WebSocket: only what is new is sent, the server keeps the rest.

    head = None ── full history ──▶ completed: head = (response id, items the server now holds)
    head        ── items after it ─▶ completed: head moves on
    anything else that ends a turn, or a lost socket: head = None

A refusal for rate (429) is the exception: the server has not touched the chain, so the head stays.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from hotloop.client.conversation import Conversation
from hotloop.client.errors import AgentError, CannotConnect, ConnectionLost, WebSocketBlocked
from hotloop.client.events import (
    Completed,
    ErrorEvent,
    Event,
    ItemDone,
    Terminal,
    decode,
    refusal_of_body,
    retry_after_s,
)
from hotloop.client.silence import SilenceWatch
from hotloop.client.transport import SILENCE_S, Traffic, headers, uses_proxy

CONNECT_TIMEOUTS_S = (3.0, 2.0)  # a try each; both together leave HTTP a second of the six it may take to get through
CLOSE_TIMEOUT_S = 1.0
_UPGRADE_REQUIRED = 426
_RATE_LIMITED = 429


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain on the server: its id, and how many items of the conversation it covers."""

    response_id: str
    known: int


class WebSocketTransport:
    """Persistent connection to `<url>/responses`.

    Args:
        url: base URL with http or https; the scheme is swapped.
        api_key: sent as bearer token in the handshake.
        connect_timeouts_s: one try per entry before the WebSocket counts as blocked.
        silence_s: no message for so long is a lost connection.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        connect_timeouts_s: tuple[float, ...] = CONNECT_TIMEOUTS_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = headers(api_key)
        self._connect_timeouts_s = connect_timeouts_s
        self._silence_s = silence_s
        self._socket: ClientConnection | None = None
        self._head: Head | None = None
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        return self._traffic

    async def warm_up(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        """Connect and send `generate: false`; its response becomes the parent of the first turn."""
        async for event in self._exchange(conversation.warm_up_event(), covers=0):
            yield event

    async def stream(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        await self._connected()  # first: a new connection knows no head
        head = self._head
        message = conversation.create_event(
            known=head.known if head else 0, previous_response_id=head.response_id if head else None
        )
        async for event in self._exchange(message, covers=len(conversation)):
            yield event

    async def reset(self) -> None:
        await self._abandon()

    async def close(self) -> None:
        socket, self._socket, self._head = self._socket, None, None
        if socket is not None:
            await socket.close()

    async def _exchange(self, message: bytes, *, covers: int) -> AsyncGenerator[Event, None]:
        socket = await self._connected()
        head, self._head = self._head, None
        terminal: Terminal | None = None
        watch = SilenceWatch(self._silence_s, socket.transport.abort)
        try:
            await self._send(socket, message)
            while terminal is None:
                event = await self._receive(socket, watch)
                if isinstance(event, ItemDone):
                    covers += 1
                elif isinstance(event, Completed):
                    self._head = Head(event.response.id, covers)
                elif isinstance(event, ErrorEvent) and event.status == _RATE_LIMITED:
                    self._head = head
                if isinstance(event, Terminal):
                    terminal = event
                if event is not None:
                    yield event
        finally:
            watch.stop()
            if terminal is None:  # the rest of this turn's events would be taken for the next one's
                await self._abandon()

    async def _send(self, socket: ClientConnection, message: bytes) -> None:
        try:
            async with asyncio.timeout(self._silence_s):
                await socket.send(message, text=True)
        except TimeoutError as error:
            raise ConnectionLost(f"the server took no data for {self._silence_s:g} s") from error
        except (WebSocketException, OSError) as error:
            raise ConnectionLost(_reason(error)) from error
        self._traffic.requests += 1
        self._traffic.bytes_out += len(message)

    async def _receive(self, socket: ClientConnection, watch: SilenceWatch) -> Event | None:
        watch.waits()
        try:
            message = await socket.recv(decode=False)
        except (WebSocketException, OSError) as error:
            silent = f"no message for {self._silence_s:g} s"
            raise ConnectionLost(silent if watch.is_broken else _reason(error)) from error
        watch.heard()
        self._traffic.bytes_in += len(message)
        return decode(message)

    async def _connected(self) -> ClientConnection:
        if self._socket is None:
            self._socket = await self._connect()
            self._traffic.connections += 1
        return self._socket

    async def _connect(self) -> ClientConnection:
        for timeout_s in self._connect_timeouts_s[:-1]:
            try:
                return await self._try_to_connect(timeout_s)
            except WebSocketBlocked as error:
                if error.__cause__ is not None and _status(error.__cause__) == _UPGRADE_REQUIRED:
                    raise
        return await self._try_to_connect(self._connect_timeouts_s[-1])

    async def _try_to_connect(self, timeout_s: float) -> ClientConnection:
        try:
            async with asyncio.timeout(timeout_s):
                return await connect(
                    "ws" + self._url.removeprefix("http") + "/responses",
                    additional_headers=self._headers,
                    compression=None,  # deltas are small: deflating each costs more time than it saves
                    max_size=None,
                    open_timeout=None,
                    close_timeout=CLOSE_TIMEOUT_S,
                    proxy=True if uses_proxy(self._url) else None,
                )
        except TimeoutError as error:
            raise WebSocketBlocked(self._url, f"no WebSocket handshake within {timeout_s:g} s") from error
        except OSError as error:
            raise CannotConnect(self._url, _reason(error)) from error
        except InvalidStatus as error:
            raise self._refused_upgrade(error) from error
        except (InvalidHandshake, WebSocketException, EOFError) as error:
            raise WebSocketBlocked(self._url, _reason(error)) from error

    def _refused_upgrade(self, error: InvalidStatus) -> AgentError:
        """Statuses that mean the same on HTTP are the server's answer; any other may be a door that only HTTP opens."""
        response = error.response
        if response.status_code in {401, 429, 503}:
            wait_s = retry_after_s(dict(response.headers.raw_items()))
            return refusal_of_body(response.status_code, bytes(response.body or b""), wait_s)
        return WebSocketBlocked(self._url, f"the WebSocket upgrade got HTTP status {response.status_code}")

    async def _abandon(self) -> None:
        """Leave without the closing handshake: the server may be gone, or busy with a turn nobody waits for."""
        socket, self._socket, self._head = self._socket, None, None
        if socket is not None:
            socket.transport.abort()
            await socket.wait_closed()


def _status(error: BaseException) -> int | None:
    return error.response.status_code if isinstance(error, InvalidStatus) else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
