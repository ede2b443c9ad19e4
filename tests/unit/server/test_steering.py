"""Interrupts and steering on a connection."""

from typing import Any

import pytest
from tests.support.event_order import check_response_events, split_responses
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import call, say, think
from tests.support.turns import Pipeline, written
from tests.support.websocket_door import Server


async def test_an_interrupt_overtakes_what_waits_and_the_response_is_continued() -> None:
    server = Server(Pipeline(ToyEngine(lambda prompt: say("a long answer"), step=1)))
    server.engine.pause()
    peer = await server.connect()
    peer.create(store=False, stream_id="a")
    events = await peer.until("response.in_progress")
    await server.next_run()
    server.engine.advance(4)
    peer.create(store=False, stream_id="a", input="waits")
    peer.say(type="response.interrupt", response_id=events[0]["response"]["id"], mode="discard_partial_items")
    events += await peer.until("response.output_item.interrupted")
    server.engine.resume()
    events += await peer.until("response.incomplete")
    final = check_response_events(events, lane="a")
    assert final["output"] == []
    check_response_events(await peer.until("response.completed"), lane="a")
    check_response_events(await peer.turn(store=False, stream_id="a", previous_response_id=final["id"]), lane="a")
    assert server.pipeline.prompt == "<sys><end><user>hi<end><user>hi<end><reply>"
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_an_interrupt_of_an_unknown_response_fails_by_its_own_event() -> None:
    peer = await Server().connect()
    peer.say(type="response.interrupt", response_id="resp_gone")
    event = await peer.event()
    assert (event["type"], event["response_id"]) == ("response.interrupt.failed", "resp_gone")
    assert event["error"]["code"] == "response_not_found"
    peer.say(type="response.interrupt", response_id="resp_gone", mode="keep_everything")
    assert (await peer.event())["error"]["code"] == "unsupported_value"
    peer.say(type="response.interrupt")
    assert (await peer.event())["error"]["code"] == "missing_required_parameter"
    peer.leave()
    await peer.gone()


async def test_an_interrupt_of_a_response_that_has_ended_is_ignored() -> None:
    peer = await Server().connect()
    first = check_response_events(await peer.turn(store=False))
    peer.say(type="response.interrupt", response_id=first["id"])
    check_response_events(await peer.turn(store=False, previous_response_id=first["id"]))
    peer.leave()
    await peer.gone()


async def test_a_steered_response_ends_and_its_successor_starts_by_itself_before_what_waits() -> None:
    server = Server(Pipeline(ToyEngine(lambda prompt: think("hm", say("a long answer")), step=1)))
    server.engine.pause()
    peer = await server.connect()
    peer.create(store=False, stream_id="a", temperature=0.25)
    events = await peer.until("response.in_progress")
    await server.next_run()
    server.engine.advance(2)
    peer.create(store=False, stream_id="a", input="waits")
    target = events[0]["response"]["id"]
    peer.say(type="response.steer", previous_response_id=target, input="shorter")
    peer.say(type="response.steer", previous_response_id=target, input=[{"role": "user", "content": "please"}])
    events += await peer.until("response.steer.accepted")
    events += await peer.until("response.steer.accepted")
    server.engine.advance(3)
    events += await peer.until("response.in_progress")
    await server.next_run()
    server.engine.resume()
    for _ in range(2):
        events += await peer.until("response.completed")
    steered, successor, waited = (check_response_events(part, lane="a") for part in split_responses(events))
    assert steered["incomplete_details"] == {"reason": "steered"}
    assert [item["type"] for item in steered["output"]] == ["reasoning"]
    assert (successor["previous_response_id"], successor["temperature"]) == (target, 0.25)
    assert waited["previous_response_id"] is None
    prompts = [written(run.prompt) for run in server.engine.runs]
    assert prompts[1] == "<sys><end><user>hi<end><reply><think>hm<end><user>shorter<end><user>please<end><reply>"
    assert prompts[2].startswith("<sys><end><user>waits<end>")
    assert server.engine.runs[1].keep == len("susEhiEr") + len("thm") - 1, "the successor reuses the KV"
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_a_steer_of_a_response_with_a_call_waits_for_its_output() -> None:
    server = Server(Pipeline(ToyEngine(lambda prompt: call("run", "{}") if len(prompt) < 9 else say("ok"))))
    server.engine.pause()
    peer = await server.connect()
    peer.create(store=False, tools=[{"type": "function", "name": "x"}])
    events = await peer.until("response.in_progress")
    await server.next_run()
    target = events[0]["response"]["id"]
    server.engine.advance(2)
    peer.say(type="response.steer", previous_response_id=target, input="and then stop")
    events += await peer.until("response.steer.accepted")
    server.engine.resume()
    events += await peer.until("response.steer.pending")
    final = check_response_events(events)
    (stub,) = events[-1]["required_input"]
    assert stub == {"type": "function_call_output", "call_id": final["output"][0]["call_id"], "name": "run"}
    check_response_events(await peer.turn(store=False, previous_response_id=target, input=[{**stub, "output": "done"}]))
    assert server.pipeline.prompt.endswith("<user>and then stop<end><result>done<end><reply>")
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_a_steered_response_that_is_completed_first_has_a_successor_too() -> None:
    server = Server()
    server.engine.pause()
    peer = await server.connect()
    peer.create(store=False)
    events = await peer.until("response.in_progress")
    await server.next_run()
    server.engine.advance()
    peer.say(type="response.steer", previous_response_id=events[0]["response"]["id"], input="go on")
    events += await peer.until("response.steer.accepted")
    server.engine.resume()
    events += await peer.until("response.completed")
    events += await peer.until("response.completed")
    first, second = (check_response_events(part) for part in split_responses(events))
    assert second["previous_response_id"] == first["id"]
    assert server.pipeline.prompt.endswith("<text>ok<end><user>go on<end><reply>")
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"previous_response_id": "resp_gone", "input": "x"}, "response_not_found"),
        ({"input": "x"}, "invalid_input"),
    ],
)
async def test_a_steer_that_reaches_nothing_fails_by_its_own_event(fields: dict[str, Any], code: str) -> None:
    peer = await Server().connect()
    peer.say(type="response.steer", **fields)
    event = await peer.event()
    assert (event["type"], event["error"]["code"], event["steer"]["input"]) == ("response.steer.failed", code, "x")
    check_response_events(await peer.turn())
    peer.leave()
    await peer.gone()


async def test_an_injection_is_declined_by_its_own_event() -> None:
    peer = await Server().connect()
    peer.say(type="response.inject", response_id="resp_1", input=[])
    event = await peer.event()
    assert (event["type"], event["error"]["code"]) == ("response.inject.failed", "response_not_found")
    peer.leave()
    await peer.gone()
