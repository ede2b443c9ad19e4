"""What a safety policy does to a turn."""

from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say
from tests.support.turns import Pipeline, RecordingSink, body


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
