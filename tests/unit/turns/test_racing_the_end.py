"""Ending a turn from outside at every moment of its life: before it runs, in every loop tick until it is over, and after."""

import asyncio
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say, think
from tests.support.turns import ME, Pipeline, RecordingSink, body
from tests.support.virtual_time import run_virtual

from hotloop.seams.store import Addition, StoredResponse
from hotloop.session.principal import Principal
from hotloop.storage.memory import MemoryStore
from hotloop.turns.turn_request import RunningTurn, TurnOutcome, TurnRequest

TICKS = 24  # of the loop, more than the turn below lives
ACTS: dict[str, Callable[[RunningTurn], None]] = {
    "interrupt": lambda turn: turn.interrupt(),
    "steer": lambda turn: turn.steer(),
    "cancel": lambda turn: turn.cancel(),
    "acknowledge": lambda turn: turn.say(b"response.steer.accepted", _steer(turn)),
}


def _steer(turn: RunningTurn) -> bytes:
    return b',"steer":{"id":"steer_1","previous_response_id":"%b"}' % turn.response_id.encode()


class Race:
    """One turn on an engine that goes on by itself, a step a tick."""

    def __init__(self, step: int, *, store: bool = True, kept_in: MemoryStore | None = None) -> None:
        self.stores = store
        self.pipeline = Pipeline(ToyEngine(lambda prompt: think("hm", say("hello")), step=step), store=kept_in)
        self.sink = RecordingSink()
        self.running: list[RunningTurn] = []
        turn = self.pipeline.turn(input="hi", store=store)
        turn.on_created = self.running.append
        self.said = 0  # events when the turn was over
        self.task = asyncio.create_task(self._play(turn))

    async def _play(self, turn: TurnRequest) -> TurnOutcome:
        outcome = await self.pipeline.runner.run(turn, self.sink)
        self.said = len(self.sink.events)
        return outcome

    async def run(self, acts: dict[int, list[str]]) -> TurnOutcome:
        """Let the turn run, acting after so many ticks. Acts before `created` have nobody to act on."""
        for tick in range(TICKS):
            for act in acts.get(tick, []):
                for turn in self.running:
                    ACTS[act](turn)
            await asyncio.sleep(0)
        return await self.task

    async def check(self, outcome: TurnOutcome) -> None:
        """One ending, an honest object, nothing left in the engine once the caches let go."""
        response = body(outcome)
        if response["status"] != "cancelled":
            assert check_response_events(self.sink.events) == response
            assert outcome.ending is not None
            assert outcome.ending.next_sequence == self.said
        (row,) = self.pipeline.ledger.rows()
        assert row.ended is not None
        if self.stores:
            await self._check_stored(outcome, response)
        self.pipeline.services.prefixes.clear()
        for known in [event["response"]["id"] for event in self.sink.events if event["type"] == "response.created"]:
            self.pipeline.chains.evict(ME, None, known)
        assert all(run.is_over for run in self.pipeline.engine.runs)

    async def _check_stored(self, outcome: TurnOutcome, response: dict[str, Any]) -> None:
        """It can be read as it ended, and continued unless it was cancelled."""
        stored = await self.pipeline.store.get(ME, response["id"])
        assert stored is not None
        assert stored.body == outcome.body
        assert stored.continuable == (response["status"] != "cancelled")
        if stored.continuable:
            await self._continue(response["id"], response["output"])

    async def _continue(self, response_id: str, output: list[dict[str, object]]) -> None:
        """The next turn sees exactly the items that the response shows."""
        await self.pipeline.run(input="go on", previous_response_id=response_id, store=False)
        said = {0: "", 1: "<reply><think>hm<end>", 2: "<reply><think>hm<text>hello<end>"}[len(output)]
        assert self.pipeline.prompt == f"<sys><end><user>hi<end>{said}<user>go on<end><reply>"


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("step", [1, 3, 100])
@pytest.mark.parametrize("store", [False, True])
def test_an_act_at_any_moment_leaves_one_whole_ending(act: str, step: int, store: bool) -> None:
    async def main() -> None:
        endings: set[str] = set()
        for tick in range(TICKS):
            race = Race(step, store=store)
            outcome = await race.run({tick: [act]})
            await race.check(outcome)
            response = body(outcome)
            details = response["incomplete_details"]
            endings.add(response["status"] if details is None else details["reason"])
        expected = {"interrupt": "interrupted", "steer": "steered", "cancel": "cancelled", "acknowledge": "completed"}[
            act
        ]
        assert endings == {"completed", expected}, "both sides of the race were seen"

    run_virtual(main())


@pytest.mark.parametrize(("first", "second"), list(product(["interrupt", "steer", "cancel"], repeat=2)))
def test_two_acts_at_any_two_moments_leave_one_whole_ending(first: str, second: str) -> None:
    async def main() -> None:
        for one, gap in product(range(TICKS // 2), range(4)):
            race = Race(1)
            acts: dict[int, list[str]] = {one: [first]}
            acts.setdefault(one + gap, []).append(second)
            await race.check(await race.run(acts))

    run_virtual(main())


class SlowStore(MemoryStore):
    """Takes three ticks to write."""

    async def put(self, principal: Principal, response: StoredResponse, addition: Addition | None = None) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await super().put(principal, response, addition)


@pytest.mark.parametrize("step", [1, 100])
@pytest.mark.parametrize("store", [MemoryStore, SlowStore])
def test_a_turn_dropped_at_any_moment_leaves_nothing_or_a_whole_response(step: int, store: type[MemoryStore]) -> None:
    async def main() -> None:
        for tick in range(TICKS):
            race = Race(step, kept_in=store())
            for _ in range(tick):
                await asyncio.sleep(0)
            race.task.cancel()
            await asyncio.gather(race.task, return_exceptions=True)
            await asyncio.sleep(1)
            race.pipeline.services.prefixes.clear()
            ids = [event["response"]["id"] for event in race.sink.events if event["type"] == "response.created"]
            for response_id in ids:
                race.pipeline.chains.evict(ME, None, response_id)
            assert race.pipeline.engine.open_handles == 0
            assert all(run.is_over for run in race.pipeline.engine.runs)
            assert all(row.ended is not None for row in race.pipeline.ledger.rows())

    run_virtual(main())
