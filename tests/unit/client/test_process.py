from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hotloop.client.process import BoundedText


@given(st.lists(st.text(st.sampled_from("ab\né😀"), max_size=12)), st.integers(1, 8))
def test_the_beginning_the_end_and_the_count_of_the_rest_are_exact(pieces: list[str], kept: int) -> None:
    bounded = BoundedText(kept)
    for piece in pieces:
        bounded.feed(piece.encode())
    bounded.feed(b"", last=True)
    whole = "".join(pieces).rstrip("\n")
    assert bounded.dropped_chars == max(0, len(whole) - 2 * kept)
    assert bounded.text == (whole if len(whole) <= 2 * kept else whole[:kept] + whole[-kept:])


@given(st.binary(), st.lists(st.integers(0, 64)))
def test_any_split_of_the_bytes_gives_the_same_text(data: bytes, cuts: list[int]) -> None:
    bounded = BoundedText()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(bounds):
        bounded.feed(data[start:end])
    bounded.feed(b"", last=True)
    assert bounded.text == data.decode(errors="replace").rstrip("\n")
