import pytest

from hotloop.errors import StorageUnavailable
from hotloop.seams.store import StoredResponse
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
