"""Where `store: true` responses and conversations live beyond their connection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hotloop.protocol.items import Item
from hotloop.session.chain import OpenCalls
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """Everything needed to show a response and to continue it."""

    response_id: str
    model: str
    created_at: int
    body: bytes  # the response object
    items: ItemLog  # all input and output of its chain, up to and with this response; those that are new have ids
    new_input: int  # how many of the items before its output came with its request
    output: int  # how many of the last items are its output
    open_calls: OpenCalls
    size_bytes: int  # of the body and the new input; older items belong to the responses before it
    continuable: bool  # a failed response can be shown but not continued
    recognised: int = 0  # of the new input: known from responses before it, to which those items belong


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation and its items, oldest first. Every item has an id."""

    conversation_id: str
    created_at: int
    metadata: Mapping[str, str]
    items: ItemLog
    tip: str | None = None  # the response whose chain these items are; None once they were changed by other means


@dataclass(frozen=True, slots=True)
class Addition:
    """Items for the end of a conversation. `tip` is the response that ends there, if one does."""

    conversation_id: str
    items: Sequence[Item]
    size_bytes: int
    tip: str | None = None


class ResponseStore(Protocol):
    """Stored responses by tenant and id. Reads never show what another tenant stored."""

    async def put(self, principal: Principal, response: StoredResponse, addition: Addition | None = None) -> None:
        """Make it visible, in place of an older state of it, and in the same step extend the conversation it belongs to.

        Raises StorageUnavailable if it cannot be kept; then nothing of it is visible and the conversation is as it was. A
        conversation that is gone is passed over.
        """
        ...

    async def get(self, principal: Principal, response_id: str) -> StoredResponse | None:
        """The response, or None."""
        ...

    async def find_item(self, principal: Principal, item_id: str) -> Item | None:
        """The item of a stored response or conversation that has this id; the latest if several have."""
        ...

    async def delete(self, principal: Principal, response_id: str) -> bool:
        """Forget it; False if there was none."""
        ...

    async def close(self) -> None:
        """Flush and let go. Idempotent."""
        ...


class ConversationStore(Protocol):
    """Conversations by tenant and id. Reads never show what another tenant stored."""

    async def put_conversation(self, principal: Principal, conversation: StoredConversation, size_bytes: int) -> None:
        """Keep a new conversation. Raises StorageUnavailable."""
        ...

    async def get_conversation(self, principal: Principal, conversation_id: str) -> StoredConversation | None:
        """The conversation, or None."""
        ...

    async def extend_conversation(self, principal: Principal, addition: Addition) -> bool:
        """Add items at the end; False if there is no such conversation. Raises StorageUnavailable and changes nothing."""
        ...

    async def set_metadata(self, principal: Principal, conversation_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace the metadata; False if there is no such conversation."""
        ...

    async def delete_item(self, principal: Principal, conversation_id: str, item_id: str) -> bool:
        """Take an item out; False if it is not there."""
        ...

    async def delete_conversation(self, principal: Principal, conversation_id: str) -> bool:
        """Forget it and its items; False if there was none."""
        ...


class Store(ResponseStore, ConversationStore, Protocol):
    """Both, in one place: a response and the conversation it extends change together."""
