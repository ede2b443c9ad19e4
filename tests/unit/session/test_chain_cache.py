import pytest
from tests.support.model_states import CountedState

from hotloop.session.chain import TurnState
from hotloop.session.chain_cache import ENTRY_OVERHEAD_BYTES, CacheLimits, ChainCache
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal, Tenant

ME = Principal()
OTHER = Principal(Tenant("other"))


def state(response_id: str, size: int = 0, kept: CountedState | None = None) -> TurnState:
    return TurnState(response_id, "m", ItemLog(), {}, kept, size)


def known(cache: ChainCache, response_id: str, connection: int | None = 1, principal: Principal = ME) -> bool:
    pin = cache.find(principal, connection, response_id)
    if pin is None:
        return False
    pin.release()
    return True


def test_a_stored_response_is_seen_by_its_whole_tenant() -> None:
    cache = ChainCache()
    cache.put(ME, state("r"), owner=None)
    assert known(cache, "r", 1)
    assert known(cache, "r", None)
    assert not known(cache, "r", 1, OTHER)


def test_an_unstored_response_is_seen_by_its_connection_only() -> None:
    cache = ChainCache()
    cache.put(ME, state("r"), owner=1)
    assert known(cache, "r", 1)
    assert not known(cache, "r", 2)
    assert not known(cache, "r", None)
    assert not known(cache, "r", 1, OTHER)


def test_it_dies_with_its_connection_and_lets_its_model_go() -> None:
    cache = ChainCache()
    kept = CountedState()
    cache.put(ME, state("r", 10, kept), owner=1)
    cache.drop_connection(1)
    assert kept.released == 1
    assert (len(cache), cache.total_bytes, cache.tenant_bytes(ME.tenant)) == (0, 0, 0)
    cache.drop_connection(1)  # again, or without ever having kept anything


def test_a_stored_response_outlives_every_connection() -> None:
    cache = ChainCache()
    cache.put(ME, state("r"), owner=None)
    cache.drop_connection(1)
    assert known(cache, "r", 2)


def test_bytes_are_accounted_to_their_tenant() -> None:
    cache = ChainCache()
    cache.put(ME, state("a", 10), owner=1)
    cache.put(OTHER, state("b", 20), owner=None)
    assert cache.tenant_bytes(ME.tenant) == 10 + ENTRY_OVERHEAD_BYTES
    assert cache.total_bytes == 30 + 2 * ENTRY_OVERHEAD_BYTES


def test_a_pinned_response_can_be_used_after_it_was_forgotten() -> None:
    cache = ChainCache()
    kept = CountedState()
    cache.put(ME, state("r", 0, kept), owner=1)
    pin = cache.find(ME, 1, "r")
    assert pin is not None
    assert cache.evict(ME, 1, "r")
    assert not known(cache, "r")
    assert pin.state.response_id == "r"
    assert kept.released == 0
    pin.release()
    pin.release()
    assert kept.released == 1


def test_only_who_sees_a_response_can_evict_it() -> None:
    cache = ChainCache()
    cache.put(ME, state("r"), owner=1)
    assert not cache.evict(ME, 2, "r")
    assert not cache.evict(OTHER, 1, "r")
    assert not cache.evict(ME, 1, "unknown")
    assert cache.evict(ME, 1, "r")


def test_a_connection_keeps_its_newest_and_what_it_used_last() -> None:
    cache = ChainCache(CacheLimits(entries_per_connection=2))
    cache.put(ME, state("a"), owner=1)
    cache.put(ME, state("b"), owner=1)
    assert known(cache, "a")
    assert cache.put(ME, state("c"), owner=1) == ["b"]
    assert cache.evictions == 1


def test_other_lanes_never_cost_a_lane_its_latest_response() -> None:
    cache = ChainCache(CacheLimits(entries_per_connection=3))
    cache.put(ME, state("quiet"), owner=1, lane="a")
    for number in range(10):
        cache.put(ME, state(f"busy {number}"), owner=1, lane="b")
    assert known(cache, "quiet")
    assert known(cache, "busy 9")
    assert known(cache, "busy 8")
    assert len(cache) == 3


def test_a_lanes_superseded_response_goes_before_another_lanes_latest() -> None:
    cache = ChainCache(CacheLimits(entries_per_connection=2))
    cache.put(ME, state("a1"), owner=1, lane="a")
    cache.put(ME, state("b1"), owner=1, lane="b")
    assert cache.put(ME, state("b2"), owner=1, lane="b") == ["b1"]


def test_with_more_lanes_than_entries_the_oldest_goes() -> None:
    cache = ChainCache(CacheLimits(entries_per_connection=1))
    cache.put(ME, state("a"), owner=1, lane="a")
    assert cache.put(ME, state("b"), owner=1, lane="b") == ["a"]
    assert known(cache, "b")


def test_an_evicted_latest_is_nobodys_latest() -> None:
    cache = ChainCache(CacheLimits(entries_per_connection=2))
    cache.put(ME, state("a1"), owner=1, lane="a")
    cache.put(ME, state("a2"), owner=1, lane="a")
    cache.evict(ME, 1, "a2")
    cache.put(ME, state("b1"), owner=1, lane="b")
    assert cache.put(ME, state("b2"), owner=1, lane="b") == ["a1"]


def test_a_tenants_bytes_push_out_its_own_oldest_only() -> None:
    cache = ChainCache(CacheLimits(bytes_per_tenant=2 * (100 + ENTRY_OVERHEAD_BYTES)))
    cache.put(OTHER, state("theirs", 100), owner=None)
    for name in ("a", "b"):
        cache.put(ME, state(name, 100), owner=None)
    assert cache.put(ME, state("c", 100), owner=None) == ["a"]
    assert known(cache, "theirs", principal=OTHER)


def test_the_process_bound_pushes_out_the_oldest_of_all() -> None:
    cache = ChainCache(CacheLimits(bytes_total=2 * (100 + ENTRY_OVERHEAD_BYTES)))
    cache.put(OTHER, state("theirs", 100), owner=None)
    cache.put(ME, state("a", 100), owner=None)
    assert cache.put(ME, state("b", 100), owner=None) == ["theirs"]


@pytest.mark.parametrize("limits", [CacheLimits(bytes_per_tenant=1), CacheLimits(bytes_total=1)])
def test_the_newest_stays_even_if_it_alone_is_over_the_bound(limits: CacheLimits) -> None:
    cache = ChainCache(limits)
    cache.put(ME, state("a", 100), owner=1)
    assert cache.put(ME, state("b", 100), owner=1) == ["a"]
    assert known(cache, "b")


def test_an_id_is_never_kept_twice() -> None:
    cache = ChainCache()
    cache.put(ME, state("r"), owner=None)
    with pytest.raises(AssertionError):
        cache.put(ME, state("r"), owner=None)
