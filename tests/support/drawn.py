"""Texts and JSON objects for hypothesis, each drawn as one run of bytes that is then read as what it stands for.

One choice in place of the dozens that lists of words and recursive values make: an example costs half as much, and still
shrinks to short texts and small objects.
"""

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st


def texts_of(words: Sequence[str], *, min_size: int = 0) -> st.SearchStrategy[str]:
    """Up to eight of `words` in a row."""
    return st.binary(min_size=min_size, max_size=8).map(lambda drawn: _text(iter(drawn), words, len(drawn)))


def objects_of(
    words: Sequence[str], *, keys: Sequence[str] | None = None, nested: bool = True
) -> st.SearchStrategy[dict[str, object]]:
    """JSON objects of up to three fields, their texts made of `words`. `keys` of the outer one, else any text."""
    return st.binary(min_size=8, max_size=24).map(lambda drawn: _object(iter(drawn), words, keys, nested=nested))


def _text(drawn: Iterator[int], words: Sequence[str], count: int) -> str:
    return "".join([words[next(drawn, 0) % len(words)] for _ in range(count)])


def _object(
    drawn: Iterator[int], words: Sequence[str], keys: Sequence[str] | None = None, *, nested: bool = True
) -> dict[str, object]:
    fields: dict[str, object] = {}
    for _ in range(next(drawn, 0) % 4):
        key = _text(drawn, words, next(drawn, 0) % 4) if keys is None else keys[next(drawn, 0) % len(keys)]
        fields[key] = _value(drawn, words, nested=nested)
    return fields


def _value(drawn: Iterator[int], words: Sequence[str], *, nested: bool) -> object:
    match next(drawn, 0) % (7 if nested else 5):
        case 0:
            return None
        case 1:
            return next(drawn, 0) % 2 == 1
        case 2:
            return next(drawn, 0) % 109 - 9
        case 5:
            return [_value(drawn, words, nested=True) for _ in range(next(drawn, 0) % 4)]
        case 6:
            return _object(drawn, words)
        case _:
            return _text(drawn, words, next(drawn, 0) % 6)
