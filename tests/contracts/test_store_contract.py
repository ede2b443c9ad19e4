"""What every `seams.store.Store` promises."""

from collections.abc import Callable, Sequence

import pytest

from hotloop.protocol.item_view import id_of
from hotloop.protocol.items import Item, Message
from hotloop.seams.store import Addition, Store, StoredConversation, StoredResponse
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal, Tenant
from hotloop.storage.memory import MemoryStore

ME, OTHER = Principal(), Principal(Tenant("other"))
STORES: list[Callable[[], Store]] = [MemoryStore]

MakeStore = Callable[[], Store]
on_every_store = pytest.mark.parametrize("make", STORES)


def message(item_id: str) -> Message:
    return Message(role="user", content="hi", id=item_id)


def response(
    response_id: str, body: bytes = b"{}", size: int = 2, *, items: Sequence[Item] = (), output: int = 0
) -> StoredResponse:
    log = ItemLog([message(f"{response_id}_old")]).extended(items or [message(f"{response_id}_new")])
    return StoredResponse(response_id, "m", 1, body, log, len(items or "1") - output, output, {"c": True}, size, True)


def conversation(conversation_id: str, *item_ids: str) -> StoredConversation:
    return StoredConversation(conversation_id, 7, {"k": "v"}, ItemLog([message(item_id) for item_id in item_ids]))


async def item_ids(store: Store, conversation_id: str) -> list[str | None]:
    found = await store.get_conversation(ME, conversation_id)
    assert found is not None
    return [id_of(item) for item in found.items]


@on_every_store
async def test_what_was_put_is_found_whole(make: MakeStore) -> None:
    store = make()
    await store.put(ME, response("a"))
    found = await store.get(ME, "a")
    assert found is not None
    assert (found.body, list(found.items), dict(found.open_calls)) == (b"{}", list(response("a").items), {"c": True})
    await store.close()


@on_every_store
async def test_a_later_state_takes_the_place_of_an_earlier_one(make: MakeStore) -> None:
    store = make()
    await store.put(ME, response("a", b"queued", items=[message("in")]))
    await store.put(ME, response("a", b"completed", items=[message("in"), message("out")], output=1))
    found = await store.get(ME, "a")
    assert found is not None
    assert (found.body, found.new_input, found.output) == (b"completed", 1, 1)
    assert await store.find_item(ME, "in") is not None
    await store.close()


@on_every_store
async def test_nobody_reads_or_deletes_what_another_tenant_stored(make: MakeStore) -> None:
    store = make()
    await store.put(ME, response("a"))
    await store.put_conversation(ME, conversation("c", "i"), 1)
    assert await store.get(OTHER, "a") is None
    assert await store.find_item(OTHER, "a_new") is None
    assert not await store.delete(OTHER, "a")
    assert await store.get_conversation(OTHER, "c") is None
    assert not await store.extend_conversation(OTHER, Addition("c", [message("x")], 1))
    assert not await store.set_metadata(OTHER, "c", {})
    assert not await store.delete_item(OTHER, "c", "i")
    assert not await store.delete_conversation(OTHER, "c")
    await store.put(OTHER, response("b"), Addition("c", [message("x")], 1))
    assert await store.get(ME, "a") is not None
    assert await item_ids(store, "c") == ["i"]
    await store.close()


@on_every_store
async def test_two_tenants_may_use_one_id(make: MakeStore) -> None:
    store = make()
    await store.put(ME, response("a", b"mine"))
    await store.put(OTHER, response("a", b"theirs"))
    mine, theirs = await store.get(ME, "a"), await store.get(OTHER, "a")
    assert mine is not None
    assert theirs is not None
    assert (mine.body, theirs.body) == (b"mine", b"theirs")
    await store.close()


@on_every_store
async def test_what_was_deleted_is_gone_and_was_there_once(make: MakeStore) -> None:
    store = make()
    await store.put(ME, response("a"))
    await store.put_conversation(ME, conversation("c", "i"), 1)
    assert await store.delete(ME, "a")
    assert not await store.delete(ME, "a")
    assert await store.get(ME, "a") is None
    assert await store.find_item(ME, "a_new") is None
    assert await store.delete_conversation(ME, "c")
    assert not await store.delete_conversation(ME, "c")
    assert await store.get_conversation(ME, "c") is None
    assert await store.find_item(ME, "i") is None
    await store.close()


