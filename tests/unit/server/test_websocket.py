import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.support.asgi_client import WebSocketPeer
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say
from tests.support.turns import Pipeline
from tests.support.virtual_time import run_virtual
from tests.support.websocket_door import Server

from hotloop.seams.sink import Sink
from hotloop.server import websocket
from hotloop.turns.runner import TurnRunner
from hotloop.turns.turn import Turn
from hotloop.turns.turn_request import TurnOutcome, TurnRequest


async def test_turns_follow_one_another_and_the_chain_is_continued() -> None:
    server = Server()
    peer = await server.connect()
    first = check_response_events(await peer.turn(store=False))
    second = check_response_events(await peer.turn(store=False, previous_response_id=first["id"]))
    assert second["usage"]["input_tokens_details"]["cached_tokens"] > 0
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_events_of_two_lanes_carry_their_names() -> None:
    server = Server()
    peer = await server.connect()
    peer.create(stream_id="a")
    peer.create(stream_id="b")
    events: list[dict[str, Any]] = []
    while sum(event["type"] == "response.completed" for event in events) < 2:
        events.append(await peer.event())
    for lane in ("a", "b"):
        check_response_events([event for event in events if event["stream_id"] == lane], lane=lane)
    peer.leave()
    await peer.gone()


@pytest.mark.parametrize(
    ("message", "code", "param", "lane"),
    [
        ("nonsense", "invalid_json", None, None),
        ("[]", "invalid_request", "type", None),
        ('{"type":"response.append"}', "invalid_request", "type", None),
        (b"\x00", "invalid_request", "type", None),
        ('{"type":"response.create","input":"x"}', "missing_required_parameter", "model", None),
        ('{"type":"response.create","model":"gone","input":"x"}', "model_not_found", "model", None),
        ('{"type":"response.create","model":"toy","store":7,"stream_id":"a"}', "invalid_type", "store", "a"),
        ('{"type":"response.create","model":"toy","input":7,"stream_id":"a"}', "invalid_type", "input", "a"),
        ('{"type":"response.create","model":"toy","stream_id":""}', "invalid_stream_id", "stream_id", None),
        ('{"type":"response.create","model":"toy","background":true}', "unsupported_parameter", "background", None),
        (
            '{"type":"response.create","model":"toy","previous_response_id":"gone"}',
            "previous_response_not_found",
            "previous_response_id",
            None,
        ),
    ],
)
async def test_a_bad_message_is_one_error_event_and_the_connection_lives(
    message: str | bytes, code: str, param: str | None, lane: str | None
) -> None:
    peer = await Server().connect()
    peer.say_raw(message)
    event = await peer.event()
    assert event["type"] == "error"
    assert (event["error"]["code"], event["error"]["param"], event.get("stream_id")) == (code, param, lane)
    assert event["status"] in (400, 404)
    check_response_events(await peer.turn())
    peer.leave()
    await peer.gone()


async def test_an_acknowledgement_is_ignored() -> None:
    peer = await Server().connect()
    peer.say(type="response.processed", response_id="resp_1")
    check_response_events(await peer.turn())
    peer.leave()
    await peer.gone()


async def test_a_handshake_without_the_key_is_refused_by_its_status() -> None:
    peer = WebSocketPeer(Server(api_key="secret").door)
    start, body = await peer.message(), await peer.message()
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert json.loads(body["body"])["error"]["code"] == "invalid_api_key"
    await peer.gone()


async def test_a_failed_continuation_evicts_its_parent() -> None:
    server = Server()
    peer = await server.connect()
    first = check_response_events(await peer.turn(store=False))["id"]
    bad = [{"type": "function_call_output", "call_id": "unknown", "output": ""}]
    (refused,) = await peer.turn(store=False, previous_response_id=first, input=bad)
    assert refused["error"]["code"] == "invalid_value"
    (gone,) = await peer.turn(store=False, previous_response_id=first)
    assert gone["error"]["code"] == "previous_response_not_found"
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_a_failed_fork_leaves_its_parent() -> None:
    peer = await Server().connect()
    first = check_response_events(await peer.turn(store=False, stream_id="a"), lane="a")["id"]
    bad = [{"type": "function_call_output", "call_id": "unknown", "output": ""}]
    (refused,) = await peer.turn(store=False, stream_id="b", previous_response_id=first, input=bad)
    assert refused["stream_id"] == "b"
    check_response_events(await peer.turn(store=False, stream_id="a", previous_response_id=first), lane="a")
    peer.leave()
    await peer.gone()


