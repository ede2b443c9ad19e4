"""WebSocket mode over a real socket: turns, chains, lanes, refusals, early ends."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.live_server import LiveServer, Socket, calls, final_response, live_server, open_socket, output_text
from tests.support.scripted_model import LOOK_UP, scripted_model
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hotloop.config import ServerSettings
from hotloop.session.principal import Principal


@pytest.fixture(autouse=True, params=["raw", "asgi"])
def _path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds on both paths."""
    monkeypatch.setattr("tests.support.live_server.WEBSOCKET", request.param)


TOOL_RESULT = {"type": "function_call_output", "output": "found"}


@asynccontextmanager
async def connected(**settings: Any) -> AsyncGenerator[tuple[LiveServer, Socket]]:
    async with (
        live_server(scripted_model(), ServerSettings(port=0, **settings)) as server,
        open_socket(server) as socket,
    ):
        yield server, socket


async def works(socket: Socket, **fields: Any) -> None:
    """The connection still serves."""
    events = await socket.turn(input="hello", **fields)
    check_response_events(events, lane=fields.get("stream_id"))
    assert output_text(events).startswith("Hello yourself")


async def test_a_turn_streams_in_order_and_ends_completed() -> None:
    async with connected() as (_, socket):
        events = await socket.turn(input="hello")
        check_response_events(events)
        assert events[0]["type"] == "response.created"
        assert events[1]["type"] == "response.in_progress"
        assert final_response(events)["status"] == "completed"
        assert output_text(events) == "Hello yourself, \u00e9lan \U0001f600."


