import pytest
from msgspec.structs import replace

from hotloop.session.model_context import ENTRY_OVERHEAD_BYTES, ContextCache, ContextKey

KEY = ContextKey("m", "Be brief.", b"[]", None, False)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model="n"),
        replace(KEY, instructions=None),
        replace(KEY, instructions=""),
        replace(KEY, instructions="-"),
        replace(KEY, tools=b"[ ]"),
        replace(KEY, reasoning_effort="low"),
        replace(KEY, reasoning_effort="Be brief.", instructions=None),
        replace(KEY, keep_reasoning=True),
        replace(KEY, model="mBe brief.", instructions=""),
    ],
)
def test_different_contexts_have_different_digests(other: ContextKey) -> None:
    assert KEY.digest() != other.digest()
    assert replace(KEY).digest() == KEY.digest()


def test_tools_of_one_origin_are_not_taken_for_those_of_another() -> None:
    keys = [
        replace(KEY, tools=b"[1][2]"),
        replace(KEY, tools=b"[1]", added_tools=(b"[2]",)),
        replace(KEY, tools=b"", added_tools=(b"[1]", b"[2]")),
        replace(KEY, tools=b"", added_tools=(b"[1][2]",)),
    ]
    assert len({key.digest() for key in keys}) == len(keys)


def test_a_value_is_made_once_per_key() -> None:
    cache = ContextCache()
    made: list[str] = []

    def make() -> str:
        made.append("m")
        return "m"

    assert cache.get(KEY, make, len) == cache.get(replace(KEY), make, len) == "m"
    assert made == ["m"]
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)


def test_nothing_is_a_value_too() -> None:
    cache = ContextCache()
    assert cache.get(KEY, lambda: None, lambda _: 0) is None
    cache.get(KEY, lambda: pytest.fail("made twice"), lambda _: 0)


def test_what_could_not_be_made_is_tried_again() -> None:
    cache = ContextCache()

    def fail() -> str:
        raise ValueError

    with pytest.raises(ValueError):
        cache.get(KEY, fail, len)
    assert cache.get(KEY, lambda: "now", len) == "now"


def test_shelves_of_two_contexts_are_apart_and_share_the_bound() -> None:
    cache = ContextCache()
    one, two = cache.shelf(b"1"), cache.shelf(b"2")
    assert one.get("start", lambda: "a", len) == "a"
    assert two.get("start", lambda: "bb", len) == "bb"
    assert cache.shelf(b"1").get("start", lambda: "c", len) == "a"
    assert cache.total_bytes == 2 * ENTRY_OVERHEAD_BYTES + 3


def test_the_least_recently_used_goes_first_and_the_bound_is_in_bytes() -> None:
    cache = ContextCache(max_bytes=2 * (ENTRY_OVERHEAD_BYTES + 40))

    def forty(value: str) -> int:
        return 40

    for name in ("first", "second", "first", "third"):
        cache.get(name, name.upper, forty)
    assert cache.get("first", lambda: "again", forty) == "FIRST"
    assert cache.get("second", lambda: "again", forty) == "again"
    assert cache.total_bytes == 2 * (ENTRY_OVERHEAD_BYTES + 40)


def test_one_value_larger_than_the_bound_is_still_kept() -> None:
    cache = ContextCache(max_bytes=1)
    cache.get(KEY, lambda: 1, lambda _: 100)
    assert cache.get(KEY, lambda: 2, lambda _: 100) == 1


def test_a_memory_of_no_bytes_keeps_nothing() -> None:
    cache = ContextCache(0)
    assert [cache.get(KEY, lambda: "m", len) for _ in range(2)] == ["m", "m"]
    assert (cache.misses, len(cache), cache.total_bytes) == (2, 0, 0)
