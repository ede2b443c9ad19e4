from array import array

from hypothesis import given
from hypothesis import strategies as st

from hotloop.engines.scripted.kv import KvPool, common_prefix
from hotloop.session.principal import LOCAL


def ids(*tokens: int) -> "array[int]":
    return array("I", tokens)


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20))
def test_the_common_prefix_is_what_both_begin_with(left: list[int], right: list[int]) -> None:
    length = common_prefix(ids(*left).tobytes(), ids(*right).tobytes())
    assert left[:length] == right[:length]
    assert left[: length + 1] != right[: length + 1] or length in (len(left), len(right))


def test_the_longest_prefix_is_found_and_a_chain_used_whole_moves_out() -> None:
    pool = KvPool(100)
    pool.put(LOCAL, ids(1, 2))
    pool.put(LOCAL, ids(1, 2, 3, 4))
    assert pool.take(LOCAL, ids(1, 2, 3, 9)) == 3
    assert pool.held_tokens == 6
    assert pool.take(LOCAL, ids(1, 2, 3, 4, 5)) == 4
    assert pool.held_tokens == 2
    assert pool.take(LOCAL, ids(7)) == 0


def test_the_least_recently_used_chain_goes_first() -> None:
    pool = KvPool(4)
    pool.put(LOCAL, ids(1, 1))
    pool.put(LOCAL, ids(2, 2))
    assert pool.take(LOCAL, ids(1)) == 1
    pool.put(LOCAL, ids(3, 3))
    assert pool.take(LOCAL, ids(2, 2)) == 0
    assert pool.held_tokens == 4


def test_nothing_and_the_same_again_take_no_room() -> None:
    pool = KvPool(4)
    pool.put(LOCAL, ids())
    pool.put(LOCAL, ids(1))
    pool.put(LOCAL, ids(1))
    assert pool.held_tokens == 1
    pool.clear()
    assert pool.held_tokens == 0
