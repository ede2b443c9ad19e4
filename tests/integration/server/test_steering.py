"""Steering and interrupts over a real socket, by the SDK and by the wire."""

import asyncio
from typing import Any

from openai import AsyncOpenAI
from tests.support.event_order import check_response_events, split_responses
from tests.support.live_server import live_server, open_socket, output_text
from tests.support.scripted_model import LOOK_UP, STEERED, scripted_model

GENERATION_PROMPT = 2  # tokens: the head of an assistant message

SCRIPT: list[dict[str, Any]] = [
    *STEERED,
    {
        "match": "^look",
        "turns": [
            {"call": {"name": "look_up", "arguments": {"key": "a"}}, "pace": {"tokens": 1, "seconds": 0.01}},
            {"text": "Found."},
        ],
    },
]


async def test_the_sdk_steers_a_response_and_gets_its_successor() -> None:
    async with live_server(scripted_model(SCRIPT)) as server:
        sdk = AsyncOpenAI(base_url=server.url, api_key="none")
        async with sdk, sdk.responses.connect() as connection:
            await connection.response.create(model="test", store=False, input="ponder this")
            target = await created(connection)
            await until(connection, "response.output_item.added")
            await connection.response.steer(input="shorter, please", previous_response_id=target)
            accepted = await until(connection, "response.steer.accepted")
            assert accepted.steer.previous_response_id == target
            steered = (await until(connection, "response.incomplete")).response
            successor = (await until(connection, "response.completed")).response
    assert steered.incomplete_details.reason == "steered"
    assert [item.type for item in steered.output] == ["reasoning"]
    assert successor.previous_response_id == steered.id == target
    assert successor.output_text == "Short, then."
    # The format drops the reasoning before a new user message; what stood before the output is still there.
    assert successor.usage.input_tokens_details.cached_tokens == steered.usage.input_tokens - GENERATION_PROMPT


async def test_the_sdk_reads_what_is_owed_before_a_steer_is_applied() -> None:
    async with live_server(scripted_model(SCRIPT)) as server:
        sdk = AsyncOpenAI(base_url=server.url, api_key="none")
        async with sdk, sdk.responses.connect() as connection:
            tools: Any = [LOOK_UP]
            await connection.response.create(model="test", store=False, input="look", tools=tools)
            target = await created(connection)
            await until(connection, "response.output_item.added")
            await connection.response.steer(input="and be quick", previous_response_id=target)
            (stub,) = (await until(connection, "response.steer.pending")).required_input
            assert (stub.type, stub.name) == ("function_call_output", "look_up")
            output: Any = {"type": "function_call_output", "call_id": stub.call_id, "output": "it is there"}
            await connection.response.create(
                model="test", store=False, input=[output], previous_response_id=target, tools=tools
            )
            assert (await until(connection, "response.completed")).response.previous_response_id == target


async def created(connection: Any) -> str:
    """Id of the response that begins."""
    response_id: str = (await until(connection, "response.created")).response.id
    return response_id


async def until(connection: Any, kind: str) -> Any:
    """The next event of a kind, as the SDK's own type."""
    async with asyncio.timeout(60):
        while True:
            event = await connection.recv()
            assert event.type != "error", event
            if event.type == kind:
                return event


async def test_an_interrupt_frees_the_lane_at_once_and_the_chain_goes_on() -> None:
    async with live_server(scripted_model(SCRIPT)) as server, open_socket(server) as socket:
        await socket.send(input="ponder this", store=False)
        events = [await socket.receive()]
        while events[-1]["type"] != "response.output_text.delta":
            events.append(await socket.receive())
        interrupt = '{"type":"response.interrupt","response_id":"%s","mode":"discard_partial_items"}'
        await socket.send_text(interrupt % events[0]["response"]["id"])
        events += await socket.until_terminal()
        final = check_response_events(events)
        assert final["incomplete_details"] == {"reason": "interrupted"}
        assert [item["type"] for item in final["output"]] == ["reasoning"]
        events = await socket.turn(input="shorter", store=False, previous_response_id=final["id"])
        (part,) = split_responses(events)
        after = check_response_events(part)
        assert output_text(events) == "Short, then."
        cached = after["usage"]["input_tokens_details"]["cached_tokens"]
        assert cached == final["usage"]["input_tokens"] - GENERATION_PROMPT
        assert server.app.services.records.counters.fallbacks.keys() <= {"reasoning_dropped"}
