from statistics import median

import pytest

from hotloop.bench.mix import FIRST_TURN_TOKENS, LAST_HISTORY_TOKENS, NAMES, STEPS, draw, load, stretched


@pytest.mark.parametrize("name", NAMES)
def test_the_saved_mix_is_the_one_its_seed_draws(name: str) -> None:
    assert load(name) == draw(name)
    assert len(load(name)) == STEPS


def test_the_interactive_mix_has_the_medians_it_is_named_for_and_the_heavy_one_takes_seconds_per_tool() -> None:
    interactive = load("interactive")[:50]
    assert median(step.output_tokens for step in interactive) == pytest.approx(80, rel=0.05)
    assert median(step.tool_s for step in interactive) == pytest.approx(0.040, rel=0.05)
    assert median(step.tool_s for step in load("heavy")) > 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("calls", [20, 50, 100])
def test_the_history_grows_to_the_same_length_however_many_calls_there_are(name: str, calls: int) -> None:
    steps = stretched(load(name)[:calls])
    tokens = FIRST_TURN_TOKENS + sum(step.output_tokens + step.tool_output_tokens for step in steps)
    assert tokens == pytest.approx(LAST_HISTORY_TOKENS, rel=0.01)
