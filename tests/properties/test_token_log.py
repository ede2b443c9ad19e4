"""The token log against plain lists: any growth, fork and rewind, in any order, and nothing already said ever changes."""

from array import array

from hypothesis import given
from hypothesis import strategies as st

from hotloop.session.token_log import TokenView

Step = tuple[str, int, list[int]]

IDS = st.lists(st.integers(0, 2**32 - 1), max_size=5)
STEPS = st.lists(st.tuples(st.sampled_from(["append", "rewind", "new"]), st.integers(0, 10_000), IDS), max_size=40)


@given(STEPS)
def test_every_view_ever_taken_stays_the_list_it_was(steps: list[Step]) -> None:
    views: list[tuple[TokenView, list[int]]] = [(TokenView.of([]), [])]
    for kind, choice, ids in steps:
        view, expected = views[choice % len(views)]
        if kind == "append":
            views.append((view.append(ids), expected + ids))
        elif kind == "rewind":
            length = choice % (len(expected) + 1)
            views.append((view.head(length), expected[:length]))
        else:
            views.append((TokenView.of(ids), ids))
        for each, said in views:
            assert len(each) == len(said)
            assert each.tokens() == array("I", said)


@given(STEPS, st.integers(0, 50))
def test_tokens_from_any_start_are_the_tail_of_the_list(steps: list[Step], start: int) -> None:
    view, expected = TokenView.of([7]), [7]
    for kind, choice, ids in steps:
        older = view.head(choice % (len(view) + 1))
        older.append([choice])  # somebody else goes on from there
        if kind == "rewind":
            view, expected = older, expected[: len(older)]
        view, expected = view.append(ids), expected + ids
    assert list(view.tokens(start)) == expected[start:]


@given(STEPS)
def test_a_copy_taken_from_the_log_never_stops_it_from_growing(steps: list[Step]) -> None:
    view = TokenView.of([1])
    for _, _, ids in steps:
        with memoryview(view.tokens()):
            view = view.append(ids)
