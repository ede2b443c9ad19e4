import pytest

from hotloop.errors import StorageUnavailable
from hotloop.protocol.items import Message
from hotloop.seams.store import Addition, StoredConversation, StoredResponse
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal
from hotloop.storage.memory import MemoryStore

ME = Principal()


def response(response_id: str, size: int) -> StoredResponse:
    return StoredResponse(response_id, "m", 1, b"{}", ItemLog(), 0, 0, {}, size, True)


async def test_the_bound_counts_the_input_too_and_pushes_out_the_oldest_use() -> None:
    store = MemoryStore(max_bytes=100)
    await store.put(ME, response("a", 40))
    await store.put(ME, response("b", 40))
    await store.get(ME, "a")
    await store.put(ME, response("c", 40))
    assert store.total_bytes == 80
    assert await store.get(ME, "b") is None
    assert await store.get(ME, "a") is not None


async def test_what_is_larger_than_the_store_is_refused_and_costs_nobody_else() -> None:
    store = MemoryStore(max_bytes=100)
    await store.put(ME, response("a", 40))
    with pytest.raises(StorageUnavailable):
        await store.put(ME, response("b", 101))
    assert await store.get(ME, "a") is not None
    assert await store.get(ME, "b") is None


async def test_a_response_put_again_is_counted_once() -> None:
    store = MemoryStore(max_bytes=100)
    await store.put(ME, response("a", 40))
    await store.put(ME, response("a", 50))
    assert store.total_bytes == 50
    await store.delete(ME, "a")
    assert store.total_bytes == 0


async def test_a_conversation_counts_what_it_grows_by_and_pushes_out_the_oldest() -> None:
    store = MemoryStore(max_bytes=100)
    await store.put(ME, response("a", 40))
    await store.put_conversation(ME, StoredConversation("c", 1, {}, ItemLog()), 30)
    assert await store.extend_conversation(ME, Addition("c", [], 40))
    assert store.total_bytes == 70
    assert await store.get(ME, "a") is None


async def test_a_conversation_larger_than_the_store_keeps_its_state_and_the_response_is_not_kept() -> None:
    store = MemoryStore(max_bytes=100)
    await store.put_conversation(ME, StoredConversation("c", 1, {}, ItemLog()), 80)
    with pytest.raises(StorageUnavailable):
        await store.put(ME, response("a", 40), Addition("c", [Message(role="user", content="x")], 40, "a"))
    kept = await store.get_conversation(ME, "c")
    assert kept is not None
    assert len(kept.items) == 0
    assert await store.get(ME, "a") is None
    assert store.total_bytes == 80


async def test_what_is_pushed_out_takes_its_items_along() -> None:
    store = MemoryStore(max_bytes=100)
    items = ItemLog([Message(role="user", content="x", id="i")])
    await store.put(ME, StoredResponse("a", "m", 1, b"{}", items, 1, 0, {}, 60, True))
    assert await store.find_item(ME, "i") is not None
    await store.put(ME, response("b", 60))
    assert await store.find_item(ME, "i") is None
