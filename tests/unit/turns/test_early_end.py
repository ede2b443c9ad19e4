"""Turns that are ended from outside: interrupted, steered, cancelled, in the middle of whatever they do."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import ARGS, END, TEXT, TOOL, say, think
from tests.support.turns import ME, Pipeline, RecordingSink, body

from hotloop.seams.engine import EndReason
from hotloop.storage.memory import MemoryStore
from hotloop.turns.turn_request import RunningTurn, TurnOutcome

CALL_THEN_TEXT = [TOOL, *map(ord, "run"), ARGS, *map(ord, "{}"), TEXT, *map(ord, "and more"), END]


class Play:
    """One turn of a toy pipeline, step by step."""

    def __init__(self, reply: Sequence[int], *, step: int = 1, pipeline: Pipeline | None = None) -> None:
        self.pipeline = pipeline or Pipeline(ToyEngine(lambda prompt: reply, step=step))
        self.sink = RecordingSink()
        self.running: RunningTurn | None = None

    async def begin(self, **fields: Any) -> None:
        """Up to the submitted run, which is held."""
        self.pipeline.engine.pause()
        self.pipeline.engine.has_run.clear()
        fields.setdefault("input", "hi")
        turn = self.pipeline.turn(**fields)
        turn.on_created = self._created
        self.task = asyncio.create_task(self.pipeline.runner.run(turn, self.sink))
        await asyncio.wait_for(self.pipeline.engine.has_run.wait(), 60)

    def _created(self, running: RunningTurn) -> None:
        self.running = running

    @property
    def turn(self) -> RunningTurn:
        assert self.running is not None
        return self.running

    def steps(self, count: int) -> None:
        """Let the engine take steps."""
        self.pipeline.engine.advance(count)

    async def end(self) -> TurnOutcome:
        self.pipeline.engine.resume()
        return await asyncio.wait_for(self.task, 60)


async def after(play: Play, previous: str) -> str:
    """The prompt of a turn that continues `previous`."""
    parent_free = await play.pipeline.run(input="go on", previous_response_id=previous)
    assert parent_free.error is None
    return play.pipeline.prompt


async def test_an_interrupt_takes_back_the_open_item_and_keeps_the_whole_ones() -> None:
    play = Play(think("hm", say("a long answer")))
    await play.begin()
    play.steps(6)  # <think> h m <text> a _
    play.turn.interrupt()
    outcome = await play.end()
    final = check_response_events(play.sink.events)
    assert final["incomplete_details"] == {"reason": "interrupted"}
    assert [item["type"] for item in final["output"]] == ["reasoning"]
    assert play.sink.types[-3:] == ["interrupt.accepted", "output_item.interrupted", "incomplete"]
    assert final["usage"]["output_tokens"] >= 6, "what was sampled is counted, kept or not"
    assert outcome.error is None
    assert play.pipeline.records.latest()[-1].outcome == "incomplete:interrupted"


async def test_what_was_taken_back_is_not_in_the_chain_and_what_was_kept_is_not_decoded_again() -> None:
    play = Play(think("hm", say("a long answer")))
    await play.begin(store=False)
    play.steps(6)
    play.turn.interrupt()
    response = body(await play.end())
    prompt = await after(play, response["id"])
    assert prompt == "<sys><end><user>hi<end><reply><think>hm<end><user>go on<end><reply>"
    run = play.pipeline.engine.runs[-1]
    assert run.keep == len("susEhiEr") + len("thm") - 1, "the KV of what was kept was lost"
    assert not play.pipeline.records.latest()[-1].fallbacks


async def test_an_interrupt_before_the_first_token_leaves_the_question_only() -> None:
    play = Play(say("never"))
    await play.begin(store=False)
    play.turn.interrupt()
    response = body(await play.end())
    check_response_events(play.sink.events)
    assert response["output"] == []
    assert await after(play, response["id"]) == "<sys><end><user>hi<end><user>go on<end><reply>"


async def test_an_interrupt_while_the_prompt_is_rendered_stops_the_run_before_it_decodes() -> None:
    play = Play(say("never"))
    rendering, go_on = asyncio.Event(), asyncio.Event()
    prepare = play.pipeline.model.prepare

    async def slow(request: object) -> object:
        rendering.set()
        await go_on.wait()
        return await prepare(request)  # type: ignore[arg-type]

    play.pipeline.model.prepare = slow  # type: ignore[method-assign, assignment]
    turn = play.pipeline.turn(input="hi")
    turn.on_created = play._created
    task = asyncio.create_task(play.pipeline.runner.run(turn, play.sink))
    await rendering.wait()
    play.turn.interrupt()
    go_on.set()
    await task
    final = check_response_events(play.sink.events)
    assert final["incomplete_details"] == {"reason": "interrupted"}
    assert final["output"] == []
    assert play.pipeline.engine.runs[0].is_aborted


async def test_a_whole_call_survives_an_interrupt_and_can_be_answered() -> None:
    play = Play(CALL_THEN_TEXT)
    await play.begin(store=False)
    play.steps(9)
    play.turn.interrupt()
    outcome = await play.end()
    final = check_response_events(play.sink.events)
    (item,) = final["output"]
    assert outcome.ending is not None
    assert [getattr(call, "call_id", None) for call in outcome.ending.calls] == [item["call_id"]]
    result = {"type": "function_call_output", "call_id": item["call_id"], "output": "ok"}
    await play.pipeline.run(input=[result], previous_response_id=final["id"])
    assert play.pipeline.prompt == "<sys><end><user>hi<end><reply><tool>run<args>{}<end><result>ok<end><reply>"


async def test_an_interrupt_that_comes_late_or_twice_is_ignored() -> None:
    play = Play(say("ok"))
    await play.begin()
    await play.end()
    before = list(play.sink.sent)
    play.turn.interrupt()
    assert play.sink.sent == before
    play = Play(say("a long answer"))
    await play.begin()
    play.steps(2)
    play.turn.interrupt()
    play.turn.interrupt()
    await play.end()
    check_response_events(play.sink.events)


async def test_an_interrupted_response_is_stored() -> None:
    play = Play(say("a long answer"))
    await play.begin()
    play.steps(2)
    play.turn.interrupt()
    response = body(await play.end())
    stored = await play.pipeline.store.get(ME, response["id"])
    assert stored is not None
    assert json.loads(stored.body)["incomplete_details"] == {"reason": "interrupted"}
    assert stored.continuable


async def test_a_steered_turn_ends_with_the_item_it_is_writing() -> None:
    play = Play(think("hm", say("a long answer")))
    await play.begin(store=False)
    play.steps(2)
    play.turn.steer()
    play.steps(2)  # the step that opens the next item closes this one
    response = body(await play.end())
    final = check_response_events(play.sink.events)
    assert final["incomplete_details"] == {"reason": "steered"}
    assert [item["type"] for item in final["output"]] == ["reasoning"]
    assert await after(play, response["id"]) == "<sys><end><user>hi<end><reply><think>hm<end><user>go on<end><reply>"


@pytest.mark.parametrize("step", [1, 3, 100])
async def test_nothing_of_the_next_item_leaks_whatever_a_step_holds(step: int) -> None:
    play = Play(think("hm", say("a long answer")), step=step)
    await play.begin(store=False)
    play.turn.say(b"hotloop:note", b"")
    if step == 1:
        play.steps(1)
    play.turn.steer()
    response = body(await play.end())
    check_response_events(play.sink.events)
    assert response["incomplete_details"] == {"reason": "steered"}
    assert "long" not in await after(play, response["id"])


async def test_a_turn_steered_between_items_ends_at_once() -> None:
    play = Play(say("never"))
    await play.begin()
    play.turn.steer()
    await play.end()
    final = check_response_events(play.sink.events)
    assert final["incomplete_details"] == {"reason": "steered"}
    assert final["output"] == []


async def test_a_turn_with_a_call_in_it_runs_to_its_end() -> None:
    play = Play(CALL_THEN_TEXT)
    await play.begin()
    play.steps(9)
    play.turn.steer()
    outcome = await play.end()
    final = check_response_events(play.sink.events)
    assert final["status"] == "completed"
    assert [item["type"] for item in final["output"]] == ["function_call", "message"]
    assert outcome.ending is not None
    assert len(outcome.ending.calls) == 1


async def test_a_turn_steered_in_its_last_item_is_completed() -> None:
    play = Play(say("ok"))
    await play.begin()
    play.steps(2)
    play.turn.steer()
    await play.end()
    assert check_response_events(play.sink.events)["status"] == "completed"


async def test_a_turn_steered_in_its_last_item_and_cut_by_the_limit_says_so() -> None:
    play = Play(say("a long answer"))
    await play.begin(max_output_tokens=4)
    play.steps(2)
    play.turn.steer()
    await play.end()
    assert check_response_events(play.sink.events)["incomplete_details"] == {"reason": "max_output_tokens"}


async def test_an_interrupt_overtakes_a_steer_that_waits_for_the_engine() -> None:
    play = Play(think("hm", say("a long answer")))
    await play.begin()
    play.turn.steer()
    play.turn.interrupt()
    await play.end()
    assert check_response_events(play.sink.events)["incomplete_details"] == {"reason": "interrupted"}


@pytest.mark.parametrize("act", [RunningTurn.interrupt, RunningTurn.steer, RunningTurn.cancel])
async def test_an_engine_that_fails_while_it_is_stopped_is_a_failure(act: Callable[[RunningTurn], None]) -> None:
    play = Play(say("never"))
    await play.begin()
    play.pipeline.engine.fails_with = EndReason.UNAVAILABLE
    run = play.pipeline.engine.runs[0]
    run.is_aborted = True  # the abort gets lost with the engine
    getattr(play.turn, act.__name__)()
    outcome = await play.end()
    assert outcome.error is not None
    assert play.sink.types[-1] == "failed"


async def test_an_aside_that_comes_while_the_ending_is_stored_follows_it() -> None:
    class Slow(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.asked, self.go_on = asyncio.Event(), asyncio.Event()

        async def put(self, principal: object, response: object, addition: object = None) -> None:
            self.asked.set()
            await self.go_on.wait()

    store = Slow()
    play = Play([], pipeline=Pipeline(store=store))
    await play.begin()
    play.pipeline.engine.resume()
    await asyncio.wait_for(store.asked.wait(), 60)
    play.turn.interrupt()  # late
    play.turn.cancel()  # late
    steer = b',"steer":{"id":"steer_1","previous_response_id":"%b"}' % play.turn.response_id.encode()
    play.turn.say(b"response.steer.accepted", steer)
    store.go_on.set()
    await play.end()
    final = check_response_events(play.sink.events)
    assert final["status"] == "completed"
    assert play.sink.types[-2:] == ["completed", "steer.accepted"]


async def test_a_cancelled_turn_is_an_object_that_is_stored_and_no_parent() -> None:
    play = Play(say("a long answer"))
    await play.begin()
    play.steps(3)
    play.turn.cancel()
    outcome = await play.end()
    response = body(outcome)
    assert response["status"] == "cancelled"
    assert play.pipeline.engine.runs[0].is_aborted
    assert play.pipeline.engine.open_handles == 0
    stored = await play.pipeline.store.get(ME, response["id"])
    assert stored is not None
    assert not stored.continuable
    assert play.pipeline.records.latest()[-1].outcome == "cancelled"