async def test_a_create_that_names_a_running_response_binds_at_its_end() -> None:
    server = Server()
    server.engine.pause()
    peer = await server.connect()
    peer.create(store=False, stream_id="a")
    response_id = (await peer.until("response.in_progress"))[0]["response"]["id"]
    await server.next_run()
    peer.create(store=False, stream_id="b", previous_response_id=response_id, input="more")
    server.engine.resume()
    events = await peer.until("response.completed")
    events += await peer.until("response.completed")
    final = check_response_events([event for event in events if event["stream_id"] == "b"], lane="b")
    assert final["previous_response_id"] == response_id
    assert server.pipeline.prompt.endswith("<text>ok<end><user>more<end><reply>")
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_a_queued_fork_keeps_a_parent_that_fails_and_is_evicted_meanwhile() -> None:
    server = Server(running=1)
    peer = await server.connect()
    parent = check_response_events(await peer.turn(store=False))["id"]
    server.engine.has_run.clear()
    server.engine.pause()
    peer.create(store=False, previous_response_id=parent, temperature=0)
    await peer.until("response.in_progress")
    await server.next_run()
    bad = [{"type": "function_call_output", "call_id": "unknown", "output": ""}]
    peer.create(store=False, previous_response_id=parent, input=bad)  # evicts the parent
    peer.create(store=False, previous_response_id=parent, stream_id="fork")
    server.engine.resume()
    await peer.until("response.completed")
    assert (await peer.until("error"))[-1]["error"]["code"] == "invalid_value"
    check_response_events(await peer.until("response.completed"), lane="fork")
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_a_client_that_vanishes_stops_the_engine_and_frees_what_ran_and_what_waited() -> None:
    server = Server()
    peer = await server.connect()
    parent = check_response_events(await peer.turn(store=False))["id"]
    server.engine.has_run.clear()
    server.engine.pause()
    for _ in range(3):  # one runs, two wait with the parent pinned
        peer.create(store=False, previous_response_id=parent)
    await server.next_run()
    peer.leave()
    await peer.gone()
    await asyncio.wait_for(server.engine.runs[-1].over.wait(), timeout=60)
    server.check_nothing_is_left()
    assert len(server.engine.runs) == 2, "a waiting turn was started for a client that is gone"


async def test_a_turn_cut_off_before_it_began_lets_its_parent_go() -> None:
    server = Server()
    peer = await server.connect()
    parent = check_response_events(await peer.turn(store=False))["id"]
    peer.create(store=False, previous_response_id=parent)
    peer.leave()  # both are there before the turn's task gets a first step
    await peer.gone()
    server.check_nothing_is_left()


async def test_one_request_too_many_is_refused_and_its_parent_stays() -> None:
    server = Server(waiting=1)
    peer = await server.connect()
    parent = check_response_events(await peer.turn(store=False))["id"]
    server.engine.pause()
    peer.create(store=False)
    await peer.until("response.in_progress")
    peer.create(store=False)
    peer.create(store=False, previous_response_id=parent)
    refused = (await peer.until("error"))[-1]
    assert (refused["error"]["code"], refused["status"]) == ("rate_limit_exceeded", 429)
    server.engine.resume()
    await peer.until("response.completed")
    await peer.until("response.completed")
    check_response_events(await peer.turn(store=False, previous_response_id=parent))
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_a_drain_finishes_what_runs_then_closes_with_1012() -> None:
    server = Server()
    peer = await server.connect()
    server.engine.pause()
    peer.create(store=False)
    await peer.until("response.in_progress")
    await server.next_run()
    draining = asyncio.create_task(server.open.drain(timeout_s=5))
    peer.create()
    assert (await peer.event())["error"]["code"] == "server_is_overloaded"
    server.engine.resume()
    await peer.until("response.completed")
    assert await peer.message() == {"type": "websocket.close", "code": 1012}
    await peer.gone()
    await draining
    server.check_nothing_is_left()


async def test_a_drain_that_takes_too_long_drops_what_still_runs() -> None:
    server = Server()
    peer = await server.connect()
    server.engine.pause()
    peer.create(store=False)
    await peer.until("response.in_progress")
    await server.next_run()
    peer.hears.clear()  # not even the close frame gets through
    await server.open.drain(timeout_s=0.01)
    peer.hears.set()
    await peer.gone()
    await asyncio.wait_for(server.engine.runs[0].over.wait(), timeout=60)
    server.check_nothing_is_left()