@on_every_store
async def test_an_unknown_id_is_none(make: MakeStore) -> None:
    store = make()
    assert await store.get(ME, "unknown") is None
    assert await store.find_item(ME, "unknown") is None
    assert await store.get_conversation(ME, "unknown") is None
    assert not await store.extend_conversation(ME, Addition("unknown", [], 0))
    await store.close()
    await store.close()


@on_every_store
async def test_an_id_names_what_it_was_given_to(make: MakeStore) -> None:
    store = make()
    await store.put(ME, response("a"))
    await store.put_conversation(ME, conversation("c"), 1)
    assert await store.get(ME, "c") is None
    assert not await store.delete(ME, "c")
    assert await store.get_conversation(ME, "a") is None
    assert not await store.delete_conversation(ME, "a")
    assert not await store.extend_conversation(ME, Addition("a", [], 0))
    await store.close()


@on_every_store
async def test_an_item_is_found_while_something_holds_it(make: MakeStore) -> None:
    store = make()
    await store.put_conversation(ME, conversation("c"), 1)
    await store.put(ME, response("a", items=[message("i")]), Addition("c", [message("i")], 1, "a"))
    assert await store.find_item(ME, "a_old") is None  # it belongs to the response before
    assert await store.delete(ME, "a")
    assert await store.find_item(ME, "i") == message("i")
    assert await store.delete_conversation(ME, "c")
    assert await store.find_item(ME, "i") is None
    await store.close()


@on_every_store
async def test_a_conversation_grows_at_its_end_and_knows_the_response_it_ends_with(make: MakeStore) -> None:
    store = make()
    await store.put_conversation(ME, conversation("c", "i"), 1)
    await store.put(ME, response("a"), Addition("c", [message("j"), message("k")], 2, "a"))
    found = await store.get_conversation(ME, "c")
    assert found is not None
    assert (found.created_at, dict(found.metadata), found.tip) == (7, {"k": "v"}, "a")
    assert await item_ids(store, "c") == ["i", "j", "k"]
    assert await store.extend_conversation(ME, Addition("c", [message("l")], 1))
    found = await store.get_conversation(ME, "c")
    assert found is not None
    assert found.tip is None
    assert await item_ids(store, "c") == ["i", "j", "k", "l"]
    await store.close()


@on_every_store
async def test_a_response_is_kept_although_its_conversation_is_gone(make: MakeStore) -> None:
    store = make()
    await store.put(ME, response("a"), Addition("gone", [message("j")], 1, "a"))
    assert await store.get(ME, "a") is not None
    assert await store.get_conversation(ME, "gone") is None
    await store.close()


@on_every_store
async def test_an_item_taken_out_is_gone_and_the_response_no_longer_ends_there(make: MakeStore) -> None:
    store = make()
    await store.put_conversation(ME, conversation("c", "i", "j"), 1)
    await store.extend_conversation(ME, Addition("c", [message("k")], 1, "a"))
    assert await store.delete_item(ME, "c", "j")
    assert not await store.delete_item(ME, "c", "j")
    assert not await store.delete_item(ME, "unknown", "j")
    assert await item_ids(store, "c") == ["i", "k"]
    assert await store.find_item(ME, "j") is None
    found = await store.get_conversation(ME, "c")
    assert found is not None
    assert found.tip is None
    await store.close()


@on_every_store
async def test_metadata_is_replaced_whole(make: MakeStore) -> None:
    store = make()
    await store.put_conversation(ME, conversation("c", "i"), 1)
    assert await store.set_metadata(ME, "c", {"new": "1"})
    assert not await store.set_metadata(ME, "unknown", {})
    found = await store.get_conversation(ME, "c")
    assert found is not None
    assert dict(found.metadata) == {"new": "1"}
    assert await item_ids(store, "c") == ["i"]
    await store.close()
