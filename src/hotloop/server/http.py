"""The HTTP door: create (JSON and SSE), retrieve, models, health."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from hotloop.errors import (
    ApiError,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    Overloaded,
    PayloadTooLarge,
    ResponseNotFound,
    ServerFault,
)
from hotloop.protocol.request import ResponseCreate, decode_create
from hotloop.protocol.wire import error_body, json_bytes
from hotloop.server.auth import AccessPolicy, authenticate, wants_timing
from hotloop.server.connections import OpenConnections
from hotloop.server.sinks import AsgiSend, DiscardSink, SseSink
from hotloop.server.websocket import AsgiReceive, AsgiScope
from hotloop.session.principal import Principal
from hotloop.turns.record import TurnRecord, monotonic
from hotloop.turns.runner import TurnOutcome, TurnRequest, TurnRunner

FLUSH_TIMEOUT_S = 120.0  # for what a slow reader has not taken when its turn is over: 16 MiB at 1 Mbit/s


def json_response(body: bytes, status: int = 200) -> Response:
    """A JSON body."""
    return Response(body, status, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """The ordinary error body with its status."""
    response = json_response(error_body(error), error.status)
    if error.retry_after_s is not None:
        response.headers["retry-after"] = f"{error.retry_after_s:g}"
    return response


class CreateResponse:
    """`POST /v1/responses`, as a plain ASGI application: an SSE stream is written without a wrapper in between."""

    def __init__(
        self,
        runner: TurnRunner,
        policy: AccessPolicy,
        open_connections: OpenConnections,
        *,
        max_body_bytes: int,
        max_pending_bytes: int,
    ) -> None:
        self._runner = runner
        self._policy = policy
        self._open = open_connections
        self._max_body_bytes = max_body_bytes
        self._max_pending_bytes = max_pending_bytes

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One request."""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Use POST, or a WebSocket upgrade.")
            turn = await self._read(scope, receive)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        except _ClientGone:
            return
        job = _HttpTurn()
        self._open.add(job)
        try:
            if turn.request.stream:
                await self._stream(turn, job, scope, receive, send)
            else:
                await self._answer(turn, job, scope, receive, send)
        finally:
            self._open.remove(job)

    async def _read(self, scope: AsgiScope, receive: AsgiReceive) -> TurnRequest:
        received = monotonic()
        principal = authenticate(self._policy, scope["headers"])
        if self._open.is_draining:
            raise Overloaded("The server is shutting down.", retry_after_s=1)
        body = await _read_body(scope, receive, self._max_body_bytes)
        request = decode_create(body)
        if request.stream_id is not None:
            raise InvalidRequest("'stream_id' names a WebSocket lane; it has no meaning over HTTP.", param="stream_id")
        record = TurnRecord(transport="sse" if request.stream else "http", received=received, bytes_in=len(body))
        timing = wants_timing(scope["headers"])
        return TurnRequest(principal=principal, request=request, record=record, wants_timing=timing)

    async def _stream(
        self, turn: TurnRequest, job: "_HttpTurn", scope: AsgiScope, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        sink = SseSink(send, max_pending_bytes=self._max_pending_bytes)
        pump = asyncio.create_task(sink.pump())

        async def run_and_flush() -> TurnOutcome:
            outcome = await self._runner.run(turn, sink)
            if not outcome.is_refused and not sink.is_closed:
                sink.finish()
                await asyncio.wait({pump}, timeout=FLUSH_TIMEOUT_S)
            return outcome

        try:
            outcome = await job.run(run_and_flush(), receive)
            if outcome is not None and outcome.error is not None and outcome.is_refused and not sink.bytes_out:
                await error_response(outcome.error)(scope, receive, send)
        finally:
            sink.close()
            pump.cancel()  # a reader that never reads would hold it for ever
            await asyncio.gather(pump, return_exceptions=True)

    async def _answer(
        self, turn: TurnRequest, job: "_HttpTurn", scope: AsgiScope, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        outcome = await job.run(self._runner.run(turn, DiscardSink()), receive)
        if outcome is None:
            return
        failed = outcome.error is not None
        response = error_response(outcome.error) if failed and outcome.error else json_response(outcome.body)
        await response(scope, receive, send)


class _ClientGone(Exception):
    """The client left before its request was read."""


class _HttpTurn:
    """A turn that ends when its client leaves or the server stops waiting for it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[TurnOutcome] | None = None
        self._is_abandoned = False

    def drain(self) -> None:
        """A turn finishes by itself."""

    def abandon(self) -> None:
        """Stop the turn."""
        self._is_abandoned = True
        if self._task is not None:
            self._task.cancel()

    async def run(self, turn: Any, receive: AsgiReceive) -> TurnOutcome | None:
        """The turn's outcome, or None if the client left first. A turn the server dropped is refused with 503."""
        self._task = asyncio.create_task(turn)
        watch = asyncio.create_task(_client_left(receive))
        try:
            await asyncio.wait({self._task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done() and not self._task.cancelled():
                return self._task.result()
            if self._is_abandoned:
                return TurnOutcome(error=Overloaded("The server is shutting down.", retry_after_s=1))
            return None
        finally:
            watch.cancel()
            self._task.cancel()
            await asyncio.gather(self._task, watch, return_exceptions=True)


async def _client_left(receive: AsgiReceive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_body(scope: AsgiScope, receive: AsgiReceive, limit: int) -> bytes:
    """The whole body. Raises PayloadTooLarge before more than `limit` bytes are kept."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise PayloadTooLarge(f"The body is larger than {limit} bytes.")
    chunks: list[bytes] = []
    size = 0
    while True:
        message: MutableMapping[str, Any] = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge(f"The body is larger than {limit} bytes.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


class Endpoints:
    """The small JSON endpoints."""

    def __init__(self, runner: TurnRunner, policy: AccessPolicy, *, started_at: int, version: str) -> None:
        self._services = runner.services
        self._policy = policy
        self._started_at = started_at
        self._version = version

    async def get_response(self, request: Request) -> Response:
        """`GET /v1/responses/{id}`."""
        principal = self._authenticate(request)
        response_id = request.path_params["response_id"]
        stored = await self._services.store.get(principal, response_id)
        if stored is None:
            raise ResponseNotFound(response_id)
        return json_response(stored.body)

    async def list_models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        self._authenticate(request)
        return json_response(
            json_bytes({"object": "list", "data": [self._model_entry(name) for name in self._services.models]})
        )

    async def get_model(self, request: Request) -> Response:
        """`GET /v1/models/{id}`."""
        self._authenticate(request)
        name = request.path_params["model"]
        if name not in self._services.models:
            raise ModelNotFound(name)
        return json_response(json_bytes(self._model_entry(name)))

    async def health(self, request: Request) -> Response:
        """`GET /healthz`: the process answers."""
        return json_response(json_bytes({"status": "ok", "version": self._version}))

    def _authenticate(self, request: Request) -> Principal:
        return authenticate(self._policy, request.scope["headers"])

    def _model_entry(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._started_at, "owned_by": "hotloop"}


ErrorHandler = Callable[[Request, Exception], Response]


def on_api_error(request: Request, error: Exception) -> Response:
    """An ApiError raised by an endpoint."""
    assert isinstance(error, ApiError)
    return error_response(error)


def on_server_fault(request: Request, error: Exception) -> Response:
    """Anything unexpected: the client learns that it is our fault, the log learns the rest."""
    return error_response(ServerFault("Something went wrong on the server's side."))


__all__ = ["CreateResponse", "Endpoints", "ResponseCreate", "on_api_error", "on_server_fault"]
