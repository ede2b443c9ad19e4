"""Conversations and their items (docs/protocol.md §11.4)."""

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from hotloop.decoding.forms import ADDITION, CONVERSATION, UPDATE
from hotloop.decoding.reader import ReadConversation
from hotloop.errors import ConversationNotFound, InvalidRequest, ItemNotFound
from hotloop.protocol.item_view import id_of, item_list, shown, with_ids
from hotloop.protocol.items import Item, ItemReference
from hotloop.protocol.request import decode_item
from hotloop.protocol.wire import json_bytes
from hotloop.seams.store import Addition, StoredConversation
from hotloop.server.answers import json_response
from hotloop.server.door import Door
from hotloop.server.paging import page, wants_newest_first
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal
from hotloop.turns.bind import resolve_reference
from hotloop.turns.conversation import ConversationHold
from hotloop.turns.history import Pace
from hotloop.turns.record import wall_clock
from hotloop.turns.services import TurnServices


class ConversationRoutes:
    """A conversation is changed by one request at a time; a response that is being written into it has it meanwhile."""

    def __init__(self, services: TurnServices, door: Door) -> None:
        self._services = services
        self._store = services.store
        self._door = door

    async def create(self, request: Request) -> Response:
        """`POST /v1/conversations`."""
        principal = self._door.caller(request.scope)
        wanted = await self._door.conversation(CONVERSATION, request)
        items, size = await self._items(principal, wanted)
        metadata = wanted.body.metadata
        conversation = StoredConversation(
            self._services.new_id("conv"), int(wall_clock()), metadata or {}, ItemLog(items)
        )
        await self._store.put_conversation(principal, conversation, size + len(json_bytes(metadata)))
        return _answer(conversation)

    async def get(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}`."""
        return _answer(await self._conversation(request, self._door.caller(request.scope)))

    async def update(self, request: Request) -> Response:
        """`POST /v1/conversations/{id}`: the metadata, replaced whole."""
        principal = self._door.caller(request.scope)
        wanted = await self._door.conversation(UPDATE, request)
        if not await self._store.set_metadata(principal, _id(request), wanted.body.metadata or {}):
            raise ConversationNotFound(_id(request))
        return _answer(await self._conversation(request, principal))

    async def delete(self, request: Request) -> Response:
        """`DELETE /v1/conversations/{id}`: its items go too, but for those that stored responses hold."""
        principal = self._door.caller(request.scope)
        hold = self._hold(request, principal)
        try:
            await self._forget_tokens(request, principal)
            if not await self._store.delete_conversation(principal, _id(request)):
                raise ConversationNotFound(_id(request))
        finally:
            hold.release()
        return json_response(json_bytes({"id": _id(request), "object": "conversation.deleted", "deleted": True}))

    async def add_items(self, request: Request) -> Response:
        """`POST /v1/conversations/{id}/items`."""
        principal = self._door.caller(request.scope)
        wanted = await self._door.conversation(ADDITION, request)
        hold = self._hold(request, principal)
        try:
            conversation = await self._conversation(request, principal)
            items, size = await self._items(principal, wanted)
            _refuse_repeated(conversation.items, items)
            await self._store.extend_conversation(principal, Addition(conversation.conversation_id, items, size))
        finally:
            hold.release()
        return json_response(item_list(items, has_more=False))

    async def list_items(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}/items`."""
        items = (await self._conversation(request, self._door.caller(request.scope))).items
        return json_response(page(request, items.newest_first() if wants_newest_first(request) else items))

    async def get_item(self, request: Request) -> Response:
        """`GET /v1/conversations/{id}/items/{item_id}`."""
        conversation = await self._conversation(request, self._door.caller(request.scope))
        item_id = request.path_params["item_id"]
        found = next((item for item in conversation.items.newest_first() if id_of(item) == item_id), None)
        if found is None:
            raise ItemNotFound(item_id)
        return json_response(shown(found))

    async def delete_item(self, request: Request) -> Response:
        """`DELETE /v1/conversations/{id}/items/{item_id}`: answers with the conversation."""
        principal = self._door.caller(request.scope)
        hold = self._hold(request, principal)
        try:
            conversation = await self._conversation(request, principal)
            item_id = request.path_params["item_id"]
            await self._forget_tokens(request, principal)
            if not await self._store.delete_item(principal, conversation.conversation_id, item_id):
                raise ItemNotFound(item_id)
        finally:
            hold.release()
        return _answer(conversation)

    async def _forget_tokens(self, request: Request, principal: Principal) -> None:
        """What was rendered of the conversation, before what it was rendered from is gone."""
        conversation = await self._store.get_conversation(principal, _id(request))
        if conversation is not None and conversation.tip is not None:
            self._services.prefixes.forget_chain(principal.tenant, conversation.tip)

    def _hold(self, request: Request, principal: Principal) -> ConversationHold:
        return self._services.conversations.hold(principal, _id(request))

    async def _conversation(self, request: Request, principal: Principal) -> StoredConversation:
        conversation = await self._store.get_conversation(principal, _id(request))
        if conversation is None:
            raise ConversationNotFound(_id(request))
        return conversation

    async def _items(self, principal: Principal, read: ReadConversation) -> tuple[list[Item], int]:
        """The items with ids, and the bytes they came in."""
        raws, survey = read.body.items, read.survey
        sizes = [memoryview(raw).nbytes for raw in raws]
        decoded: list[Item] = []
        pace = Pace()
        for index, (raw, size) in enumerate(zip(raws, sizes, strict=True)):
            if pace.is_over(size):
                await asyncio.sleep(0)
            known = survey.read_item(index, raw) if survey is not None else None
            decoded.append(decode_item(raw, f"items[{index}]") if known is None else known)
        if survey is not None and survey.error is not None:
            raise survey.error
        resolved = [
            await resolve_reference(self._store, principal, item, f"items[{index}]")
            if isinstance(item, ItemReference)
            else item
            for index, item in enumerate(decoded)
        ]
        items = with_ids(resolved, self._services.new_id)
        _refuse_repeated((), items)
        return items, sum(sizes)


def _refuse_repeated(before: Sequence[Item] | ItemLog, items: Sequence[Item]) -> None:
    known = {id_of(item) for item in before}
    for index, item in enumerate(items):
        item_id = id_of(item)
        if item_id in known:
            raise InvalidRequest(f"The conversation has an item '{item_id}' already.", param=f"items[{index}].id")
        known.add(item_id)


def _answer(conversation: StoredConversation) -> Response:
    return json_response(
        json_bytes(
            {
                "id": conversation.conversation_id,
                "object": "conversation",
                "created_at": conversation.created_at,
                "metadata": conversation.metadata,
            }
        )
    )


def _id(request: Request) -> str:
    found: str = request.path_params["conversation_id"]
    return found
