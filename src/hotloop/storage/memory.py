"""Stored responses and conversations in memory: real, bounded in bytes, gone with the process."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hotloop.errors import StorageUnavailable
from hotloop.protocol.item_view import id_of
from hotloop.protocol.items import Item
from hotloop.seams.store import Addition, StoredConversation, StoredResponse
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal, Tenant

_Key = tuple[Tenant, str]


@dataclass(slots=True)
class _Entry:
    value: StoredResponse | StoredConversation
    size_bytes: int


class MemoryStore:
    """Keeps the newest responses and conversations of all tenants within `max_bytes`, oldest use first out.

    Args:
        max_bytes: bound of all that is kept: each response with the input that was new in it, each conversation whole.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._items: dict[_Key, dict[_Key, Item]] = {}  # by item id, then by the entry that holds it; the latest last

    @property
    def total_bytes(self) -> int:
        """Bytes accounted."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    async def put(self, principal: Principal, response: StoredResponse, addition: Addition | None = None) -> None:
        """Make it visible, pushing out the oldest."""
        conversation = None if addition is None else self._conversation(principal, addition.conversation_id)
        self._check_size(response.size_bytes)
        if addition is not None and conversation is not None:
            self._extend(principal, addition, conversation)
        key = (principal.tenant, response.response_id)
        self._forget(key)
        self._keep(key, _Entry(response, response.size_bytes), _own_items(response))

    async def get(self, principal: Principal, response_id: str) -> StoredResponse | None:
        """The response, or None."""
        entry = self._find((principal.tenant, response_id))
        return entry.value if entry is not None and isinstance(entry.value, StoredResponse) else None

    async def find_item(self, principal: Principal, item_id: str) -> Item | None:
        """The item kept last under this id."""
        holders = self._items.get((principal.tenant, item_id))
        return next(reversed(holders.values())) if holders else None

    async def delete(self, principal: Principal, response_id: str) -> bool:
        """Forget it; False if there was none."""
        return await self.get(principal, response_id) is not None and self._forget((principal.tenant, response_id))

    async def put_conversation(self, principal: Principal, conversation: StoredConversation, size_bytes: int) -> None:
        """Keep a new conversation, pushing out the oldest."""
        self._check_size(size_bytes)
        key = (principal.tenant, conversation.conversation_id)
        self._keep(key, _Entry(conversation, size_bytes), conversation.items)

    async def get_conversation(self, principal: Principal, conversation_id: str) -> StoredConversation | None:
        """The conversation, or None."""
        entry = self._conversation(principal, conversation_id)
        return entry.value if entry is not None and isinstance(entry.value, StoredConversation) else None

    async def extend_conversation(self, principal: Principal, addition: Addition) -> bool:
        """Add items at the end."""
        entry = self._conversation(principal, addition.conversation_id)
        if entry is None:
            return False
        self._extend(principal, addition, entry)
        return True

    async def set_metadata(self, principal: Principal, conversation_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace the metadata."""
        conversation = await self.get_conversation(principal, conversation_id)
        if conversation is None:
            return False
        self._entries[principal.tenant, conversation_id].value = replace(conversation, metadata=dict(metadata))
        return True

    async def delete_item(self, principal: Principal, conversation_id: str, item_id: str) -> bool:
        """Take an item out. Its bytes stay accounted until the conversation goes."""
        conversation = await self.get_conversation(principal, conversation_id)
        if conversation is None:
            return False
        kept = [item for item in conversation.items if id_of(item) != item_id]
        if len(kept) == len(conversation.items):
            return False
        key = (principal.tenant, conversation_id)
        self._entries[key].value = replace(conversation, items=ItemLog(kept), tip=None)
        self._forget_items(key, [item_id])
        return True

    async def delete_conversation(self, principal: Principal, conversation_id: str) -> bool:
        """Forget it and its items."""
        is_there = await self.get_conversation(principal, conversation_id) is not None
        return is_there and self._forget((principal.tenant, conversation_id))

    async def close(self) -> None:
        """Nothing to flush."""

    def _find(self, key: _Key) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def _conversation(self, principal: Principal, conversation_id: str) -> _Entry | None:
        entry = self._find((principal.tenant, conversation_id))
        return entry if entry is not None and isinstance(entry.value, StoredConversation) else None

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise StorageUnavailable(f"This is larger than the store ({self._max_bytes} bytes).")

    def _keep(self, key: _Key, entry: _Entry, items: Iterable[Item]) -> None:
        self._entries[key] = entry
        self._bytes += entry.size_bytes
        self._remember_items(key, items)
        self._push_out(key)

    def _extend(self, principal: Principal, addition: Addition, entry: _Entry) -> None:
        conversation = entry.value
        assert isinstance(conversation, StoredConversation), "conversations and responses have different ids"
        self._check_size(entry.size_bytes + addition.size_bytes)
        key = (principal.tenant, addition.conversation_id)
        entry.value = replace(conversation, items=conversation.items.extended(addition.items), tip=addition.tip)
        entry.size_bytes += addition.size_bytes
        self._bytes += addition.size_bytes
        self._remember_items(key, addition.items)
        self._push_out(key)

    def _push_out(self, newest: _Key) -> None:
        while self._bytes > self._max_bytes:
            oldest = next(iter(self._entries))
            assert oldest != newest, "what alone is over the bound was refused"
            self._forget(oldest)

    def _forget(self, key: _Key) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._bytes -= entry.size_bytes
        value = entry.value
        items = _own_items(value) if isinstance(value, StoredResponse) else value.items
        self._forget_items(key, map(id_of, items))
        return True

    def _remember_items(self, key: _Key, items: Iterable[Item]) -> None:
        for item in items:
            item_id = id_of(item)
            if item_id is not None:
                self._items.setdefault((key[0], item_id), {})[key] = item

    def _forget_items(self, key: _Key, item_ids: Iterable[str | None]) -> None:
        for item_id in item_ids:
            if item_id is None:
                continue
            holders = self._items.get((key[0], item_id), {})
            holders.pop(key, None)
            if not holders:
                self._items.pop((key[0], item_id), None)


def _own_items(response: StoredResponse) -> list[Item]:
    """What no response before it holds."""
    return response.items.last(response.new_input - response.recognised + response.output)
