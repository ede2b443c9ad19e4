import asyncio
from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine, ToyRun
from tests.support.toy_format import call, say, think
from tests.support.turns import ME, Pipeline, RecordingSink, body

from hotloop.errors import InvalidRequest, MissingParameter, ModelNotFound, PreviousResponseNotFound, StorageUnavailable
from hotloop.seams.engine import EndReason
from hotloop.seams.store import Addition, StoredResponse
from hotloop.session.principal import Principal, Tenant
from hotloop.storage.memory import MemoryStore
from hotloop.turns.turn_request import RunningTurn, TurnOutcome

TOOL = {"type": "function", "name": "run", "parameters": {"type": "object"}}


class BrokenStore(MemoryStore):
    """A store whose disk is full."""

    async def put(self, principal: Principal, response: StoredResponse, addition: Addition | None = None) -> None:
        raise StorageUnavailable("The disk is full.")


async def started(pipeline: Pipeline, task: "asyncio.Task[TurnOutcome]") -> ToyRun:
    """The run that `task` submits."""
    await asyncio.wait_for(pipeline.engine.has_run.wait(), timeout=5)
    pipeline.engine.has_run.clear()
    return pipeline.engine.runs[-1]


def ledger_outcomes(pipeline: Pipeline) -> list[str]:
    return [row.ended.outcome if row.ended is not None else "running" for row in pipeline.ledger.rows()]


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
    await asyncio.wait_for(pipeline.engine.runs[0].over.wait(), timeout=5)
    assert pipeline.engine.open_handles == 0


# --- safety ---


async def test_input_that_is_blocked_fails_before_the_engine_sees_it() -> None:
    pipeline, sink = Pipeline(block={"bomb": "bomb"}), RecordingSink()
    await pipeline.run(sink, input=[{"role": "user", "content": "fine"}, {"role": "user", "content": "a bomb"}])
    final = check_response_events(sink.events)
    assert (final["error"]["code"], final["error"]["param"]) == ("content_policy_violation", "input[1]")
    assert pipeline.engine.handles == []
    assert list(pipeline.records.latest()[0].findings) == ["bomb"]


async def test_output_blocked_in_the_middle_ends_incomplete_and_nothing_of_it_leaves() -> None:
    pipeline, sink = (
        Pipeline(ToyEngine(lambda prompt: say("now the bomb goes")), block={"bomb": "bomb"}),
        RecordingSink(),
    )
    outcome = await pipeline.run(sink, input="hi")
    final = check_response_events(sink.events)
    assert final["incomplete_details"] == {"reason": "content_filter"}
    text = final["output"][0]["content"][0]["text"]
    assert "now the bomb".startswith(text)
    assert "bomb" not in text
    assert outcome.error is None


async def test_the_next_turn_sees_what_was_released_not_what_was_blocked() -> None:
    pipeline = Pipeline(ToyEngine(lambda prompt: say("now the bomb goes")), block={"bomb": "bomb"})
    outcome = await pipeline.run(input="hi")
    await pipeline.run(input="and?", previous_response_id=body(outcome)["id"])
    assert "bomb" not in pipeline.prompt
    assert pipeline.records.latest()[-1].fallbacks == ("state_not_kept",)


async def test_output_blocked_before_any_text_fails() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("bomb"), step=100), block={"bomb": "bomb"}), RecordingSink()
    outcome = await pipeline.run(sink, input="hi")
    assert check_response_events(sink.events)["error"]["code"] == "content_policy_violation"
    assert outcome.error is not None


async def test_flagged_output_passes_and_is_written_down() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("a bomb")), flag={"bomb": "bomb"}), RecordingSink()
    await pipeline.run(sink, input="hi")
    assert check_response_events(sink.events)["status"] == "completed"
    assert list(pipeline.records.latest()[0].findings) == ["bomb"]


# --- state ---


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
    await asyncio.wait_for(run.over.wait(), timeout=5)
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
    await asyncio.wait_for(run.over.wait(), timeout=5)
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


# --- the record ---


async def test_stamps_never_run_backwards() -> None:
    pipeline = Pipeline()
    await pipeline.run(input="hi")
    (record,) = pipeline.records.latest()
    stamps = [
        record.received,
        record.admitted,
        record.rendered,
        record.submitted,
        record.first_token,
        record.last_token,
        record.committed,
        record.flushed,
    ]
    assert stamps == sorted(stamps)
    assert all(stamps)
    assert (record.outcome, record.model, record.new_items) == ("completed", "toy", 1)
    assert record.bytes_out > 0


