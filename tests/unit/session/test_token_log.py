from array import array

import pytest

from hotloop.session.token_log import LogMeter, Segment, TokenView


def test_a_view_holds_what_it_was_made_of() -> None:
    view = TokenView.of([1, 2, 3])
    assert len(view) == 3
    assert view.tokens() == array("I", [1, 2, 3])
    assert view.tokens(2) == array("I", [3])
    assert view.tokens(3) == array("I")


def test_the_newest_view_grows_in_place() -> None:
    first = TokenView.of([1, 2])
    second = first.append([3])
    assert second.segment is first.segment
    assert list(first.tokens()) == [1, 2]
    assert list(second.tokens()) == [1, 2, 3]


def test_an_older_view_grows_on_a_segment_of_its_own() -> None:
    first = TokenView.of([1, 2])
    second = first.append([3])
    fork = first.append([4])
    assert fork.segment is not second.segment
    assert list(second.tokens()) == [1, 2, 3]
    assert list(fork.tokens()) == [1, 2, 4]
    assert list(fork.tokens(1)) == [2, 4]


def test_nothing_appended_is_the_same_view() -> None:
    first = TokenView.of([1])
    first.append([2])
    assert first.append([]) is first


def test_a_rewind_is_a_shorter_view_and_can_be_forked_anywhere() -> None:
    base = TokenView.of([1, 2, 3, 4])
    fork = base.head(2).append([5, 6])
    assert [list(fork.head(length).tokens()) for length in range(5)] == [[], [1], [1, 2], [1, 2, 5], [1, 2, 5, 6]]
    assert list(fork.head(1).append([9]).tokens()) == [1, 9]


def test_a_rewind_to_a_segments_start_lets_that_segment_go() -> None:
    base = TokenView.of([1, 2, 3])
    fork = base.head(2).append([4])
    assert fork.head(2).segment is base.segment


def test_a_rewind_to_nothing_of_a_root_stays_there() -> None:
    root = TokenView.of([1])
    assert root.head(0).segment is root.segment
    assert list(root.head(0).tokens()) == []


@pytest.mark.parametrize("length", [-1, 3])
def test_a_head_longer_than_the_view_is_a_bug(length: int) -> None:
    with pytest.raises(AssertionError):
        TokenView.of([1, 2]).head(length)


def test_a_segment_that_continues_nothing_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        Segment(LogMeter(), None, 1)


def test_a_long_line_of_forks_is_let_go_without_a_deep_recursion() -> None:
    meter = LogMeter()
    view = TokenView.of([0], meter)
    for number in range(50_000):
        view.append([number])
        view = view.append([number])
    assert meter.segments == 50_001
    assert len(view.head(1).segment.ids) > 0
    del view
    assert (meter.segments, meter.tokens) == (0, 0)


def test_a_chain_that_starts_anew_keeps_nothing_of_the_old_one() -> None:
    meter = LogMeter()
    old = TokenView.of([1, 2, 3], meter)
    new = old.head(0).append([4])
    del old
    assert list(new.tokens()) == [4]
    assert meter.tokens == 1
