"""What every `seams.store.ResponseStore` promises."""

from collections.abc import Callable

import pytest

from hotloop.protocol.items import Message
from hotloop.seams.store import ResponseStore, StoredResponse
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal, Tenant
from hotloop.storage.memory import MemoryStore

ME, OTHER = Principal(), Principal(Tenant("other"))
STORES: list[Callable[[], ResponseStore]] = [MemoryStore]


def response(response_id: str, body: bytes = b"{}", size: int = 2) -> StoredResponse:
    items = ItemLog([Message(role="user", content="hi")])
    return StoredResponse(response_id, "m", 1, body, items, 1, 0, {"c": True}, size, True)


@pytest.mark.parametrize("make", STORES)
async def test_what_was_put_is_found_whole(make: Callable[[], ResponseStore]) -> None:
    store = make()
    await store.put(ME, response("a"))
    found = await store.get(ME, "a")
    assert found is not None
    assert (found.body, list(found.items), dict(found.open_calls)) == (b"{}", list(response("a").items), {"c": True})
    await store.close()


@pytest.mark.parametrize("make", STORES)
async def test_nobody_reads_or_deletes_what_another_tenant_stored(make: Callable[[], ResponseStore]) -> None:
    store = make()
    await store.put(ME, response("a"))
    assert await store.get(OTHER, "a") is None
    assert not await store.delete(OTHER, "a")
    assert await store.get(ME, "a") is not None
    await store.close()


@pytest.mark.parametrize("make", STORES)
async def test_two_tenants_may_use_one_id(make: Callable[[], ResponseStore]) -> None:
    store = make()
    await store.put(ME, response("a", b"mine"))
    await store.put(OTHER, response("a", b"theirs"))
    mine, theirs = await store.get(ME, "a"), await store.get(OTHER, "a")
    assert mine is not None
    assert theirs is not None
    assert (mine.body, theirs.body) == (b"mine", b"theirs")
    await store.close()


@pytest.mark.parametrize("make", STORES)
async def test_what_was_deleted_is_gone_and_was_there_once(make: Callable[[], ResponseStore]) -> None:
    store = make()
    await store.put(ME, response("a"))
    assert await store.delete(ME, "a")
    assert not await store.delete(ME, "a")
    assert await store.get(ME, "a") is None
    await store.close()


@pytest.mark.parametrize("make", STORES)
async def test_an_unknown_id_is_none(make: Callable[[], ResponseStore]) -> None:
    store = make()
    assert await store.get(ME, "unknown") is None
    await store.close()
    await store.close()