async def test_a_connection_that_comes_during_a_drain_is_closed_at_once() -> None:
    server = Server()
    server.open.is_draining = True
    peer = await server.connect()
    assert await peer.message() == {"type": "websocket.close", "code": 1012}
    await peer.gone()


async def test_the_end_of_the_lifetime_is_an_error_event_and_a_close() -> None:
    server = Server(lifetime_s=0.01)
    peer = await server.connect()
    event = await peer.event()
    assert event["error"]["code"] == "websocket_connection_limit_reached"
    assert await peer.message() == {"type": "websocket.close", "code": 1001}
    await peer.gone()


async def test_a_reader_too_slow_is_closed_and_its_turn_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.01)
    server = Server(Pipeline(ToyEngine(lambda prompt: say("x" * 3000))), max_pending_bytes=20_000)
    peer = await server.connect()
    peer.hears.clear()
    peer.create(include=["message.output_text.logprobs"])  # such deltas are not kept as text
    await peer.gone()
    await asyncio.wait_for(server.engine.runs[0].over.wait(), timeout=60)
    server.check_nothing_is_left()


def test_a_send_that_never_ends_counts_as_a_reader_too_slow() -> None:
    async def main() -> None:
        server = Server()
        peer = await server.connect()
        peer.hears.clear()
        peer.create(store=False)
        await asyncio.wait_for(peer.served, 1000)
        server.check_nothing_is_left()

    run_virtual(main())


def test_a_connection_at_rest_is_not_closed_for_its_silence() -> None:
    async def main() -> None:
        server = Server()
        peer = await server.connect()
        await asyncio.sleep(3000)
        check_response_events(await peer.turn(store=False))
        peer.leave()
        await peer.gone()
        server.check_nothing_is_left()

    run_virtual(main())


async def test_a_queued_fork_of_a_running_response_is_bound_when_it_ends() -> None:
    server = Server()
    server.engine.pause()
    peer = await server.connect()
    peer.create(store=False, stream_id="a")
    target = (await peer.until("response.in_progress"))[0]["response"]["id"]
    await server.next_run()
    bad = [{"type": "function_call_output", "call_id": "unknown", "output": ""}]
    peer.create(store=False, stream_id="a", previous_response_id=target, input=bad)  # evicts it as soon as it has ended
    peer.create(store=False, stream_id="b", previous_response_id=target)
    server.engine.resume()
    events = await peer.until("response.completed")
    while not any(event.get("stream_id") == "b" and event["type"] == "response.completed" for event in events):
        events.append(await peer.event())
    assert [event["stream_id"] for event in events if event["type"] == "error"] == ["a"]
    check_response_events([event for event in events if event["stream_id"] == "b"], lane="b")
    peer.leave()
    await peer.gone()
    server.check_nothing_is_left()


async def test_a_bug_in_the_core_closes_with_1011(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(message: bytes) -> None:
        raise LookupError("a fault planted by the test")

    monkeypatch.setattr("hotloop.server.served_connection.read_event", broken)
    server = Server()
    peer = await server.connect()
    peer.create()
    assert (await peer.event())["error"]["code"] == "server_error"
    assert await peer.message() == {"type": "websocket.close", "code": 1011}
    await peer.gone()
    server.check_nothing_is_left()


async def test_timing_is_told_if_the_handshake_asked_for_it() -> None:
    peer = await Server().connect(hotloop_timing="1")
    events = await peer.turn()
    check_response_events(events)
    assert events[-2]["type"] == "hotloop:timing"
    peer.leave()
    await peer.gone()


async def test_unchanged_tools_stay_the_same_object(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[msgspec.Raw] = []
    start = TurnRunner.turn

    def noting(self: TurnRunner, turn: TurnRequest, sink: Sink, on_over: Callable[[TurnOutcome], None]) -> Turn:
        seen.append(turn.request.tools)
        return start(self, turn, sink, on_over)

    monkeypatch.setattr(TurnRunner, "turn", noting)
    peer = await Server().connect()
    named = [[{"type": "function", "name": name}] for name in "aab"]
    for tools in named:
        await peer.turn(tools=tools)
    assert [one is two for one, two in itertools.pairwise(seen)] == [True, False]
    assert [json.loads(bytes(raw)) for raw in seen] == named
    peer.leave()
    await peer.gone()
