from dataclasses import replace

import pytest

from hotloop.session.model_context import ContextCache, ContextKey

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


def test_a_context_is_made_once_per_key() -> None:
    cache: ContextCache[str] = ContextCache()
    made: list[ContextKey] = []

    def make(key: ContextKey) -> str:
        made.append(key)
        return key.model

    assert cache.get(KEY, make) == cache.get(replace(KEY), make) == "m"
    assert made == [KEY]
    assert (cache.hits, cache.misses) == (1, 1)


def test_what_could_not_be_made_is_tried_again() -> None:
    cache: ContextCache[str] = ContextCache()

    def fail(key: ContextKey) -> str:
        raise ValueError

    with pytest.raises(ValueError):
        cache.get(KEY, fail)
    assert cache.get(KEY, lambda key: "now") == "now"


def test_the_least_recently_used_goes_first_and_the_bound_is_in_bytes() -> None:
    cache: ContextCache[int] = ContextCache(max_bytes=100, copies=1)
    keys = [replace(KEY, instructions=None, tools=bytes([number]) * 40) for number in range(3)]
    first, second, third = keys
    cache.get(first, lambda key: 1)
    cache.get(second, lambda key: 2)
    cache.get(first, lambda key: -1)
    cache.get(third, lambda key: 3)
    assert cache.get(first, lambda key: -1) == 1
    assert cache.get(second, lambda key: -2) == -2


def test_one_context_larger_than_the_bound_is_still_kept() -> None:
    cache: ContextCache[int] = ContextCache(max_bytes=1)
    cache.get(KEY, lambda key: 1)
    assert cache.get(KEY, lambda key: 2) == 1
