"""A request of very many items costs what they cost, and lets others have the loop meanwhile. Counted in calls, not in time."""

import asyncio
import sys
from types import FrameType
from typing import Any

from tests.support.toy_engine import ToyEngine
from tests.support.turns import Pipeline, body

from hotloop.session.input_survey import survey_input


class Calls:
    """Calls made on this thread, and the most between two turns of the loop."""

    def __init__(self) -> None:
        self.total = self.longest = self._at_tick = 0

    def count(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            self.total += 1

    async def tick(self) -> None:
        while True:
            self.longest = max(self.longest, self.total - self._at_tick)
            self._at_tick = self.total
            await asyncio.sleep(0)


def history(pairs: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for number in range(pairs):
        items += [
            {"role": "user", "content": f"question {number}"},
            {"role": "assistant", "content": [{"type": "output_text", "text": f"answer {number}"}]},
        ]
    return [*items, {"role": "user", "content": "go"}]


async def calls_for(pairs: int) -> Calls:
    pipeline = Pipeline(ToyEngine(context_tokens=1_000_000))
    turn = pipeline.turn(input=history(pairs), store=False)
    turn.survey = survey_input(turn.request.input)
    calls = Calls()
    ticking = asyncio.create_task(calls.tick())
    await asyncio.sleep(0)
    sys.setprofile(calls.count)
    try:
        outcome = await pipeline.run_turn(turn)
    finally:
        sys.setprofile(None)
        ticking.cancel()
    assert body(outcome)["status"] == "completed"
    return calls


async def test_four_times_the_items_cost_four_times_as_much() -> None:
    few, many = await calls_for(500), await calls_for(2_000)
    assert many.total <= 4.4 * few.total


async def test_no_step_over_all_items_is_a_large_part_of_it() -> None:
    calls = await calls_for(4_000)
    assert calls.longest <= calls.total / 4, (calls.longest, calls.total)
