from functools import partial

import pytest

from hotloop.bench.rounds import Figure, figure_of, interleave, ratio_of


def test_the_spread_is_half_the_distance_between_the_quartiles() -> None:
    assert figure_of([1, 2, 3, 4, 100]) == Figure(3, 1.0, 5)


def test_one_round_has_no_spread() -> None:
    assert figure_of([2.5]) == Figure(2.5, 0.0, 1)


def test_a_ratio_is_taken_round_by_round() -> None:
    # A machine that halves its pace in the second round disturbs both arms, not their ratio.
    assert ratio_of([10, 20, 10], [5, 10, 5]) == Figure(2, 0, 3)


def test_every_round_measures_every_arm_once_in_an_order_of_its_own() -> None:
    order: list[str] = []

    def arm(name: str) -> int:
        order.append(name)
        return len(order)

    samples = interleave({name: partial(arm, name) for name in "abcd"}, rounds=6)
    rounds = [order[start : start + 4] for start in range(0, 24, 4)]
    assert all(sorted(names) == list("abcd") for names in rounds)
    assert len({tuple(names) for names in rounds}) > 1
    assert all(order[at - 1] == name for name, places in samples.items() for at in places)


def test_arms_with_different_numbers_of_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio_of([1, 2], [1])
