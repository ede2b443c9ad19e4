"""The modelled speed of a simulated engine, in virtual time."""

import asyncio

import pytest
from tests.support.engine_play import Played, Playing
from tests.support.virtual_time import run_virtual
from tests.unit.engines.scripted.test_engine import FORMAT, GO, TOKENIZER, opened

from hotloop.engines.scripted import ScriptedEngine, ScriptError, script_of
from hotloop.engines.scripted.run import STEP_S

TEXT = "a word " * 100
PROMPT = list(range(1, 101))


def simulated(decode: float, prefill: float = 1_000.0) -> ScriptedEngine:
    script = {
        "scripts": [{"match": "go", "turns": [{"text": TEXT}]}],
        "speed": {"decode": decode, "prefill": prefill},
    }
    clock = asyncio.get_running_loop().time
    return ScriptedEngine(script_of(script), FORMAT, TOKENIZER, clock=clock)


async def timed(playing: Playing) -> tuple[Played, list[float]]:
    """What was played, and when each step came."""
    times: list[float] = []
    seen = 0
    loop = asyncio.get_running_loop()
    while not playing.over.is_set():
        await asyncio.sleep(0.0001)
        if len(playing.played.steps) > seen:
            seen = len(playing.played.steps)
            times.append(loop.time())
    return playing.played, times


@pytest.mark.parametrize("decode", [65.0, 1_000.0, 4_000.0])
def test_tokens_come_at_the_speed_of_the_model_behind_the_prefill_of_what_is_not_cached(decode: float) -> None:
    async def main() -> None:
        played, times = await timed(Playing(opened(simulated(decode)), 0, PROMPT, GO))
        count = len(played.ids)
        assert times[0] == pytest.approx(0.1, abs=0.002)  # 100 tokens at 1,000 a second
        assert times[-1] - times[0] == pytest.approx((count - 1) / decode, abs=0.002)
        assert (played.usage.prefill_s, played.usage.decode_s) == pytest.approx((0.1, (count - 1) / decode))
        largest = max(1, int(STEP_S * decode)) + 2
        assert all(len(step) <= largest for step in played.steps)

    run_virtual(main())


def test_what_the_kv_cache_holds_is_not_prefilled_again() -> None:
    async def main() -> None:
        handle = opened(simulated(1_000.0))
        first, _ = await timed(Playing(handle, 0, PROMPT, GO))
        keep = first.usage.held_tokens
        again, _ = await timed(Playing(handle, keep, [7] * 10, GO))
        assert again.usage.prefill_s == pytest.approx(0.01)

    run_virtual(main())


def test_a_busy_loop_gets_tokens_late_and_the_engine_is_not_slowed() -> None:
    async def main() -> None:
        engine = simulated(100.0)
        late = 0.0

        def clock() -> float:
            return asyncio.get_running_loop().time() + late

        engine.clock = clock
        playing = Playing(opened(engine), 0, PROMPT, GO)
        await asyncio.sleep(0.105)  # the first token is there
        late = 0.5  # half a second in which nothing else ran
        played, times = await timed(playing)
        assert max(len(step) for step in played.steps) >= 50, "what came meanwhile leaves at once"
        assert times[-1] + late == pytest.approx(0.1 + (len(played.ids) - 1) / 100, abs=0.02)

    run_virtual(main())


@pytest.mark.parametrize("speed", [{"decode": 0, "prefill": 1}, {"decode": 1}, {"decode": 1, "prefill": 1, "x": 1}])
def test_a_speed_that_makes_no_sense_is_refused(speed: dict[str, float]) -> None:
    with pytest.raises(ScriptError, match="speed"):
        script_of({"speed": speed})
