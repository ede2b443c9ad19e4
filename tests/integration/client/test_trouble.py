"""What happens when the wire breaks: one action per cause, no call lost, none run twice."""

import asyncio
import socket
from typing import Any

import pytest
from tests.integration.client.agents import PATIENCE_S, Kind, Note, make_agent, make_transport
from tests.integration.client.recorded_wire import (
    Drop,
    RecordedWire,
    Refusal,
    Stall,
    Step,
    begin,
    call,
    failed,
    item_events,
    say,
    turn,
)

from hotloop.client import (
    CannotConnect,
    ConnectionLost,
    HttpTransport,
    RequestRefused,
    ResponseFailed,
    WebSocketBlocked,
    WebSocketTransport,
)
from hotloop.client.progress import Message, Progress, Resent
from hotloop.client.websocket import CONNECT_TIMEOUTS_S

BOTH: list[Kind] = ["ws", "http"]
NOTE = call("call_1", "note", {})
NOTED = {"type": "function_call_output", "call_id": "call_1", "output": "noted {}"}
QUICK_TRIES = (1.0, 0.5)  # seconds


def cut_after(*items: dict[str, Any]) -> list[Step]:
    """A turn whose connection drops after these items."""
    events: list[Step] = [*begin("resp_cut")]
    for index, item in enumerate(items):
        events += item_events(index, item)
    return [*events, Drop()]


def types(items: list[dict[str, Any]]) -> list[str]:
    return [item["type"] for item in items]


async def test_a_forgotten_chain_is_resent_in_full_on_a_new_connection() -> None:
    wire = RecordedWire(
        [turn("resp_1", NOTE), [Refusal(400, "previous_response_not_found")], turn("resp_2", say("done"))]
    )
    async with wire.serving(), make_agent(make_transport("ws", wire), Note()) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    resent = wire.creates[2]
    assert outcome.text == "done"
    assert "previous_response_id" not in resent.body
    assert types(resent.body["input"]) == ["message", "function_call", "function_call_output"]
    assert resent.connection == 2
    assert agent.counters.reconnects == 1
    assert agent.counters.resends == {"previous_response_not_found": 1}


async def test_after_a_resend_only_new_items_are_sent_again() -> None:
    second = call("call_2", "note", {"n": 2})
    wire = RecordedWire(
        [turn("r1", NOTE), [Refusal(400, "previous_response_not_found")], turn("r2", second), turn("r3", say("done"))]
    )
    async with wire.serving(), make_agent(make_transport("ws", wire), Note()) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert wire.creates[3].body["previous_response_id"] == "r2"
    assert types(wire.inputs[3]) == ["function_call_output"]


