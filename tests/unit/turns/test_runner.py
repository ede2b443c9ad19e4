import asyncio
from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say, think
from tests.support.turns import ME, Pipeline, RecordingSink, body

from hotloop.errors import InvalidRequest, MissingParameter, ModelNotFound, PreviousResponseNotFound
from hotloop.seams.engine import EndReason
from hotloop.turns.turn_request import RunningTurn


async def test_a_turn_is_created_in_progress_output_and_one_end() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: think("hm", say("hello")))), RecordingSink()
    outcome = await pipeline.run(sink, input="hi")
    final = check_response_events(sink.events)
    assert final == body(outcome)
    assert final["status"] == "completed"
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["output"][1]["content"][0]["text"] == "hello"
    assert final["temperature"] == 0.5
    assert pipeline.prompt == "<sys><end><user>hi<end><reply>"


async def test_created_and_in_progress_leave_before_anything_is_rendered() -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    seen: list[int] = []
    render = pipeline.format.begin
    pipeline.format.begin = lambda context: seen.append(len(sink.sent)) or render(context)  # type: ignore[method-assign, func-returns-value]
    await pipeline.run(sink, input="hi")
    assert seen == [2]


async def test_usage_is_the_engines_own() -> None:
    outcome = await Pipeline(ToyEngine(lambda prompt: think("hm", say("ok")))).run(input="hi")
    usage = body(outcome)["usage"]
    assert usage["input_tokens"] == len(["sys", "end", "user", "h", "i", "end", "reply"])
    assert usage["output_tokens"] == len(["think", "h", "m", "text", "o", "k", "end"])
    assert usage["output_tokens_details"]["reasoning_tokens"] == 2


async def test_a_lane_is_named_in_every_event() -> None:
    sink = RecordingSink()
    await Pipeline().run(sink, lane="a", input="hi")
    check_response_events(sink.events, lane="a")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model": None, "input": "x"}, MissingParameter),
        ({"model": "gone", "input": "x"}, ModelNotFound),
        ({"input": 7}, InvalidRequest),
        ({"input": "x", "tools": 7}, InvalidRequest),
        ({"input": "x", "tool_choice": "required"}, InvalidRequest),
        ({"input": "x", "previous_response_id": "gone"}, PreviousResponseNotFound),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, InvalidRequest),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]}, InvalidRequest),
    ],
)
async def test_a_refusal_before_admission_pushes_nothing(fields: dict[str, Any], kind: type[Exception]) -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    outcome = await pipeline.run(sink, **fields)
    assert isinstance(outcome.error, kind)
    assert outcome.is_refused
    assert sink.sent == []
    assert pipeline.engine.handles == []
    (record,) = pipeline.records.latest()
    assert record.outcome == f"refused:{outcome.error.code}"


async def test_a_context_that_is_too_long_fails_after_created() -> None:
    pipeline, sink = Pipeline(ToyEngine(context_tokens=10)), RecordingSink()
    outcome = await pipeline.run(sink, input="a long question")
    final = check_response_events(sink.events)
    assert final["error"]["code"] == "context_length_exceeded"
    assert final["error"]["param"] == "input"
    assert outcome.error is not None
    assert not outcome.is_refused
    assert pipeline.engine.handles == []


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (EndReason.UNAVAILABLE, "engine_unavailable"),
        (EndReason.TIMEOUT, "engine_timeout"),
        (EndReason.CONSTRAINT, "schema_too_complex"),
        (EndReason.ABORTED, "engine_unavailable"),  # by the engine itself, not by us
    ],
)
async def test_an_engine_that_fails_ends_in_response_failed(reason: EndReason, code: str) -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    pipeline.engine.fails_with = reason
    outcome = await pipeline.run(sink, input="hi")
    assert check_response_events(sink.events)["error"]["code"] == code
    assert outcome.error is not None
    assert pipeline.engine.open_handles == 0
    kept = await pipeline.store.get(ME, body(outcome)["id"])
    assert kept is not None
    assert (kept.body, kept.continuable) == (outcome.body, False)


async def test_an_unstored_turn_that_fails_leaves_nothing() -> None:
    pipeline = Pipeline()
    pipeline.engine.fails_with = EndReason.UNAVAILABLE
    outcome = await pipeline.run(input="hi", store=False)
    assert await pipeline.store.get(ME, body(outcome)["id"]) is None


async def test_a_failure_in_the_middle_closes_the_open_item_first() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("a long answer"))), RecordingSink()
    pipeline.engine.fails_after = 2
    await pipeline.run(sink, input="hi")
    final = check_response_events(sink.events)
    assert final["status"] == "failed"
    assert final["output"][0]["status"] == "incomplete"
    assert final["usage"]["output_tokens"] == 6


async def test_a_fault_in_reading_the_output_fails_the_turn_and_not_the_engine() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("fine!")), parser_fault="!"), RecordingSink()
    await pipeline.run(sink, input="hi")
    assert check_response_events(sink.events)["error"]["code"] == "server_error"
    assert pipeline.engine.runs[0].is_over
    assert pipeline.engine.open_handles == 0


async def test_a_fault_while_rendering_is_ours_and_names_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    monkeypatch.setattr(pipeline.format, "begin", None)
    outcome = await pipeline.run(sink, input="hi")
    final = check_response_events(sink.events)
    assert final["error"]["code"] == "server_error"
    assert final["id"] in final["error"]["message"]
    assert outcome.error is not None


