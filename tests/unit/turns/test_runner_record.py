"""What is told of a turn beside its events: stamps, ledger, timing, log-probabilities."""

from tests.support.event_order import check_response_events
from tests.support.toy_format import say
from tests.support.turns import Pipeline, RecordingSink, body, ledger_outcomes

from hotloop.seams.engine import EndReason


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
    response = check_response_events(sink.events)
    assert sink.types[-2:] == ["hotloop:timing", "failed"]
    assert pipeline.records.latest()[-1].outcome == f"failed:{response['error']['code']}"


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
