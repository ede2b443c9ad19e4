"""The ASGI application: which door is where."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

from hotloop.decoding.reader import MessageReader
from hotloop.errors import ApiError
from hotloop.server.answers import on_api_error, on_client_gone, on_http_error, on_server_fault
from hotloop.server.auth import AccessPolicy
from hotloop.server.background import BackgroundLimits, BackgroundTurns
from hotloop.server.body import ClientGone
from hotloop.server.connections import OpenConnections
from hotloop.server.door import Door
from hotloop.server.http_turn import HttpTurns
from hotloop.server.idempotency import Idempotency, IdempotencyLimits, IdempotencyMiddleware
from hotloop.server.routes.chat import ChatCompletions
from hotloop.server.routes.compact import CompactResponse
from hotloop.server.routes.conversations import ConversationRoutes
from hotloop.server.routes.create import CreateResponse
from hotloop.server.routes.metrics import Memory, MetricsRoute
from hotloop.server.routes.models import ModelRoutes
from hotloop.server.routes.responses import ResponseRoutes
from hotloop.server.served_connection import SocketSettings
from hotloop.server.websocket import ResponsesSocket
from hotloop.turns.record import monotonic
from hotloop.turns.runner import TurnRunner


def build_asgi(
    runner: TurnRunner,
    policy: AccessPolicy,
    socket_settings: SocketSettings,
    open_connections: OpenConnections,
    reader: MessageReader,
    memories: Mapping[str, Memory],
    *,
    background_limits: BackgroundLimits,
    max_body_bytes: int,
    started_at: int,
    version: str,
    on_shutdown: Callable[[], Awaitable[None]],
) -> Starlette:
    """The application; `on_shutdown` frees engines and stores when the server lets go of it.

    `memories` are shown among the metrics, beside those of the turns.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await idempotency.close()
            await background.close()
            await on_shutdown()

    background = BackgroundTurns(runner, open_connections, background_limits)
    door = Door(policy, open_connections, reader, max_body_bytes=max_body_bytes)
    idempotency = Idempotency(door, IdempotencyLimits(), monotonic)
    turns = HttpTurns(
        runner,
        open_connections,
        max_pending_bytes=socket_settings.max_pending_bytes,
        max_delay_s=socket_settings.max_delay_s,
    )
    kept: dict[str, Memory] = {"background_events": background, "idempotent_answers": idempotency, **memories}
    metrics = MetricsRoute(runner.services, door, open_connections, kept)
    models = ModelRoutes(runner.services, door, started_at=started_at, version=version)
    routes = [
        Route("/healthz", models.health, methods=["GET"]),
        Route("/metrics", metrics.get, methods=["GET"]),
        WebSocketRoute("/v1/responses", ResponsesSocket(runner, policy, socket_settings, open_connections, reader)),
        Route("/v1/responses", CreateResponse(turns, door, background)),
        Route("/v1/responses/compact", CompactResponse(turns, door, runner.services)),
        *_response_routes(ResponseRoutes(runner.services, door, background)),
        Route("/v1/chat/completions", ChatCompletions(turns, door)),
        *_conversation_routes(ConversationRoutes(runner.services, door)),
        Route("/v1/models", models.list, methods=["GET"]),
        Route("/v1/models/{model:path}", models.get, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(IdempotencyMiddleware, idempotency)],
        exception_handlers=dict(_ERRORS),
    )


_ERRORS = (
    (ApiError, on_api_error),
    (ClientGone, on_client_gone),
    (HTTPException, on_http_error),
    (Exception, on_server_fault),
)


def _response_routes(responses: ResponseRoutes) -> list[Route]:
    one = "/v1/responses/{response_id}"
    return [
        Route("/v1/responses/input_tokens", responses.input_tokens, methods=["POST"]),
        Route(one, responses.get, methods=["GET"]),
        Route(one, responses.delete, methods=["DELETE"]),
        Route(f"{one}/cancel", responses.cancel, methods=["POST"]),
        Route(f"{one}/input_items", responses.input_items, methods=["GET"]),
    ]


def _conversation_routes(conversations: ConversationRoutes) -> list[Route]:
    one = "/v1/conversations/{conversation_id}"
    return [
        Route("/v1/conversations", conversations.create, methods=["POST"]),
        Route(one, conversations.get, methods=["GET"]),
        Route(one, conversations.update, methods=["POST"]),
        Route(one, conversations.delete, methods=["DELETE"]),
        Route(one + "/items", conversations.add_items, methods=["POST"]),
        Route(one + "/items", conversations.list_items, methods=["GET"]),
        Route(one + "/items/{item_id}", conversations.get_item, methods=["GET"]),
        Route(one + "/items/{item_id}", conversations.delete_item, methods=["DELETE"]),
    ]