@pytest.mark.parametrize("kind", BOTH)
async def test_a_turn_that_breaks_before_a_call_is_sent_again(kind: Kind) -> None:
    progress: list[Progress] = []
    wire = RecordedWire([turn("resp_1", NOTE), cut_after(say("half a th")), turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport(kind, wire), Note(), on_progress=progress.append) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    full = wire.creates[2].body["input"]
    assert outcome.text == "done"
    assert types(full) == ["message", "function_call", "function_call_output"]
    assert Resent("connection_lost", void=True) in progress
    assert agent.counters.resends == {"connection_lost": 1}


@pytest.mark.parametrize("kind", BOTH)
async def test_a_turn_that_breaks_after_a_call_goes_on_with_the_output_of_that_call(kind: Kind) -> None:
    tool = Note()
    wire = RecordedWire([cut_after(say("hm"), NOTE), turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport(kind, wire), tool) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"
    assert tool.notes == ["{}"]
    assert wire.inputs[1][1:] == [say("hm"), NOTE, NOTED]


async def test_a_socket_that_goes_away_between_turns_is_replaced() -> None:
    wire = RecordedWire([[*turn("resp_1", NOTE), Drop()], turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), Note()) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"
    assert agent.counters.resends == {"connection_lost": 1}
    assert types(wire.inputs[-1]) == ["message", "function_call", "function_call_output"]


@pytest.mark.parametrize("kind", BOTH)
async def test_silence_counts_as_a_lost_connection(kind: Kind) -> None:
    wire = RecordedWire([[*begin("resp_1"), Stall()], turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport(kind, wire, silence_s=1.0)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"
    assert agent.counters.resends == {"connection_lost": 1}


async def test_a_rate_limit_is_waited_out_and_keeps_the_chain() -> None:
    wire = RecordedWire(
        [turn("resp_1", NOTE), [Refusal(429, "rate_limit_exceeded", retry_after="0")], turn("resp_2", say("done"))]
    )
    # The back-off itself would outlast the test: only the server's own figure gets it through.
    async with wire.serving(), make_agent(make_transport("ws", wire), Note(), retry_delays_s=(1000.0,)) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert wire.creates[1].body == wire.creates[2].body
    assert wire.creates[2].connection == 1
    assert agent.counters.resends == {"rate_limit_exceeded": 1}


@pytest.mark.parametrize("kind", BOTH)
async def test_a_server_fault_is_retried_within_the_budget_then_shown(kind: Kind) -> None:
    wire = RecordedWire([[Refusal(503, "engine_unavailable", "restarting")] for _ in range(3)])
    async with wire.serving(), make_agent(make_transport(kind, wire), retry_delays_s=(0.0, 0.0)) as agent:
        with pytest.raises(RequestRefused, match="restarting") as caught:
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert (caught.value.status, caught.value.code) == (503, "engine_unavailable")
    assert agent.counters.resends == {"engine_unavailable": 2}


@pytest.mark.parametrize("kind", BOTH)
async def test_a_failed_response_of_a_server_fault_is_retried(kind: Kind) -> None:
    wire = RecordedWire([failed("resp_1", "engine_unavailable"), turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport(kind, wire)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"


async def test_a_completed_turn_refills_the_budget() -> None:
    trouble = [Refusal(500, "server_error")]
    wire = RecordedWire([trouble, turn("resp_1", NOTE), trouble, turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), Note(), retry_delays_s=(0.0,)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"


async def test_an_exhausted_budget_falls_back_to_http() -> None:
    wire = RecordedWire([[*begin("resp_1"), Drop()], [*begin("resp_1"), Drop()], turn("resp_2", say("done"))])
    async with wire.serving():
        agent = make_agent(make_transport("ws", wire), fallback=make_transport("http", wire), retry_delays_s=(0.0,))
        async with agent:
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert [request.over for request in wire.creates] == ["ws", "ws", "http"]
    assert agent.counters.fallbacks == {"connection_lost": 1}


async def test_an_unusable_message_is_a_lost_connection() -> None:
    nonsense: Step = {"type": "response.completed", "response": "what?"}
    wire = RecordedWire([[nonsense], turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport("ws", wire)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"


async def test_a_failed_warm_up_costs_only_the_warm_up() -> None:
    wire = RecordedWire([turn("resp_1", say("done"))], warm_up=[Refusal(400, "unsupported_parameter")])
    async with wire.serving(), make_agent(make_transport("ws", wire)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"
    assert "previous_response_id" not in wire.creates[0].body
    assert wire.creates[0].body["instructions"] == "Be brief."


async def test_upgrade_required_means_http_at_once() -> None:
    wire = RecordedWire([turn("resp_1", NOTE), turn("resp_2", say("done"))], upgrade=426)
    async with wire.serving():
        agent = make_agent(make_transport("ws", wire), Note(), fallback=make_transport("http", wire))
        async with agent:
            outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"
    assert wire.handshakes == 1
    assert [request.over for request in wire.received] == ["http", "http"]
    assert agent.counters.fallbacks == {"cannot_connect": 1}


@pytest.mark.parametrize("upgrade", ["stall", 403, 404, 502])
async def test_a_blocked_websocket_gets_two_tries_then_http_for_good(upgrade: Any) -> None:
    wire = RecordedWire([turn("resp_1", NOTE), turn("resp_2", say("done"))], upgrade=upgrade)
    async with wire.serving():
        blocked = WebSocketTransport(wire.url, connect_timeouts_s=QUICK_TRIES)
        agent = make_agent(blocked, Note(), fallback=HttpTransport(wire.url))
        async with agent:
            outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "done"
    assert wire.connections == 3  # two tries and HTTP's own
    assert [request.over for request in wire.received] == ["http", "http"]


def test_by_default_a_blocked_websocket_leaves_time_for_http_within_six_seconds() -> None:
    assert sum(CONNECT_TIMEOUTS_S) < 6


async def test_without_a_fallback_a_blocked_websocket_is_an_error() -> None:
    wire = RecordedWire([], upgrade="stall")
    async with wire.serving():
        transport = WebSocketTransport(wire.url, connect_timeouts_s=QUICK_TRIES)
        async with make_agent(transport) as agent:
            with pytest.raises(WebSocketBlocked, match="no WebSocket handshake within"):
                await asyncio.wait_for(agent.run("go"), PATIENCE_S)


async def test_a_wrong_key_is_shown_and_not_taken_for_a_blocked_websocket() -> None:
    wire = RecordedWire([], upgrade=401)
    async with wire.serving():
        agent = make_agent(make_transport("ws", wire), fallback=make_transport("http", wire))
        async with agent:
            with pytest.raises(RequestRefused) as caught:
                await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert caught.value.status == 401


@pytest.mark.parametrize("kind", BOTH)
async def test_the_key_is_sent_as_bearer_token(kind: Kind) -> None:
    wire = RecordedWire([turn("resp_1", say("ok"))])
    async with wire.serving():
        transport = (WebSocketTransport if kind == "ws" else HttpTransport)(wire.url, api_key="s3cret")
        async with make_agent(transport) as agent:
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert wire.creates[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("kind", BOTH)
async def test_nobody_there_is_said_at_once(kind: Kind) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        wire = RecordedWire([], port=taken.getsockname()[1])
        async with make_agent(make_transport(kind, wire), retry_delays_s=(1000.0,)) as agent:
            with pytest.raises(CannotConnect, match=f"cannot connect to {wire.url}"):
                await asyncio.wait_for(agent.run("go"), PATIENCE_S)


@pytest.mark.parametrize("kind", BOTH)
async def test_a_server_that_stays_away_ends_the_run_with_the_reason(kind: Kind) -> None:
    wire = RecordedWire([cut_after(say("a")), cut_after(say("b"))])
    async with wire.serving(), make_agent(make_transport(kind, wire), retry_delays_s=(0.0,)) as agent:
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)


async def test_a_failed_response_over_http_after_an_error_event_is_one_error() -> None:
    both: list[Step] = [*begin("resp_1"), Refusal(400, "content_policy_violation"), *failed("resp_1", "x")[2:]]
    wire = RecordedWire([both])
    async with wire.serving(), make_agent(make_transport("http", wire)) as agent:
        with pytest.raises(RequestRefused) as caught:
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert (caught.value.status, caught.value.code) == (400, "content_policy_violation")


async def test_failed_responses_without_a_cause_that_passes_are_shown() -> None:
    wire = RecordedWire([failed("resp_1", "something_new")])
    async with wire.serving(), make_agent(make_transport("ws", wire)) as agent:
        with pytest.raises(ResponseFailed):
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)


async def test_text_of_a_broken_attempt_is_not_part_of_the_answer() -> None:
    progress: list[Progress] = []
    wire = RecordedWire([cut_after(say("wrong")), turn("resp_2", say("right"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), on_progress=progress.append) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "right"
    assert progress.index(Resent("connection_lost", void=True)) > progress.index(Message("wrong"))
