"""Turns that are ended from outside while a call runs, and what is left of them."""

import asyncio
from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.hosted import (
    LOOK_A,
    LOOK_B,
    Held,
    ask,
    both,
    by_results,
    hosted_pipeline,
    offered,
    server,
)
from tests.support.toy_format import say
from tests.support.turns import RecordingSink, body
from tests.support.virtual_time import run_virtual

from hotloop.seams.hosted_tools import OfferedTool
from hotloop.tool_servers.local import LocalVisit
from hotloop.turns.turn_request import RunningTurn, TurnOutcome


class Play:
    """A turn whose call is running."""

    def __init__(self, output: list[int] = LOOK_A, **fields: Any) -> None:
        self.held = Held()
        self.pipeline, self.servers = hosted_pipeline(
            by_results(output, say("done")), {"files": [offered("look", self.held)]}, **fields
        )
        self.sink = RecordingSink()
        self.running: RunningTurn | None = None

    async def begin(self, **fields: Any) -> None:
        turn = self.pipeline.turn(input="hi", tools=[server()], **fields)
        turn.on_created = self._created
        self.task = asyncio.create_task(self.pipeline.runner.run(turn, self.sink))
        await asyncio.wait_for(self.held.has_begun.wait(), 60)

    def _created(self, running: RunningTurn) -> None:
        self.running = running

    @property
    def turn(self) -> RunningTurn:
        assert self.running is not None
        return self.running

    async def end(self) -> TurnOutcome:
        return await asyncio.wait_for(self.task, 60)


@pytest.mark.parametrize("how", ["interrupt", "steer"])
@pytest.mark.parametrize("store", [True, False])
async def test_a_running_call_is_stopped_and_the_chain_goes_on_knowing_it(how: str, store: bool) -> None:
    play = Play()
    await play.begin(store=store)
    getattr(play.turn, how)()
    await play.end()
    response = check_response_events(play.sink.events)
    assert response["incomplete_details"] == {"reason": "interrupted" if how == "interrupt" else "steered"}
    assert play.held.stopped == ["a"] and play.servers.visits == 0
    assert response["output"][1]["status"] == "failed"
    play.held.go.set()
    after = await ask(play.pipeline, input="go on", previous_response_id=response["id"], store=store)
    assert after["status"] == "completed"
    assert (
        "<result>Error: The call was stopped before it was finished; what it did is not known.<end>"
        in play.pipeline.prompt
    )
    assert play.pipeline.records.latest()[-1].fallbacks == ()


async def test_a_steer_while_the_model_writes_leaves_its_call_unrun() -> None:
    play = Play(both(LOOK_A, LOOK_B))
    play.pipeline.engine.pause()
    turn = play.pipeline.turn(input="hi", tools=[server()])
    turn.on_created = play._created
    task = asyncio.create_task(play.pipeline.runner.run(turn, play.sink))
    await asyncio.wait_for(play.pipeline.engine.has_run.wait(), 60)
    play.pipeline.engine.advance(6)
    play.turn.steer()
    play.pipeline.engine.resume()
    await asyncio.wait_for(task, 60)
    response = check_response_events(play.sink.events)
    assert response["incomplete_details"] == {"reason": "steered"}
    assert not play.held.begun
    assert [item["type"] for item in response["output"]] == ["mcp_list_tools", "mcp_call"]
    play.held.go.set()
    after = await ask(play.pipeline, input="go on", previous_response_id=response["id"])
    assert after["status"] == "completed", after["error"]


async def test_a_cancelled_turn_stops_its_call() -> None:
    play = Play()
    await play.begin()
    play.turn.cancel()
    outcome = await play.end()
    assert body(outcome)["status"] == "cancelled"
    assert play.held.stopped == ["a"] and play.servers.visits == 0


async def test_a_client_that_leaves_stops_its_call() -> None:
    play = Play()
    await play.begin()
    play.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await play.end()
    assert play.held.stopped == ["a"] and play.servers.visits == 0
    assert play.pipeline.engine.open_handles == 0


def test_a_turn_that_takes_too_long_stops_its_call() -> None:
    async def main() -> None:
        play = Play(turn_timeout_s=60)
        await play.begin()
        outcome = await play.task
        assert outcome.error is not None and outcome.error.code == "engine_timeout"
        response = check_response_events(play.sink.events)
        assert response["output"][1]["status"] == "incomplete"
        assert play.held.stopped == ["a"] and play.servers.visits == 0

    run_virtual(main())


async def test_an_engine_that_dies_between_rounds_fails_the_turn() -> None:
    play = Play()
    await play.begin()
    play.pipeline.engine.fails_after = 0
    play.held.go.set()
    outcome = await play.end()
    assert outcome.error is not None and outcome.error.code == "engine_unavailable"
    response = check_response_events(play.sink.events)
    assert response["output"][1]["output"] == "<a>"


async def test_nothing_is_held_when_all_is_over() -> None:
    pipeline, servers = hosted_pipeline(by_results(LOOK_A, say("done")))
    response = await ask(pipeline, input="hi", store=False)
    await ask(pipeline, input="on", previous_response_id=response["id"], store=False)
    pipeline.chains.drop_connection(1)
    pipeline.services.prefixes.clear()
    assert pipeline.engine.open_handles == 0 and servers.visits == 0


@pytest.mark.parametrize("how", ["interrupt", "steer", "cancel", "leave", "time out"])
def test_a_list_that_is_being_fetched_is_stopped(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_virtual(stop_a_list(how, monkeypatch))


async def stop_a_list(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_asked, stopped = asyncio.Event(), list[object]()

    async def hang(visit: LocalVisit, asked: object) -> list[OfferedTool]:
        is_asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(asked)
            raise
        raise AssertionError

    monkeypatch.setattr(LocalVisit, "list_tools", hang)
    pipeline, servers = hosted_pipeline(by_results(say("done")), turn_timeout_s=60)
    turn, sink, running = pipeline.turn(input="hi", tools=[server()]), RecordingSink(), list[RunningTurn]()
    turn.on_created = running.append
    task = asyncio.create_task(pipeline.runner.run(turn, sink))
    await asyncio.wait_for(is_asked.wait(), 60)
    match how:
        case "interrupt":
            running[0].interrupt()
        case "steer":
            running[0].steer()
        case "cancel":
            running[0].cancel()
        case "leave":
            task.cancel()
        case _:
            pass
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    assert len(stopped) == 1 and servers.visits == 0 and pipeline.engine.open_handles <= 1
    if how == "leave":
        assert isinstance(outcome, asyncio.CancelledError)
    else:
        assert isinstance(outcome, TurnOutcome)
        statuses = {"cancel": "cancelled", "time out": "failed"}
        assert body(outcome)["status"] == statuses.get(how, "incomplete")
        assert "error" in body(outcome)["output"][0]


def test_a_client_hears_that_a_long_call_still_runs() -> None:
    async def slow(arguments: object) -> str:
        await asyncio.sleep(100)
        return "late"

    async def main() -> None:
        pipeline, _ = hosted_pipeline(
            by_results(LOOK_A, say("done")), {"files": [offered("look", slow)]}, turn_timeout_s=3600.0
        )
        sink = RecordingSink()
        await pipeline.run(sink, input="hi", tools=[server()])
        response = check_response_events(sink.events)
        assert response["output"][1]["output"] == "late"
        assert sink.types.count("in_progress") > 100 // pipeline.services.silence_s
        record = pipeline.records.latest()[-1]
        assert record.hosted_s >= record.hosted_before_s

    run_virtual(main())
