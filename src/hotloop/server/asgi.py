"""The ASGI application: which door is where."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from hotloop.errors import ApiError, InvalidRequest, MethodNotAllowed, NotFound
from hotloop.server.auth import AccessPolicy
from hotloop.server.connections import OpenConnections
from hotloop.server.http import CreateResponse, Endpoints, error_response, on_api_error, on_server_fault
from hotloop.server.served_connection import SocketSettings
from hotloop.server.websocket import ResponsesSocket
from hotloop.turns.runner import TurnRunner


def build_asgi(
    runner: TurnRunner,
    policy: AccessPolicy,
    socket_settings: SocketSettings,
    open_connections: OpenConnections,
    *,
    max_body_bytes: int,
    started_at: int,
    version: str,
    on_shutdown: Callable[[], Awaitable[None]],
) -> Starlette:
    """The application; `on_shutdown` frees engines and stores when the server lets go of it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await on_shutdown()

    create = CreateResponse(
        runner,
        policy,
        open_connections,
        max_body_bytes=max_body_bytes,
        max_pending_bytes=socket_settings.max_pending_bytes,
    )
    socket = ResponsesSocket(runner, policy, socket_settings, open_connections)
    endpoints = Endpoints(runner, policy, started_at=started_at, version=version)
    routes = [
        Route("/healthz", endpoints.health, methods=["GET"]),
        WebSocketRoute("/v1/responses", socket),
        Route("/v1/responses", create),
        Route("/v1/responses/{response_id}", endpoints.get_response, methods=["GET"]),
        Route("/v1/models", endpoints.list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", endpoints.get_model, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={ApiError: on_api_error, HTTPException: _on_http_error, Exception: on_server_fault},
    )


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(NotFound(f"No such path: {request.url.path}."))
    if error.status_code == 405:
        return error_response(MethodNotAllowed(f"{request.method} is not possible on {request.url.path}."))
    return error_response(InvalidRequest(str(error.detail)))