async def test_reasoning_is_an_item_of_its_own() -> None:
    async with connected() as (_, socket):
        events = await socket.turn(input="think about it")
        check_response_events(events)
        assert [item["type"] for item in final_response(events)["output"]] == ["reasoning", "message"]
        assert final_response(events)["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize("store", [True, False])
async def test_a_tool_loop_sends_only_what_is_new_and_reuses_the_kv(store: bool) -> None:
    async with connected() as (server, socket):
        events = await socket.turn(input="two steps", tools=[LOOK_UP], store=store)
        prompts: list[dict[str, Any]] = []
        for _ in range(2):
            check_response_events(events)
            (call,) = calls(events)
            done = final_response(events)
            prompts.append(done["usage"])
            answer = {**TOOL_RESULT, "call_id": call["call_id"]}
            events = await socket.turn(input=[answer], tools=[LOOK_UP], store=store, previous_response_id=done["id"])
        check_response_events(events)
        assert output_text(events) == "Both are known."
        prompts.append(final_response(events)["usage"])
        for before, after in pairwise(prompts):
            # All but the last sampled token of the turn before is still in the engine's KV.
            held = before["input_tokens"] + before["output_tokens"] - 1
            assert after["input_tokens_details"]["cached_tokens"] == held
        assert [server.slower_paths(record) for record in server.app.services.records.latest()] == [[], [], []]


async def test_a_warm_up_prefills_and_can_be_continued() -> None:
    async with connected() as (_, socket):
        warm = await socket.turn(input=[], instructions="Be brief.", tools=[LOOK_UP], generate=False, store=False)
        assert [event["type"] for event in warm] == ["response.created", "response.in_progress", "response.completed"]
        check_response_events(warm)
        usage = final_response(warm)["usage"]
        assert final_response(warm)["output"] == []
        assert usage["input_tokens"] > 0
        assert usage["output_tokens"] == 0
        events = await socket.turn(
            input="hello",
            instructions="Be brief.",
            tools=[LOOK_UP],
            store=False,
            previous_response_id=final_response(warm)["id"],
        )
        assert final_response(events)["usage"]["input_tokens_details"]["cached_tokens"] == usage["input_tokens"]


async def test_nothing_said_before_is_lost() -> None:
    async with connected() as (_, socket):
        first = await socket.turn(input="hello, the magic word is plum", store=False)
        events = await socket.turn(input="remember?", store=False, previous_response_id=final_response(first)["id"])
        assert output_text(events) == "I do."


async def test_other_tools_or_instructions_render_in_full_and_say_so() -> None:
    async with connected() as (server, socket):
        first = await socket.turn(input="hello", instructions="One.")
        events = await socket.turn(input="hello", instructions="Two.", previous_response_id=final_response(first)["id"])
        assert final_response(events)["instructions"] == "Two."
        assert server.slower_paths(server.app.services.records.latest()[-1]) == ["context_changed"]


async def test_a_stored_response_continues_on_another_connection_and_an_unstored_one_does_not() -> None:
    async with connected() as (server, one), open_socket(server) as two:
        stored = final_response(await one.turn(input="hello, the magic word is plum"))
        unstored = final_response(await one.turn(input="hello", store=False))
        assert output_text(await two.turn(input="remember", previous_response_id=stored["id"])) == "I do."
        (error,) = await two.turn(input="hello", previous_response_id=unstored["id"])
        assert error["error"]["code"] == "previous_response_not_found"
        await works(two)


async def test_an_evicted_stored_response_comes_back_from_the_store() -> None:
    async with connected() as (server, socket):
        stored = final_response(await socket.turn(input="hello, the magic word is plum"))
        chains = server.app.services.chains
        assert chains.evict(Principal(), None, stored["id"])
        server.app.services.prefixes.clear()
        events = await socket.turn(input="remember", previous_response_id=stored["id"])
        assert output_text(events) == "I do."
        assert server.slower_paths(server.app.services.records.latest()[-1]) == ["state_not_kept"]


IMAGE = {"type": "input_image", "image_url": "data:x"}
UNKNOWN_CHOICE = {"type": "function", "name": "x"}
ITEM_WITHOUT_CONTENT = {"type": "message", "role": "user"}

REFUSED: list[tuple[str, dict[str, Any], str, int, str | None]] = [
    ("no model", {"model": None}, "missing_required_parameter", 400, "model"),
    ("unknown model", {"model": "nobody"}, "model_not_found", 404, "model"),
    ("wrong type", {"temperature": "hot"}, "invalid_type", 400, "temperature"),
    ("wrong value", {"temperature": 9}, "invalid_value", 400, "temperature"),
    ("wrong item", {"input": [ITEM_WITHOUT_CONTENT]}, "missing_required_parameter", 400, "input[0].content"),
    ("parent", {"previous_response_id": "resp_x"}, "previous_response_not_found", 400, "previous_response_id"),
    ("output without call", {"input": [{**TOOL_RESULT, "call_id": "call_x"}]}, "invalid_value", 400, "input"),
    ("tool choice", {"tool_choice": UNKNOWN_CHOICE}, "invalid_value", 400, "tool_choice"),
    ("background", {"background": True}, "unsupported_parameter", 400, "background"),
    ("lane", {"stream_id": "a b"}, "invalid_stream_id", 400, "stream_id"),
    ("image", {"input": [{"role": "user", "content": [IMAGE]}]}, "unsupported_value", 400, "input[0].content[0]"),
]


@pytest.mark.parametrize(
    ("fields", "code", "status", "param"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_a_refused_request_gets_its_code_and_the_connection_lives_on(
    fields: dict[str, Any], code: str, status: int, param: str | None
) -> None:
    async with connected() as (_, socket):
        events = await socket.turn(**{"input": "hello", **fields})
        if events[-1]["type"] == "error":
            (event,) = events
            assert event["status"] == status
            assert "sequence_number" not in event
            error = event["error"]
        else:  # found while rendering, after `created`
            check_response_events(events)
            error = final_response(events)["error"]
        assert error["code"] == code
        assert error.get("param") == param
        await works(socket)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_request"),
        ("{}", "invalid_request"),
        ('{"type": 3}', "invalid_request"),
        ('{"type": "response.dance"}', "invalid_request"),
        (b'{"type": "response.create"}', "invalid_request"),
    ],
)
async def test_what_is_no_client_event_is_answered_and_survived(message: str | bytes, code: str) -> None:
    async with connected() as (_, socket):
        await socket.send_text(message)
        (event,) = await socket.until_terminal()
        assert event["error"]["code"] == code
        assert event["status"] == 400
        await works(socket)


async def test_unknown_fields_null_fields_and_acknowledgements_are_tolerated() -> None:
    async with connected() as (_, socket):
        await socket.send_text('{"type": "response.processed", "response_id": "resp_x"}')
        await works(
            socket, stream=True, client_metadata={"a": "b"}, brand_new=[1], tools=None, metadata=None, top_p=None
        )


async def test_a_failed_continuation_evicts_its_parent_but_a_malformed_message_does_not() -> None:
    async with connected() as (_, socket):
        parent = final_response(await socket.turn(input="hello", store=False))["id"]
        (refused,) = await socket.turn(input="hello", store=False, previous_response_id=parent, temperature="hot")
        assert refused["error"]["code"] == "invalid_type"
        bad = {**TOOL_RESULT, "call_id": "call_unknown"}
        (failed,) = await socket.turn(input=[bad], store=False, previous_response_id=parent)
        assert failed["error"]["code"] == "invalid_value"
        (gone,) = await socket.turn(input="hello", store=False, previous_response_id=parent)
        assert gone["error"]["code"] == "previous_response_not_found"
        await works(socket)


@pytest.mark.parametrize(
    ("word", "code"),
    [("die early", "engine_unavailable"), ("die late", "engine_unavailable"), ("time out", "engine_timeout")],
)
async def test_an_engine_failure_ends_in_response_failed_and_the_next_turn_works(word: str, code: str) -> None:
    async with connected() as (_, socket):
        events = await socket.turn(input=word)
        check_response_events(events)
        assert events[-1]["type"] == "response.failed"
        assert final_response(events)["error"]["code"] == code
        await works(socket)


async def test_too_long_a_context_fails_the_response() -> None:
    async with live_server(scripted_model(context_tokens=50)) as server, open_socket(server) as socket:
        events = await socket.turn(input="hello " * 200)
        check_response_events(events)
        assert final_response(events)["error"]["code"] == "context_length_exceeded"
        await works(socket)


async def test_max_output_tokens_ends_incomplete_and_can_be_continued() -> None:
    async with connected() as (_, socket):
        events = await socket.turn(input="long", max_output_tokens=20, store=False)
        check_response_events(events)
        done = final_response(events)
        assert events[-1]["type"] == "response.incomplete"
        assert done["incomplete_details"] == {"reason": "max_output_tokens"}
        assert done["output"][-1]["status"] == "incomplete"
        assert done["usage"]["output_tokens"] == 20
        await works(socket, previous_response_id=done["id"])


async def test_logprobs_come_when_asked_for() -> None:
    async with connected() as (_, socket):
        events = await socket.turn(input="hello", include=["message.output_text.logprobs"], top_logprobs=2)
        (item,) = final_response(events)["output"]
        entries = item["content"][0]["logprobs"]
        assert "".join(bytes(entry["bytes"]).decode("latin-1") for entry in entries).startswith("Hello")
        assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


async def test_requests_of_one_lane_run_one_after_the_other_in_order() -> None:
    async with connected() as (_, socket):
        for _ in range(3):
            await socket.send(input="long")
        runs = [await socket.until_terminal() for _ in range(3)]
        for events in runs:
            check_response_events(events)
        assert len({final_response(events)["id"] for events in runs}) == 3


async def test_lanes_run_side_by_side_and_name_their_events() -> None:
    async with connected() as (_, socket):
        await socket.send(input="forever", stream_id="slow")
        assert (await socket.receive())["stream_id"] == "slow"
        await socket.send(input="hello", stream_id="quick")
        seen: dict[str, list[dict[str, Any]]] = {"slow": [], "quick": []}
        while not seen["quick"] or seen["quick"][-1]["type"] != "response.completed":
            event = await socket.receive()
            seen[event["stream_id"]].append(event)
        check_response_events(seen["quick"], lane="quick")


async def test_the_33rd_lane_is_refused() -> None:
    async with connected() as (_, socket):
        for number in range(32):
            await works(socket, stream_id=f"lane{number}")
        (event,) = await socket.turn(input="hello", stream_id="lane32")
        assert event["error"]["code"] == "websocket_stream_limit_reached"
        assert event["stream_id"] == "lane32"
        await works(socket)


async def test_a_fork_may_name_a_response_that_still_runs() -> None:
    async with connected() as (_, socket):
        await socket.send(input="hello, the magic word is plum", stream_id="a", store=False)
        parent = (await socket.receive())["response"]["id"]
        await socket.send(input="remember", stream_id="b", store=False, previous_response_id=parent)
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != "response.completed":
            event = await socket.receive()
            if event["stream_id"] == "b":
                events.append(event)
        assert output_text(events) == "I do."


async def test_a_client_that_vanishes_stops_its_turn() -> None:
    async with live_server(scripted_model()) as server:
        async with open_socket(server) as socket:
            await socket.send(input="forever", store=False)
            while (await socket.receive())["type"] != "response.output_text.delta":
                pass
            await socket.send(input="hello", store=False)  # waits behind it
        await server.app.connections.wait_empty()
        assert not server.app.services.models["test"].engine.runs  # type: ignore[attr-defined]  # the scripted one
        records = server.app.services.records.latest()
        assert [record.outcome for record in records] == ["cancelled"]
        assert len(server.app.services.chains) == 0


async def test_a_message_over_the_size_limit_closes_with_1009() -> None:
    async with connected(max_message_bytes=10_000) as (_, socket):
        await socket.send(input="x" * 20_000)
        with pytest.raises(ConnectionClosed) as closed:
            await socket.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


async def test_the_key_is_asked_for_at_the_handshake() -> None:
    async with live_server(scripted_model(), ServerSettings(port=0, api_key="sesame")) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(server):
                pass
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"")["error"]["code"] == "invalid_api_key"
        async with open_socket(server, additional_headers={"Authorization": "Bearer sesame"}) as socket:
            await works(socket)