async def test_each_turn_has_one_ledger_row_with_the_engines_counts() -> None:
    pipeline = Pipeline()
    first = body(await pipeline.run(input="hi"))
    (row,) = pipeline.ledger.rows()
    assert row.started.response_id == first["id"]
    assert row.ended is not None
    assert row.ended.outcome == "completed"
    assert row.ended.output_tokens == first["usage"]["output_tokens"]
    await pipeline.run(input="hi", max_output_tokens=1)
    assert ledger_outcomes(pipeline) == ["completed", "incomplete"]


async def test_the_attempt_is_noted_before_the_engine_is_asked() -> None:
    pipeline = Pipeline()

    def count_rows(prompt: list[int]) -> list[int]:
        return say(str(len(pipeline.ledger.rows())))

    pipeline.engine.reply = count_rows
    assert body(await pipeline.run(input="hi"))["output"][0]["content"][0]["text"] == "1"


async def test_the_timing_event_comes_just_before_the_end_if_it_was_asked_for() -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    first = body(await pipeline.run(input="hi"))["id"]
    turn = pipeline.turn(input="x", previous_response_id=first, instructions="new", wants_timing=True)
    await pipeline.runner.run(turn, sink)
    check_response_events(sink.events)
    assert sink.types[-2:] == ["hotloop:timing", "completed"]
    timing = sink.events[-2]
    assert set(timing["stamps"]) == {"admitted", "rendered", "submitted", "first_token", "last_token", "committed"}
    assert timing["fallbacks"] == ["context_changed"]
    assert timing["output_tokens"] == 4


async def test_a_failed_turn_tells_its_timing_too() -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    pipeline.engine.fails_with = EndReason.TIMEOUT
    await pipeline.runner.run(pipeline.turn(input="x", wants_timing=True), sink)
    check_response_events(sink.events)
    assert sink.types[-2:] == ["hotloop:timing", "failed"]


async def test_logprobs_come_with_the_text_they_belong_to() -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    await pipeline.run(sink, input="hi", include=["message.output_text.logprobs"], top_logprobs=1)
    part = check_response_events(sink.events)["output"][0]["content"][0]
    assert [entry["token"] for entry in part["logprobs"]] == ["o", "k"]
    assert part["logprobs"][0]["top_logprobs"] == [{"token": "A", "logprob": -65.0, "bytes": [65]}]


async def test_without_the_include_there_are_no_logprobs() -> None:
    pipeline = Pipeline()
    final = body(await pipeline.run(input="hi", top_logprobs=5))
    assert final["output"][0]["content"][0]["logprobs"] == []
    assert pipeline.engine.runs[0].sampling.top_logprobs is None


async def test_what_was_asked_of_sampling_reaches_the_engine() -> None:
    pipeline = Pipeline()
    await pipeline.run(input="hi", temperature=0.1, top_p=0.2, presence_penalty=0.3, frequency_penalty=0.4, seed=5)
    sampling = pipeline.engine.runs[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.presence_penalty) == (0.1, 0.2, 0.3)
    assert (sampling.frequency_penalty, sampling.seed) == (0.4, 5)


async def test_the_door_is_told_the_id_before_the_first_event() -> None:
    pipeline, sink = Pipeline(), RecordingSink()
    told: list[tuple[str, int]] = []
    turn = pipeline.turn(input="hi")
    turn.on_created = lambda running: told.append((running.response_id, len(sink.sent)))
    outcome = await pipeline.runner.run(turn, sink)
    assert told == [(body(outcome)["id"], 0)]


async def test_a_turn_that_is_not_stored_is_over_in_the_engines_own_call() -> None:
    pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("ok"), step=100)), RecordingSink()
    pipeline.engine.pause()
    running = asyncio.create_task(pipeline.run(sink, input="hi", store=False))
    for _ in range(10):  # ticks, more than it takes to submit
        await asyncio.sleep(0)
    pipeline.engine.advance(3)
    assert sink.types[-1] == "completed", "no tick of the loop lies between the engine's end and the terminal event"
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
