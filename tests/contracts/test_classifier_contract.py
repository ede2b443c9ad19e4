"""What every `seams.classifier.Classifier` promises: any split of a text gives the same verdicts."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.safety.patterns import PatternPolicy
from hotloop.seams.classifier import Classifier, Decision, Direction, Verdict

POLICIES: dict[str, Callable[[], Classifier]] = {
    "no rules": PatternPolicy,
    "words": lambda: PatternPolicy(
        flag={"ab": "ab", "digits": "[0-9]{3}"}, block={"no": "(?i)no", "far": "x[^y]{0,20}y"}
    ),
}
TEXT = st.text(st.sampled_from("abAnoOxy012 é😀"), max_size=60)
DIRECTIONS: list[Direction] = ["input", "output"]


def verdicts(policy: Classifier, pieces: list[str], direction: Direction = "output") -> list[Verdict]:
    stream = policy.stream(direction)
    return [verdict for piece in pieces for verdict in stream.feed(piece)]


@pytest.mark.parametrize("name", POLICIES)
@given(text=TEXT, cuts=st.lists(st.integers(0, 60), max_size=10), direction=st.sampled_from(DIRECTIONS))
def test_any_split_gives_the_same_verdicts(name: str, text: str, cuts: list[int], direction: Direction) -> None:
    policy = POLICIES[name]()
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [text[start:stop] for start, stop in pairwise(places)]
    whole = verdicts(policy, [text], direction)
    assert set(verdicts(policy, pieces, direction)) == set(whole)
    assert len(verdicts(policy, pieces, direction)) == len(whole)


@pytest.mark.parametrize("name", POLICIES)
def test_streams_know_nothing_of_each_other(name: str) -> None:
    policy = POLICIES[name]()
    one, two = policy.stream("output"), policy.stream("output")
    one.feed("n")
    assert list(two.feed("o")) == []


@pytest.mark.parametrize("name", POLICIES)
def test_an_idle_policy_finds_nothing(name: str) -> None:
    policy = POLICIES[name]()
    assert policy.is_idle == (name == "no rules")
    assert not policy.is_idle or not verdicts(policy, ["no abAB 0123 x1y"])


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_blocks_only_if_it_says_so(name: str) -> None:
    policy = POLICIES[name]()
    found = verdicts(policy, ["no abAB 0123 x1y"])
    assert policy.is_blocking or all(verdict.decision is Decision.FLAG for verdict in found)
