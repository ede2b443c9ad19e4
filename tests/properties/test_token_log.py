"""The token log against plain lists: any growth, fork, rewind and eviction, in any order; nothing said ever changes."""

from array import array
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from hotloop.session.token_log import BYTES_PER_TOKEN, SEGMENT_OVERHEAD_BYTES, LogMeter, Segment, TokenView

Step = tuple[str, int, list[int]]

IDS = st.lists(st.integers(0, 2**32 - 1), max_size=5)
KIND = st.sampled_from(["append", "append", "rewind", "new", "evict"])
STEPS = st.lists(st.tuples(KIND, st.integers(0, 10_000), IDS), max_size=40)


def segments_of(views: Iterable[TokenView]) -> set[Segment]:
    """Every segment that the views need."""
    found: set[Segment] = set()
    for view in views:
        segment: Segment | None = view.segment
        while segment is not None and segment not in found:
            found.add(segment)
            segment = segment.parent
    return found


@given(STEPS)
def test_every_view_ever_taken_stays_the_list_it_was_and_every_byte_is_accounted(steps: list[Step]) -> None:
    meter = LogMeter()
    views: list[tuple[TokenView, list[int]]] = [(TokenView.of([], meter), [])]
    for kind, choice, ids in steps:
        place = choice % len(views)
        view, expected = views[place]
        if kind == "append":
            views.append((view.append(ids), expected + ids))
        elif kind == "rewind":
            length = choice % (len(expected) + 1)
            views.append((view.head(length), expected[:length]))
        elif kind == "evict" and len(views) > 1:
            views.pop(place)
        else:
            views.append((TokenView.of(ids, meter), ids))
        del view
        check(meter, views)
    views.clear()
    assert meter.size_bytes == 0


def check(meter: LogMeter, views: list[tuple[TokenView, list[int]]]) -> None:
    for view, said in views:
        assert (len(view), view.tokens()) == (len(said), array("I", said))
    alive = segments_of(view for view, _ in views)
    tokens = sum(len(segment.ids) for segment in alive)
    assert (meter.segments, meter.tokens) == (len(alive), tokens)
    assert meter.size_bytes == tokens * BYTES_PER_TOKEN + len(alive) * SEGMENT_OVERHEAD_BYTES


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


@given(st.lists(st.integers(1, 4), min_size=1, max_size=300), st.data())
def test_a_rewind_over_any_number_of_forks_takes_a_logarithmic_number_of_steps(
    sizes: list[int], data: st.DataObject
) -> None:
    view, expected = TokenView.of([0]), [0]
    for number, size in enumerate(sizes):
        view.append([number])  # takes the place behind the tip: what follows is a fork
        view, expected = view.append([number] * size), expected + [number] * size
    length = data.draw(st.integers(0, len(expected)))
    assert list(view.head(length).tokens()) == expected[:length]
    steps, segment = 0, view.segment
    while length <= segment.parent_length and segment.parent is not None:
        assert segment.jump is not None
        segment = segment.jump if length <= segment.jump.parent_length else segment.parent
        steps += 1
    assert steps <= 4 * len(expected).bit_length()