async def test_a_foreign_page_may_not_connect() -> None:
    async with live_server(scripted_model()) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with open_socket(server, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403


async def test_draining_finishes_what_runs_then_closes_with_1012() -> None:
    async with connected() as (server, socket):
        await socket.send(input="long")
        first = await socket.receive()
        drain = asyncio.create_task(server.app.connections.drain(30))
        events = [first, *await socket.until_terminal()]
        check_response_events(events)
        assert final_response(events)["status"] == "completed"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        await drain


async def test_the_lifetime_ends_with_the_error_and_then_the_close() -> None:
    async with connected(connection_lifetime_s=0.05) as (_, socket):
        assert (await socket.receive())["error"]["code"] == "websocket_connection_limit_reached"
        with pytest.raises(ConnectionClosed) as closed:
            await socket.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


async def test_the_timing_event_is_opt_in_and_comes_just_before_the_end() -> None:
    async with live_server(scripted_model()) as server:
        async with open_socket(server, additional_headers={"hotloop-timing": "1"}) as socket:
            events = await socket.turn(input="hello")
            check_response_events(events)
            assert events[-2]["type"] == "hotloop:timing"
            assert events[-2]["engine_s"] >= 0
            assert list(events[-2]["stamps"]) == sorted(events[-2]["stamps"], key=events[-2]["stamps"].__getitem__)
        async with open_socket(server) as socket:
            assert all(event["type"] != "hotloop:timing" for event in await socket.turn(input="hello"))
