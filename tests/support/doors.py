"""One way to ask a live server, whatever the transport."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from tests.support.live_server import LiveServer, live_server, open_socket

from hotloop.config import ServerSettings
from hotloop.models.token_model import TokenModel

Json = dict[str, Any]
Ask = Callable[..., Awaitable[Json]]
TRANSPORTS = ("http", "websocket")


@asynccontextmanager
async def door(
    transport: str, model: TokenModel, settings: ServerSettings | None = None, *, checks_requests: bool = True
) -> AsyncGenerator[tuple[LiveServer, Ask]]:
    """A server, and how to ask it over `transport`: the answer is the response object, or the `error` of a refusal."""
    async with live_server(model, settings, checks_requests=checks_requests) as server:
        if transport == "http":
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:

                async def post(**fields: Any) -> Json:
                    answer = await client.post("/responses", json={"model": "test", **fields})
                    found: Json = answer.json()
                    return found

                yield server, post
        else:
            async with open_socket(server) as socket:

                async def turn(**fields: Any) -> Json:
                    last: Json = (await socket.turn(**fields))[-1]
                    return last.get("response") or {"error": last["error"]}

                yield server, turn
