from tests.support.model_states import CountedState

from hotloop.session.item_log import ItemLog
from hotloop.session.prefix_index import POINT_OVERHEAD_BYTES, HistoryPoint, IndexLimits, PrefixIndex
from hotloop.session.principal import LOCAL, Tenant

CONTEXT = b"c"


def enter(
    index: PrefixIndex,
    place: bytes,
    *,
    behind: bytes | None = None,
    chain_bytes: int = 0,
    tenant: Tenant = LOCAL,
    response_id: str = "",
) -> CountedState:
    state = CountedState()
    point = HistoryPoint(ItemLog(), {}, state, chain_bytes)
    index.enter(tenant, CONTEXT, place, point, behind=behind, warm=True, response_id=response_id)
    return state


def test_who_finds_a_point_has_a_share_of_its_own() -> None:
    index = PrefixIndex()
    state = enter(index, b"1")
    match = index.find(LOCAL, CONTEXT, [b"0", b"1", b"2"])
    assert match is not None
    assert match.length == 2
    index.clear()
    assert (state.holders, state.kv_holders) == (1, 1)
    match.point.model_state.release()
    assert state.holders == 0


def test_the_turn_that_went_on_took_the_kv_along() -> None:
    index = PrefixIndex()
    first = enter(index, b"1")
    index.cool(CONTEXT, b"1")
    index.cool(CONTEXT, b"1")
    second = enter(index, b"2", behind=b"1")
    assert (first.holders, first.kv_holders, second.kv_holders) == (1, 0, 1)
    assert index.warm_chains == 1


def test_only_so_many_chains_hold_kv_and_the_least_recently_used_gives_it_back_first() -> None:
    index = PrefixIndex(IndexLimits(warm=2))
    one, two = enter(index, b"1"), enter(index, b"2")
    found = index.find(LOCAL, CONTEXT, [b"1"])
    assert found is not None
    found.point.model_state.release()
    three = enter(index, b"3")
    assert [state.kv_holders for state in (one, two, three)] == [1, 0, 1]
    assert two.holders == 1  # its tokens are still known


def test_what_a_later_point_needs_is_accounted_for_until_that_goes() -> None:
    index = PrefixIndex(IndexLimits(bytes_per_tenant=4 * POINT_OVERHEAD_BYTES))
    enter(index, b"1", chain_bytes=1000)
    enter(index, b"2", behind=b"1", chain_bytes=1500)
    assert index.total_bytes == 1500 + 2 * POINT_OVERHEAD_BYTES
    enter(index, b"3", behind=b"2", chain_bytes=1600 + 2 * POINT_OVERHEAD_BYTES)  # pushes both out, which frees nothing
    assert (len(index), index.evictions) == (1, 2)
    assert index.total_bytes == 1600 + 5 * POINT_OVERHEAD_BYTES
    enter(index, b"4", chain_bytes=1)
    assert (len(index), index.total_bytes) == (1, 1 + POINT_OVERHEAD_BYTES)


def test_the_tenant_that_holds_the_most_gives_first() -> None:
    index = PrefixIndex(IndexLimits(bytes_total=3 * POINT_OVERHEAD_BYTES))
    other = Tenant("other")
    for place in (b"1", b"2"):
        enter(index, place, tenant=other)
    enter(index, b"3")
    enter(index, b"4")
    assert (index.tenant_bytes(other), index.tenant_bytes(LOCAL)) == (POINT_OVERHEAD_BYTES, 2 * POINT_OVERHEAD_BYTES)


def test_another_tenant_and_another_context_find_nothing() -> None:
    index = PrefixIndex()
    enter(index, b"1")
    assert index.find(Tenant("other"), CONTEXT, [b"1"]) is None
    assert index.find(LOCAL, b"d", [b"1"]) is None
    assert index.is_known_elsewhere([b"0", b"1"])
    assert not index.is_known_elsewhere([b"0"])


def test_a_place_that_is_known_stays_as_it_is_unless_what_comes_is_warm() -> None:
    index = PrefixIndex()
    first = enter(index, b"1")
    cold = CountedState()
    index.enter(LOCAL, CONTEXT, b"1", HistoryPoint(ItemLog(), {}, cold, 0), behind=None, warm=False)
    assert (first.holders, cold.holders) == (1, 0)
    warm = enter(index, b"1")
    assert (first.holders, warm.holders, len(index)) == (0, 1, 1)


def test_a_deleted_response_takes_its_own_points_along_and_nobody_elses() -> None:
    index = PrefixIndex()
    other = Tenant("other")
    before, asked, answered, behind = (
        enter(index, b"1", response_id="resp_0"),
        enter(index, b"2", behind=b"1", response_id="resp_1"),
        enter(index, b"3", behind=b"2", response_id="resp_1"),
        enter(index, b"4", behind=b"3", response_id="resp_2"),
    )
    foreign = enter(index, b"3", tenant=other, response_id="resp_1")
    index.forget(LOCAL, "resp_1")
    index.forget(LOCAL, "resp_1")
    index.forget(LOCAL, "resp_unknown")
    assert [state.holders for state in (before, asked, answered, behind, foreign)] == [1, 0, 0, 1, 1]
    assert len(index) == 3
    index.forget(LOCAL, "resp_2")
    index.forget(LOCAL, "resp_0")
    assert (index.tenant_bytes(LOCAL), len(index)) == (0, 1)


def test_a_deleted_chain_goes_as_a_whole() -> None:
    index = PrefixIndex()
    states = [
        enter(index, b"1", response_id="resp_0"),
        enter(index, b"2", behind=b"1", response_id="resp_1"),
        enter(index, b"3", behind=b"2", response_id="resp_2"),
    ]
    apart = enter(index, b"9", response_id="resp_9")
    index.forget(LOCAL, "resp_1")  # accounted for as long as the one behind it
    index.forget_chain(LOCAL, "resp_2")
    assert [state.holders for state in (*states, apart)] == [0, 0, 0, 1]
    assert len(index) == 1 and index.total_bytes == POINT_OVERHEAD_BYTES
