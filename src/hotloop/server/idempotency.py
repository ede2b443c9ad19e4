"""`Idempotency-Key` on POST: the same key and request get the same answer, also while the first one is still running.

The first request with a key runs as a task of its own; every client with that key, the first included, follows a recording
of what is answered. When the last of them has left, the request is told that its client is gone. Answers that are whole and
2xx are kept, bounded, for a time; after any other the key is free again.
"""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from hotloop.errors import ApiError, IdempotencyKeyReused, InvalidRequest, RateLimited, ServerFault
from hotloop.server.answers import error_response
from hotloop.server.body import OFF_LOOP_BYTES, AsgiReceive, AsgiScope, ClientGone, receive_body
from hotloop.server.door import Door
from hotloop.server.http_turn import client_left
from hotloop.server.replay import Lagged, ReplayLog
from hotloop.server.sinks import MAX_STUCK_S, AsgiSend
from hotloop.session.principal import Tenant

logger = logging.getLogger(__name__)

AsgiApp = Callable[[AsgiScope, AsgiReceive, AsgiSend], Awaitable[None]]

_Place = tuple[Tenant, str]

MAX_KEY_CHARS = 255
_OVERHEAD_BYTES = 256  # of a recorded message beside its body


@dataclass(frozen=True, slots=True)
class IdempotencyLimits:
    """Bounds of what is remembered, of all tenants together."""

    max_age_s: float = 3600.0
    entries: int = 1000
    answer_bytes: int = 16 * 2**20
    total_bytes: int = 64 * 2**20


