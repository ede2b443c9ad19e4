"""`GET /v1/models[/{id}]` and `GET /healthz`."""

from starlette.requests import Request
from starlette.responses import Response

from hotloop.errors import ModelNotFound
from hotloop.protocol.wire import json_bytes
from hotloop.server.answers import json_response
from hotloop.server.door import Door
from hotloop.turns.services import TurnServices


class ModelRoutes:
    """What is served here."""

    def __init__(self, services: TurnServices, door: Door, *, started_at: int, version: str) -> None:
        self._models = services.models
        self._door = door
        self._started_at = started_at
        self._version = version

    async def list(self, request: Request) -> Response:
        """`GET /v1/models`."""
        self._door.caller(request.scope)
        return json_response(json_bytes({"object": "list", "data": [self._entry(name) for name in self._models]}))

    async def get(self, request: Request) -> Response:
        """`GET /v1/models/{id}`."""
        self._door.caller(request.scope)
        name = request.path_params["model"]
        if name not in self._models:
            raise ModelNotFound(name)
        return json_response(json_bytes(self._entry(name)))

    async def health(self, request: Request) -> Response:
        """`GET /healthz`: the process answers."""
        return json_response(json_bytes({"status": "ok", "version": self._version}))

    def _entry(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._started_at, "owned_by": "hotloop"}
