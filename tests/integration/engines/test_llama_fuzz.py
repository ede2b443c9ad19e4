"""Random clients against the scheduler over real contexts: whatever they do, the engine lives and says what the model says."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.llama_fuzz import Judge, play
from tests.support.random_gguf import write_random_gguf, write_sliding_gguf
from tests.support.recurrent_gguf import write_hybrid_gguf, write_recurrent_gguf

from hotloop.engines.llama.binding import Model

WRITERS: dict[str, Callable[[Path], Path]] = {
    "random": write_random_gguf,
    "sliding": write_sliding_gguf,
    "recurrent": write_recurrent_gguf,
    "hybrid": write_hybrid_gguf,
}


@pytest.fixture(scope="module", params=WRITERS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One whose KV can be parked, one of which only a part would come back, and two that cannot rewind."""
    name: str = request.param
    model = Model(str(WRITERS[name](tmp_path_factory.mktemp("model") / f"{name}.gguf")))
    assert (model.can_rewind, model.keeps_all_kv) == (name in {"random", "sliding"}, name == "random")
    return model


def test_whatever_clients_do_a_real_engine_goes_on(model: Model) -> None:
    judge = Judge(model)
    ended = sum(play(model, judge, seed, 300).ended for seed in range(6))
    assert ended > 300
    assert judge.judged > 1000


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(8))
def test_whatever_clients_do_for_long_a_real_engine_goes_on(model: Model, seed: int) -> None:
    judge = Judge(model)
    for game in range(20):
        play(model, judge, 1000 + 20 * seed + game, 500)
