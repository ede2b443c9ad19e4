from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hotloop.engines.llama.faults import LogitsError
from hotloop.engines.llama.sampling import Sampler
from hotloop.seams.engine import Sampling

PROBABILITIES = (0.5, 0.3, 0.15, 0.05)
LOGITS = np.log(np.array(PROBABILITIES, np.float32))


def sampler(**settings: float | int | None) -> Sampler:
    return Sampler(Sampling(max_tokens=1, **settings))  # type: ignore[arg-type]  # each test passes fitting values


def shares(drawn: Sampler, count: int = 4_000) -> NDArray[np.float64]:
    counts = Counter(drawn.pick(LOGITS, None)[0] for _ in range(count))
    return np.array([counts[token] / count for token in range(len(PROBABILITIES))])


def test_temperature_0_takes_the_best() -> None:
    assert sampler(temperature=0.0).pick(LOGITS, None)[0] == 0


def test_temperature_1_draws_with_the_models_probabilities() -> None:
    np.testing.assert_allclose(shares(sampler(seed=1)), PROBABILITIES, atol=0.04)


def test_a_low_temperature_sharpens() -> None:
    expected = np.array(PROBABILITIES) ** 2
    np.testing.assert_allclose(shares(sampler(temperature=0.5, seed=1)), expected / expected.sum(), atol=0.04)


@pytest.mark.parametrize("temperature", [1e-300, 1e-50, 1e-45, 1e-39, 1e-7])
def test_next_to_no_temperature_takes_the_best(temperature: float) -> None:
    assert sampler(temperature=temperature, top_p=0.9).pick(LOGITS, None)[0] == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_not_sampled_from(temperature: float, wrong: float) -> None:
    logits = LOGITS.copy()
    logits[2] = wrong
    with pytest.raises(LogitsError):
        sampler(temperature=temperature, top_p=0.9).pick(logits, None)


@pytest.mark.parametrize(("top_p", "kept"), [(0.1, 1), (0.5, 1), (0.6, 2), (0.81, 3), (0.96, 4)])
def test_top_p_keeps_the_fewest_best_tokens_that_reach_it(top_p: float, kept: int) -> None:
    drawn = shares(sampler(top_p=top_p, seed=1))
    expected = np.array(PROBABILITIES) * (np.arange(4) < kept)
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.04)


def test_top_p_reaches_tokens_far_below_the_best() -> None:
    logits = np.full(10_000, -9.0, np.float32)  # each 1/8000 of the best, together more than it
    logits[0] = 0.0
    picks = {sampler(top_p=0.9, seed=seed).pick(logits, None)[0] for seed in range(20)}
    assert len(picks - {0}) > 5


def test_a_flat_distribution_is_cut_at_top_p_too() -> None:
    logits = np.log(np.arange(1, 2_001, dtype=np.float32))
    logits[0] = 20.0  # far above all others, which together are 5e-3 of it: below the floor, but within top_p
    weights = np.exp(logits.astype(np.float64))
    heavier = np.array([weights[weights > weight].sum() for weight in weights])
    drawn = sampler(top_p=0.999, seed=1)
    for _ in range(2_000):
        token, _ = drawn.pick(logits, None)
        assert heavier[token] < 0.999 * weights.sum()


def test_allowed_tokens_are_the_only_ones() -> None:
    allowed = np.array([2, 3])
    assert {sampler(seed=seed).pick(LOGITS, allowed)[0] for seed in range(50)} == {2, 3}
    assert sampler(temperature=0.0).pick(LOGITS, allowed)[0] == 2


def test_a_presence_penalty_counts_once_and_a_frequency_penalty_each_time() -> None:
    logits = np.array([1.0, 0.75, 0.0], np.float32)
    present = sampler(temperature=0.0, presence_penalty=0.5)
    assert [present.pick(logits, None)[0] for _ in range(4)] == [0, 1, 0, 0]
    frequent = sampler(temperature=0.0, frequency_penalty=0.5)
    assert [frequent.pick(logits, None)[0] for _ in range(5)] == [0, 1, 0, 1, 0]


def test_penalties_leave_the_engines_logits_alone() -> None:
    logits = np.array([1.0, 0.0], np.float32)
    penalised = sampler(temperature=0.0, presence_penalty=2.0)
    penalised.pick(logits, None)
    penalised.pick(logits, None)
    assert logits.tolist() == [1.0, 0.0]


def test_log_probabilities_are_the_models_own() -> None:
    _, entry = sampler(temperature=0.0, top_logprobs=2).pick(LOGITS, np.array([3]))
    assert entry is not None
    assert entry.token == 3
    assert entry.logprob == pytest.approx(np.log(0.05), abs=1e-5)
    assert [token for token, _ in entry.top] == [0, 1]
    assert entry.top[1][1] == pytest.approx(np.log(0.3), abs=1e-5)


def test_more_top_log_probabilities_than_tokens_are_all_tokens() -> None:
    _, entry = sampler(top_logprobs=20).pick(LOGITS, None)
    assert entry is not None
    assert [token for token, _ in entry.top] == [0, 1, 2, 3]


@given(
    values=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=50),
    temperature=st.floats(0.01, 2),
    top_p=st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
)
def test_a_pick_is_always_a_token(values: list[float], temperature: float, top_p: float, seed: int) -> None:
    token, _ = sampler(temperature=temperature, top_p=top_p, seed=seed).pick(np.array(values, np.float32), None)
    assert 0 <= token < len(values)


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**63 - 1])
def test_every_seed_of_64_bits_names_a_stream_of_its_own(seed: int) -> None:
    first, again = ([sampler(seed=seed).pick(LOGITS, None)[0] for _ in range(3)] for _ in range(2))
    assert first == again
