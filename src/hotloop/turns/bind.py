"""Finding the response a turn continues: in the chain cache, then in the store (docs/protocol.md §5.2)."""

from dataclasses import dataclass

from hotloop.errors import PreviousResponseNotFound
from hotloop.seams.store import ResponseStore
from hotloop.session.chain import ModelState, OpenCalls
from hotloop.session.chain_cache import ChainCache, ConnectionId, Pin
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal


@dataclass(frozen=True, slots=True)
class Parent:
    """The chain a turn continues. `release` it when the turn is over."""

    items: ItemLog
    open_calls: OpenCalls
    model_state: ModelState | None
    pin: Pin | None = None

    def release(self) -> None:
        """Let the chain cache forget it again. Idempotent."""
        if self.pin is not None:
            self.pin.release()


def bind_cached(
    chains: ChainCache, principal: Principal, connection: ConnectionId | None, response_id: str | None
) -> Parent | None:
    """The parent if the chain cache holds it, pinned. No wait: used when a request is received."""
    if response_id is None:
        return None
    pin = chains.find(principal, connection, response_id)
    if pin is None:
        return None
    return Parent(pin.state.items, pin.state.open_calls, pin.state.model_state, pin)


async def bind_stored(store: ResponseStore, principal: Principal, response_id: str) -> Parent:
    """The parent out of the store. Raises PreviousResponseNotFound; a failed response is no parent."""
    stored = await store.get(principal, response_id)
    if stored is None or not stored.continuable:
        raise PreviousResponseNotFound(response_id)
    return Parent(stored.items, stored.open_calls, None)