class _Exchange:
    """One request and the recording of its answer."""

    def __init__(self, fingerprint: bytes, began: float, max_bytes: int) -> None:
        self.fingerprint = fingerprint
        self.began = began
        self.log: ReplayLog[dict[str, Any]] = ReplayLog(max_bytes, _size_of)
        self.followers = 0
        self.abandoned = asyncio.Event()  # nobody follows any more
        self.status = 0
        self.is_whole = False

    async def record(self, message: Any) -> None:
        """Take the answer's next message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.is_whole = not message.get("more_body", False)
        self.log.append(message)

    @property
    def is_worth_keeping(self) -> bool:
        return self.is_whole and 200 <= self.status < 300


class Idempotency:
    """Answers by key. Requests without the header pass through untouched.

    Args:
        door: says who asks, and how large a body may be.
        clock: seconds, for the age of what is kept.
    """

    def __init__(self, door: Door, limits: IdempotencyLimits, clock: Callable[[], float]) -> None:
        self._door = door
        self._limits = limits
        self._clock = clock
        self._exchanges: OrderedDict[_Place, _Exchange] = OrderedDict()  # oldest first
        self._running: dict[asyncio.Task[None], _Exchange] = {}

    def __len__(self) -> int:
        return len(self._exchanges)

    @property
    def total_bytes(self) -> int:
        """Of the answers kept."""
        return sum(exchange.log.size_bytes for exchange in self._exchanges.values())

    async def serve(self, app: AsgiApp, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One request, answered by `app` or by what `app` answered before."""
        key = _key_of(scope)
        if key is None:
            await app(scope, receive, send)
            return
        try:
            place = (self._door.caller(scope).tenant, key)
            if not 0 < len(key) <= MAX_KEY_CHARS:
                raise InvalidRequest(f"An Idempotency-Key has 1 to {MAX_KEY_CHARS} characters.")
            body = await receive_body(scope, receive, self._door.max_body_bytes)
            fingerprint = await _fingerprint_of(scope, body)
            exchange = self._find(place, fingerprint)
            is_first = exchange is None
            if exchange is None:
                exchange = self._begin(app, place, scope, body, fingerprint)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
        except ClientGone:
            return
        else:
            await self._follow(place, exchange, receive, send, is_first=is_first)

    async def close(self) -> None:
        """Let go of what still runs. Idempotent."""
        for exchange in self._running.values():
            exchange.abandoned.set()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _find(self, place: _Place, fingerprint: bytes) -> _Exchange | None:
        self._forget_old()
        known = self._exchanges.get(place)
        if known is None:
            return None
        if known.fingerprint != fingerprint:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another request.")
        if known.log.first:
            raise IdempotencyKeyReused("The answer to this Idempotency-Key was too large to be kept.")
        return known

    def _begin(self, app: AsgiApp, place: _Place, scope: AsgiScope, body: bytes, fingerprint: bytes) -> _Exchange:
        if len(self._exchanges) >= self._limits.entries:
            raise RateLimited("Too many requests with an Idempotency-Key are running.", retry_after_s=1)
        exchange = _Exchange(fingerprint, self._clock(), self._limits.answer_bytes)
        self._exchanges[place] = exchange
        task = asyncio.create_task(self._run(app, place, exchange, scope, body))
        self._running[task] = exchange
        task.add_done_callback(self._running.pop)
        return exchange

    async def _run(self, app: AsgiApp, place: _Place, exchange: _Exchange, scope: AsgiScope, body: bytes) -> None:
        has_body = True

        async def receive() -> dict[str, Any]:
            nonlocal has_body
            if has_body:
                has_body = False
                return {"type": "http.request", "body": body, "more_body": False}
            await exchange.abandoned.wait()
            return {"type": "http.disconnect"}

        try:
            await app(scope, receive, exchange.record)
        except Exception:
            logger.exception("a request with an Idempotency-Key failed")
            if not exchange.status:
                fault = ServerFault("Something went wrong on the server's side.")
                await error_response(fault)(scope, receive, exchange.record)
        finally:
            exchange.log.finish()
            if not exchange.is_worth_keeping:
                self._forget(place, exchange)

    async def _follow(
        self, place: _Place, exchange: _Exchange, receive: AsgiReceive, send: AsgiSend, *, is_first: bool
    ) -> None:
        exchange.followers += 1
        sending = asyncio.create_task(_send_all(exchange, send, is_first=is_first))
        watch = asyncio.create_task(client_left(receive))
        try:
            await asyncio.wait({sending, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            exchange.followers -= 1
            if (
                not exchange.followers and not exchange.is_whole
            ):  # a server also says `disconnect` after the answer's end
                exchange.abandoned.set()
                self._forget(place, exchange)  # whoever comes now gets an answer of its own
            sending.cancel()
            watch.cancel()
            await asyncio.gather(sending, watch, return_exceptions=True)

    def _forget(self, place: _Place, exchange: _Exchange) -> None:
        if self._exchanges.get(place) is exchange:
            del self._exchanges[place]

    def _forget_old(self) -> None:
        """Drop what is over and too old, or too much, oldest first."""
        limits, now = self._limits, self._clock()
        size = sum(exchange.log.size_bytes for exchange in self._exchanges.values())
        for place, exchange in list(self._exchanges.items()):
            is_old = now - exchange.began > limits.max_age_s
            if not is_old and size <= limits.total_bytes and len(self._exchanges) < limits.entries:
                return
            if exchange.log.is_finished:
                del self._exchanges[place]
                size -= exchange.log.size_bytes


class IdempotencyMiddleware:
    """ASGI middleware around all paths."""

    def __init__(self, app: AsgiApp, idempotency: Idempotency) -> None:
        self._app = app
        self._idempotency = idempotency

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One request."""
        await self._idempotency.serve(self._app, scope, receive, send)


async def _send_all(exchange: _Exchange, send: AsgiSend, *, is_first: bool) -> None:
    try:
        async with aclosing(exchange.log.follow(0, MAX_STUCK_S)) as batches:
            async for batch in batches:
                for message in batch:
                    async with asyncio.timeout(MAX_STUCK_S):
                        await send(message if is_first else _marked(message))
    except (Lagged, OSError, RuntimeError, TimeoutError):  # gone, or not reading
        return


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    if message["type"] != "http.response.start":
        return message
    return {**message, "headers": [*message["headers"], (b"idempotent-replayed", b"true")]}


def _size_of(message: dict[str, Any]) -> int:
    return len(message.get("body", b"")) + _OVERHEAD_BYTES


def _key_of(scope: AsgiScope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"idempotency-key"), None)


async def _fingerprint_of(scope: AsgiScope, body: bytes) -> bytes:
    """What tells the request from others. Hashing a long body takes a millisecond a megabyte, without the GIL."""
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_fingerprint, scope, body)
    return _fingerprint(scope, body)


def _fingerprint(scope: AsgiScope, body: bytes) -> bytes:
    encoding = next((value for name, value in scope["headers"] if name == b"content-encoding"), b"")
    state = hashlib.blake2b(digest_size=16)
    for part in (scope["path"].encode(), scope.get("query_string", b""), encoding):
        state.update(len(part).to_bytes(8, "big") + part)
    state.update(body)
    return state.digest()