async def test_a_fault_before_admission_is_refused_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    monkeypatch.setattr(pipeline.chains, "find", None)
    outcome = await pipeline.run(sink, input="hi", previous_response_id="resp_1")
    assert outcome.error is not None
    assert (outcome.error.code, sink.sent) == ("server_error", [])


async def test_the_token_limit_cuts_the_item_and_the_response_but_not_the_chain() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("a long answer"))), RecordingSink()
    outcome = await pipeline.run(sink, input="hi", max_output_tokens=4)
    final = check_response_events(sink.events)
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["output"][0]["content"][0]["text"] == "a l"
    assert outcome.error is None
    again = await pipeline.run(input="go on", previous_response_id=final["id"])
    assert body(again)["status"] == "completed"
    assert pipeline.prompt == "<sys><end><user>hi<end><reply><text>a l<end><user>go on<end><reply>"


async def test_a_turn_that_takes_too_long_fails_and_stops_the_engine() -> None:
    pipeline, sink = Pipeline(turn_timeout_s=0.01), RecordingSink()
    pipeline.engine.pause()
    await pipeline.run(sink, input="hi")
    assert check_response_events(sink.events)["error"]["code"] == "engine_timeout"
    await asyncio.wait_for(pipeline.engine.runs[0].over.wait(), timeout=60)
    assert pipeline.engine.open_handles == 0


async def test_a_turn_that_is_not_stored_is_over_in_the_engines_own_call() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("ok"), step=100)), RecordingSink()
    pipeline.engine.pause()
    running = asyncio.create_task(pipeline.run(sink, input="hi", store=False))
    for _ in range(10):  # ticks, more than it takes to submit
        await asyncio.sleep(0)
    pipeline.engine.advance(3)
    assert sink.types[-1] == "completed", "no tick of the loop lies between the engine's end and the terminal event"
    assert body(await running)["status"] == "completed"


@pytest.mark.parametrize("flag", [None, {"a rule": "zzz"}], ids=["no rules", "rules"])
async def test_what_a_step_gives_leaves_in_the_engines_own_call(flag: dict[str, str] | None) -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("an answer"), step=1), flag=flag), RecordingSink()
    pipeline.engine.pause()
    running = asyncio.create_task(pipeline.run(sink, input="hi", store=False))
    for _ in range(10):  # ticks, more than it takes to submit
        await asyncio.sleep(0)
    tasks, grown = asyncio.all_tasks(), list[int]()
    for _ in range(20):  # more than it takes; no tick of the loop from here on
        before = sink.types.count("output_text.delta")
        pipeline.engine.advance()
        grown.append(sink.types.count("output_text.delta") - before)
        assert asyncio.all_tasks() == tasks, "and no task"
    assert [number for number in grown if number] == [1] * len("an answer")
    assert body(await running)["status"] == "completed"


async def test_a_fault_at_the_end_does_not_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **more: object) -> None:
        raise RuntimeError("a bug")

    pipeline, sink = Pipeline(), RecordingSink()
    monkeypatch.setattr("hotloop.turns.ending.TurnEnding._last_events", broken)
    outcome = await pipeline.run(sink, input="hi", store=False)
    assert (sink.types[-1], outcome.error is not None) == ("failed", True)
    assert all(run.is_over for run in pipeline.engine.runs)


async def test_a_client_that_does_not_read_has_its_text_kept_and_not_its_events() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("a long answer"), step=1)), RecordingSink()
    pipeline.engine.pause()
    running: list[RunningTurn] = []
    turn = pipeline.turn(input="hi", store=False)
    turn.on_created = running.append
    task = asyncio.create_task(pipeline.runner.run(turn, sink))
    for _ in range(10):
        await asyncio.sleep(0)
    pipeline.engine.advance(3)
    sink.is_paused = True
    before = len(sink.sent)
    pipeline.engine.advance(4)
    assert len(sink.sent) == before
    sink.is_paused = False
    running[0].resume()
    running[0].resume()
    assert sink.types[before:] == ["output_text.delta"]
    sink.is_paused = True
    pipeline.engine.advance(20)  # to the end: nothing waits any longer
    response = body(await task)
    assert check_response_events(sink.events) == response
    deltas = [event["delta"] for event in sink.events if event["type"].endswith("output_text.delta")]
    assert "".join(deltas) == "a long answer" == response["output"][0]["content"][0]["text"]
    assert len(deltas) < len("a long answer")


async def test_text_that_was_held_back_goes_with_the_item_that_is_taken_back() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("a long answer"), step=1)), RecordingSink()
    pipeline.engine.pause()
    running: list[RunningTurn] = []
    turn = pipeline.turn(input="hi", store=False)
    turn.on_created = running.append
    task = asyncio.create_task(pipeline.runner.run(turn, sink))
    for _ in range(10):
        await asyncio.sleep(0)
    pipeline.engine.advance(3)
    sink.is_paused = True
    pipeline.engine.advance(3)
    running[0].interrupt()
    running[0].resume()
    pipeline.engine.resume()
    response = body(await task)
    assert (response["status"], response["output"]) == ("incomplete", [])
    assert sink.types[-1] == "incomplete"
