"""Stored responses: retrieve, delete, cancel, input items; and how long a prompt would be."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hotloop.errors import InvalidRequest, ResponseNotFound
from hotloop.protocol.wire import json_bytes
from hotloop.seams.store import StoredResponse
from hotloop.server.answers import json_response
from hotloop.server.background import BackgroundTurns
from hotloop.server.door import Door, query_flag, query_number
from hotloop.server.paging import page, wants_newest_first
from hotloop.server.replay_stream import ReplayStream
from hotloop.session.principal import Principal
from hotloop.turns.count import count_tokens
from hotloop.turns.services import TurnServices


class _Shown(msgspec.Struct):
    """What the routes read of a stored response object."""

    background: bool = False


_shown_decoder = msgspec.json.Decoder(_Shown)


class ResponseRoutes:
    """What can be done with a response once it has an id."""

    def __init__(self, services: TurnServices, door: Door, background: BackgroundTurns) -> None:
        self._services = services
        self._door = door
        self._background = background

    async def get(self, request: Request) -> Response | ReplayStream:
        """`GET /v1/responses/{id}`: as it is now; with `stream`, the events of a background response."""
        principal = self._door.caller(request.scope)
        stored = await self._stored(request, principal)
        if not query_flag(request, "stream"):
            return json_response(stored.body)
        run = self._background.find(principal, stored.response_id)
        if run is None:
            raise InvalidRequest(
                "Only a background response can be streamed, while its events are kept.", param="stream"
            )
        start = query_number(request, "starting_after", -1, 0, 2**53) + 1
        if start < run.log.first:
            raise InvalidRequest(f"Events before number {run.log.first} are no longer kept.", param="starting_after")
        return ReplayStream(run.log, start)

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/responses/{id}`: it can be neither read nor continued any more, and its tokens are not kept."""
        principal = self._door.caller(request.scope)
        response_id = _id(request)
        await self._background.cancel(principal, response_id)
        self._background.forget(principal, response_id)
        if not await self._services.store.delete(principal, response_id):
            raise ResponseNotFound(response_id)
        self._services.chains.evict(principal, None, response_id)
        self._services.prefixes.forget(principal.tenant, response_id)
        return json_response(json_bytes({"id": response_id, "object": "response", "deleted": True}))

    async def cancel(self, request: Request) -> Response:
        """`POST /v1/responses/{id}/cancel`: of background responses; one that is over stays as it is."""
        principal = self._door.caller(request.scope)
        await self._background.cancel(principal, _id(request))
        stored = await self._stored(request, principal)
        if not _shown_decoder.decode(stored.body).background:
            raise InvalidRequest("Only a response that was created with 'background': true can be cancelled.")
        return json_response(stored.body)

    async def input_items(self, request: Request) -> Response:
        """`GET /v1/responses/{id}/input_items`: what the request brought in; the chain before it belongs to others."""
        stored = await self._stored(request, self._door.caller(request.scope))
        items = stored.items.last(stored.new_input + stored.output)[: stored.new_input]
        return json_response(page(request, reversed(items) if wants_newest_first(request) else items))

    async def input_tokens(self, request: Request) -> Response:
        """`POST /v1/responses/input_tokens`: the length of the prompt; nothing is generated or kept."""
        principal = self._door.caller(request.scope)
        create = await self._door.create(request.scope, request.receive)
        for fallback in create.read.fallbacks:
            self._services.records.note(fallback)
        tokens = await count_tokens(self._services, principal, create.read.request, create.read.survey)
        return json_response(json_bytes({"object": "response.input_tokens", "input_tokens": tokens}))

    async def _stored(self, request: Request, principal: Principal) -> StoredResponse:
        response_id = _id(request)
        stored = await self._services.store.get(principal, response_id)
        if stored is None:
            raise ResponseNotFound(response_id)
        return stored


def _id(request: Request) -> str:
    found: str = request.path_params["response_id"]
    return found
