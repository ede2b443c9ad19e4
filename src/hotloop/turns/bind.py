"""Finding what a request refers to: the response or conversation it continues (docs/protocol.md §5.2), items by their id."""

import msgspec

from hotloop.errors import ConversationNotFound, ItemNotFound, PreviousResponseNotFound
from hotloop.protocol.items import Item, ItemReference
from hotloop.protocol.request import ResponseCreate
from hotloop.seams.store import ConversationStore, ResponseStore
from hotloop.session.chain import ModelState, OpenCalls, open_calls_in
from hotloop.session.chain_cache import ChainCache, ConnectionId, Pin
from hotloop.session.chain_settings import NO_SETTINGS, ChainSettings
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal
from hotloop.turns.conversation import ConversationHold
from hotloop.turns.services import TurnServices


class Parent(msgspec.Struct, frozen=True):
    """The chain a turn continues. `release` it when the turn is over."""

    items: ItemLog
    open_calls: OpenCalls
    model_state: ModelState | None
    history: bytes = b""  # see TurnState; empty if it came from the store
    context: bytes = b""
    chain_bytes: int = 0
    settings: ChainSettings = NO_SETTINGS
    pin: Pin | None = None
    hold: ConversationHold | None = None

    def release(self) -> None:
        """Let the chain cache forget it again, and others write into the conversation. Idempotent."""
        if self.pin is not None:
            self.pin.release()
        if self.hold is not None:
            self.hold.release()


async def bind(
    services: TurnServices, principal: Principal, connection: ConnectionId | None, request: ResponseCreate
) -> Parent | None:
    """What the request continues, if anything. Raises the ApiError that names what is not there or is taken."""
    if request.conversation_id is not None:
        hold = services.conversations.hold(principal, request.conversation_id)
        try:
            return await bind_conversation(
                services.store, services.chains, principal, connection, request.conversation_id, hold
            )
        except BaseException:
            hold.release()
            raise
    return await bind_previous(services, principal, connection, request.previous_response_id)


async def bind_previous(
    services: TurnServices, principal: Principal, connection: ConnectionId | None, response_id: str | None
) -> Parent | None:
    """The response that is continued, as the cache or the store has it now."""
    if response_id is None:
        return None
    cached = bind_cached(services.chains, principal, connection, response_id)
    return cached or await bind_stored(services.store, principal, response_id)


def bind_cached(
    chains: ChainCache, principal: Principal, connection: ConnectionId | None, response_id: str | None
) -> Parent | None:
    """The parent if the chain cache holds it, pinned. No wait: used when a request is received."""
    if response_id is None:
        return None
    pin = chains.find(principal, connection, response_id)
    if pin is None:
        return None
    return _pinned(pin)


def _pinned(pin: Pin, hold: ConversationHold | None = None) -> Parent:
    state = pin.state
    return Parent(
        state.items,
        state.open_calls,
        state.model_state,
        history=state.history,
        context=state.context,
        chain_bytes=state.chain_bytes,
        settings=state.settings,
        pin=pin,
        hold=hold,
    )


async def bind_stored(store: ResponseStore, principal: Principal, response_id: str) -> Parent:
    """The parent out of the store. Raises PreviousResponseNotFound; a failed response is no parent."""
    stored = await store.get(principal, response_id)
    if stored is None or not stored.continuable:
        raise PreviousResponseNotFound(response_id)
    return Parent(stored.items, stored.open_calls, None, settings=NO_SETTINGS.behind(stored.items))


async def bind_conversation(
    store: ConversationStore,
    chains: ChainCache,
    principal: Principal,
    connection: ConnectionId | None,
    conversation_id: str,
    hold: ConversationHold | None = None,
) -> Parent:
    """The conversation's items; with the model's state if its last response is still hot. Raises ConversationNotFound."""
    conversation = await store.get_conversation(principal, conversation_id)
    if conversation is None:
        raise ConversationNotFound(conversation_id)
    pin = chains.find(principal, connection, conversation.tip) if conversation.tip is not None else None
    if pin is not None:
        return _pinned(pin, hold)
    items = conversation.items
    return Parent(items, open_calls_in(items), None, settings=NO_SETTINGS.behind(items), hold=hold)


async def resolve_reference(store: ResponseStore, principal: Principal, reference: ItemReference, param: str) -> Item:
    """The item that the reference stands for. Raises ItemNotFound."""
    found = await store.find_item(principal, reference.id)
    if found is None:
        raise ItemNotFound(reference.id, param=f"{param}.id")
    return found
