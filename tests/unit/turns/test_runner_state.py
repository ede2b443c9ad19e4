"""What a turn leaves behind, and what the next one finds."""

import asyncio
from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine, ToyRun
from tests.support.toy_format import call, say
from tests.support.turns import ME, BrokenStore, Pipeline, RecordingSink, body, ledger_outcomes

from hotloop.errors import InvalidRequest, PreviousResponseNotFound
from hotloop.seams.engine import EndReason
from hotloop.session.principal import Principal, Tenant
from hotloop.turns.turn_request import TurnOutcome

TOOL = {"type": "function", "name": "run", "parameters": {"type": "object"}}


async def started(pipeline: Pipeline, task: "asyncio.Task[TurnOutcome]") -> ToyRun:
    """The run that `task` submits."""
    await asyncio.wait_for(pipeline.engine.has_run.wait(), timeout=60)
    pipeline.engine.has_run.clear()
    return pipeline.engine.runs[-1]


async def test_a_continuation_sends_only_what_is_new() -> None:
    pipeline = Pipeline()
    first = await pipeline.run(input="hi", store=False)
    second = await pipeline.run(input="more", store=False, previous_response_id=body(first)["id"])
    assert body(second)["usage"]["input_tokens_details"]["cached_tokens"] == len("<>") + len("<hi>") + len("<<ok")
    assert pipeline.prompt == "<sys><end><user>hi<end><reply><text>ok<end><user>more<end><reply>"
    assert len(pipeline.engine.handles) == 1
    assert pipeline.records.latest()[-1].fallbacks == ()


async def test_a_tool_call_is_continued_by_its_output_only() -> None:
    pipeline = Pipeline(ToyEngine(lambda prompt: call("run", "{}")))
    first = body(await pipeline.run(input="hi", tools=[TOOL]))
    call_id = first["output"][0]["call_id"]
    refused = await pipeline.run(input="no output", previous_response_id=first["id"], tools=[TOOL])
    assert isinstance(refused.error, InvalidRequest)

    def done(prompt: list[int]) -> list[int]:
        return say("done")

    pipeline.engine.reply = done
    output = {"type": "function_call_output", "call_id": call_id, "output": "ok"}
    second = body(await pipeline.run(input=[output], previous_response_id=first["id"], tools=[TOOL]))
    assert second["output"][0]["content"][0]["text"] == "done"
    assert second["previous_response_id"] == first["id"]


async def test_the_runner_itself_never_evicts_the_parent() -> None:
    pipeline = Pipeline()
    first = body(await pipeline.run(input="hi", store=False))["id"]
    pipeline.engine.fails_with = EndReason.UNAVAILABLE
    failed = body(await pipeline.run(input="x", store=False, previous_response_id=first))
    assert failed["status"] == "failed"
    pipeline.engine.fails_with = None
    assert body(await pipeline.run(input="y", store=False, previous_response_id=first))["status"] == "completed"
    assert pipeline.prompt.endswith("<reply><text>ok<end><user>y<end><reply>")


async def test_a_failed_response_is_no_parent() -> None:
    pipeline = Pipeline()
    pipeline.engine.fails_with = EndReason.UNAVAILABLE
    failed = body(await pipeline.run(input="x"))["id"]
    pipeline.engine.fails_with = None
    outcome = await pipeline.run(input="y", previous_response_id=failed)
    assert isinstance(outcome.error, PreviousResponseNotFound)


async def test_a_stored_response_is_shown_and_continued_without_its_connection() -> None:
    pipeline = Pipeline()
    first = await pipeline.run(input="hi", connection=1)
    response_id = body(first)["id"]
    stored = await pipeline.store.get(ME, response_id)
    assert stored is not None
    assert stored.body == first.body
    pipeline.services.prefixes.clear()
    pipeline.chains.evict(ME, None, response_id)
    again = await pipeline.run(input="more", connection=None, previous_response_id=response_id)
    assert body(again)["status"] == "completed"
    assert pipeline.prompt == "<sys><end><user>hi<end><reply><text>ok<end><user>more<end><reply>"
    assert pipeline.records.latest()[-1].fallbacks == ("state_not_kept",)
    assert await pipeline.store.get(Principal(Tenant("other")), response_id) is None


async def test_an_unstored_response_is_nowhere_but_on_its_connection() -> None:
    pipeline = Pipeline()
    response_id = body(await pipeline.run(input="hi", store=False, connection=1))["id"]
    assert await pipeline.store.get(ME, response_id) is None
    for connection in (2, None):
        outcome = await pipeline.run(input="x", connection=connection, previous_response_id=response_id)
        assert isinstance(outcome.error, PreviousResponseNotFound)


async def test_an_unstored_response_over_http_leaves_only_a_history_to_be_recognised() -> None:
    pipeline = Pipeline()
    await pipeline.run(input="hi", store=False, connection=None)
    assert (len(pipeline.chains), len(pipeline.services.prefixes)) == (0, 2)
    pipeline.services.prefixes.clear()
    assert pipeline.engine.open_handles == 0


async def test_what_cannot_be_stored_fails_and_is_no_parent() -> None:
    pipeline, sink = Pipeline(store=BrokenStore()), RecordingSink()
    outcome = await pipeline.run(sink, input="hi")
    final = check_response_events(sink.events)
    assert final["error"]["code"] == "storage_unavailable"
    assert outcome.error is not None
    assert (len(pipeline.chains), pipeline.engine.open_handles) == (0, 0)
    assert ledger_outcomes(pipeline) == ["failed"]


async def test_a_store_that_fails_leaves_no_gap_behind_the_timing_event() -> None:
    pipeline, sink = Pipeline(store=BrokenStore()), RecordingSink()
    await pipeline.runner.run(pipeline.turn(input="hi", wants_timing=True), sink)
    check_response_events(sink.events)
    assert sink.types.count("hotloop:timing") == 1


async def test_a_warm_up_prefills_and_can_be_continued() -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    warm = body(
        await pipeline.run(sink, input=[{"role": "developer", "content": "rules"}], generate=False, store=False)
    )
    assert sink.types == ["created", "in_progress", "completed"]
    assert warm["output"] == []
    assert warm["usage"]["output_tokens"] == 0
    assert warm["usage"]["input_tokens"] == len(pipeline.engine.runs[0].prompt)
    assert pipeline.engine.runs[0].sampling.max_tokens == 0
    first = body(await pipeline.run(input="hi", store=False, previous_response_id=warm["id"]))
    assert first["usage"]["input_tokens_details"]["cached_tokens"] > 0
    assert pipeline.prompt == "<sys><end><user>rules<end><user>hi<end><reply>"


async def test_a_warm_up_without_input_is_a_parent_too() -> None:
    pipeline = Pipeline()
    warm = body(await pipeline.run(input=[], generate=False, store=False))
    assert body(await pipeline.run(input="hi", store=False, previous_response_id=warm["id"]))["status"] == "completed"


# --- leaving early ---


@pytest.mark.parametrize("has_parent", [False, True])
async def test_a_cancelled_turn_leaves_nothing_behind(has_parent: bool) -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    fields: dict[str, Any] = {"store": False}
    if has_parent:
        fields["previous_response_id"] = body(await pipeline.run(input="hi", store=False))["id"]
        pipeline.engine.has_run.clear()
    handles, entries = pipeline.engine.open_handles, len(pipeline.chains)
    pipeline.engine.pause()
    task = asyncio.create_task(pipeline.run(sink, input="x", **fields))
    run = await started(pipeline, task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(run.over.wait(), timeout=60)
    assert (pipeline.engine.open_handles, len(pipeline.chains)) == (handles, entries)
    assert ledger_outcomes(pipeline)[-1] == "cancelled"
    assert pipeline.records.latest()[-1].outcome == "cancelled"
    pipeline.chains.drop_connection(1)
    pipeline.services.prefixes.clear()
    assert pipeline.engine.open_handles == 0, "a pin was left"


async def test_the_parent_goes_on_after_a_cancelled_child() -> None:
    pipeline = Pipeline()
    parent = body(await pipeline.run(input="hi", store=False))["id"]
    pipeline.engine.has_run.clear()
    pipeline.engine.pause()
    task = asyncio.create_task(pipeline.run(input="x", store=False, previous_response_id=parent))
    run = await started(pipeline, task)
    task.cancel()
    await asyncio.wait_for(run.over.wait(), timeout=60)
    pipeline.engine.resume()
    await pipeline.run(input="y", store=False, previous_response_id=parent)
    assert pipeline.prompt == "<sys><end><user>hi<end><reply><text>ok<end><user>y<end><reply>"
    assert pipeline.records.latest()[-1].fallbacks == ()


async def test_a_client_that_is_gone_stops_the_engine_and_makes_no_parent() -> None:
    pipeline = Pipeline(ToyEngine(lambda prompt: say("a very long answer indeed")))
    sink = RecordingSink(closes_after=5)
    await pipeline.run(sink, input="hi", store=False)
    assert pipeline.engine.runs[0].is_aborted
    assert pipeline.records.latest()[0].outcome == "cancelled"
    assert (len(pipeline.chains), pipeline.engine.open_handles) == (0, 0)
    assert ledger_outcomes(pipeline) == ["cancelled"]
