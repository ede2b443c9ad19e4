"""Turns that are cut, chains that are long, lanes that run side by side: on the embedded engine, with real tokens and KV."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.integration.test_llama import assert_only_new_tokens_were_decoded, engine_of, tiny
from tests.support.event_order import check_response_events, split_responses
from tests.support.live_server import LiveServer, Socket, final_response, live_server, open_socket, output_text
from tests.support.mcp_servers import stdio

from hotloop.app import start_model
from hotloop.config import ModelSettings, ServerSettings

TASK = "The tests fail. Please fix the bug."
GENERATION_PROMPT = 3  # tokens: the head of an assistant message
TURNS = 40


async def begin(socket: Socket, **fields: Any) -> list[dict[str, Any]]:
    """A turn up to its first piece of text."""
    await socket.send(model="tiny", store=False, tool_choice="none", **fields)
    events = [await socket.receive()]
    while not events[-1]["type"].endswith(".delta"):
        events.append(await socket.receive())
    return events


def fallbacks(server: LiveServer) -> dict[str, int]:
    return server.app.services.records.counters.fallbacks


async def test_what_an_interrupt_took_back_is_neither_in_the_chain_nor_in_the_kv() -> None:
    async with tiny() as server, open_socket(server) as socket:
        # So hot that it writes nonsense to the limit: there is something to interrupt, whatever the machine's speed.
        events = await begin(socket, input=TASK, max_output_tokens=2000, temperature=2.0, seed=1)
        target = events[0]["response"]["id"]
        await socket.send_text(json.dumps({"type": "response.interrupt", "response_id": target}))
        events += await socket.until_terminal()
        cut = check_response_events(events)
        assert cut["incomplete_details"] == {"reason": "interrupted"}
        assert cut["output"] == []
        continued = await socket.turn(
            model="tiny", store=False, previous_response_id=target, input="Say so.", max_output_tokens=30
        )
        check_response_events(continued)
        usage = final_response(continued)["usage"]
        assert usage["input_tokens_details"]["cached_tokens"] == cut["usage"]["input_tokens"] - GENERATION_PROMPT
        assert fallbacks(server) == {}
    async with tiny() as server, open_socket(server) as socket:
        whole = await socket.turn(
            model="tiny",
            store=False,
            input=[{"role": "user", "content": TASK}, {"role": "user", "content": "Say so."}],
            max_output_tokens=30,
        )
        assert output_text(whole) == output_text(continued), "the chain is not what its items say"


async def test_a_successor_goes_on_from_the_kv_of_the_response_that_was_steered() -> None:
    async with tiny() as server, open_socket(server) as socket:
        # So hot that it writes nonsense to the limit: there is something to steer, whatever the machine's speed.
        events = await begin(socket, input=TASK, max_output_tokens=800, temperature=2.0, seed=1)
        target = events[0]["response"]["id"]
        steer = {"type": "response.steer", "previous_response_id": target, "input": "Say so."}
        await socket.send_text(json.dumps(steer))
        events += await socket.until_terminal()
        events += await socket.until_terminal()
        first, second = (check_response_events(part) for part in split_responses(events))
        assert second["previous_response_id"] == target
        assert second["usage"]["input_tokens_details"]["cached_tokens"] == first["usage"]["total_tokens"] - 1
        assert fallbacks(server) == {}
        assert_only_new_tokens_were_decoded(server)


async def test_a_chain_of_many_turns_decodes_every_token_once() -> None:
    async with tiny() as server, open_socket(server) as socket:
        before = engine_of(server).decoded_tokens
        previous: str | None = None
        usage: dict[str, Any] = {}
        for number in range(TURNS):
            events = await socket.turn(
                model="tiny",
                store=False,
                previous_response_id=previous,
                input=f"Number {number}.",
                tool_choice="none",
                max_output_tokens=6,
            )
            check_response_events(events)
            previous, usage = final_response(events)["id"], final_response(events)["usage"]
        assert_only_new_tokens_were_decoded(server)
        assert fallbacks(server) == {}
        assert engine_of(server).decoded_tokens - before < usage["total_tokens"] + TURNS, "history was decoded again"


async def test_more_conversations_than_the_cache_has_sequences_for_lose_no_kv() -> None:
    model = await start_model(ModelSettings(sequences=2))
    async with live_server(model) as server, open_socket(server) as socket:
        lanes = range(5)
        previous: dict[int, str | None] = dict.fromkeys(lanes)
        for turn in range(3):
            for lane in lanes:
                events = await socket.turn(
                    model="tiny",
                    store=False,
                    stream_id=f"lane-{lane}",
                    previous_response_id=previous[lane],
                    input=f"Turn {turn} of {lane}.",
                    tool_choice="none",
                    max_output_tokens=6,
                )
                previous[lane] = final_response(events)["id"]
        counted = fallbacks(server)
        assert counted.keys() == {"kv_restored"}
        assert counted["kv_restored"] >= 2 * len(lanes) - 1, "the last turn's record may still be on its way"
        assert server.app.services.records.counters.restored_tokens > 0
        records = server.app.services.records.latest()
        for before, after in zip(records, records[len(lanes) :], strict=False):
            assert after.usage.cached_tokens >= before.usage.prompt_tokens, "the history was decoded again"


async def test_lanes_side_by_side_write_what_each_writes_alone() -> None:
    tasks = [f"The {word} tests fail. Please fix the bug." for word in ("first", "second", "other", "last")]

    async def write(server: LiveServer, lanes: list[int]) -> list[str]:
        async with open_socket(server) as socket:
            for lane in lanes:
                await socket.send(
                    model="tiny", store=False, stream_id=f"lane-{lane}", input=tasks[lane], max_output_tokens=40
                )
            events: list[dict[str, Any]] = []
            for _ in lanes:
                events += await socket.until_terminal()
            texts: list[str] = []
            for lane in lanes:
                own = [event for event in events if event["stream_id"] == f"lane-{lane}"]
                check_response_events(own, lane=f"lane-{lane}")
                texts.append(output_text(own))
            return texts

    async with tiny() as server:
        together = await asyncio.gather(write(server, [0, 1]), write(server, [2, 3]))
        alone = [await write(server, [lane]) for lane in range(len(tasks))]
    assert [text for texts in together for text in texts] == [text for (text,) in alone]
    assert all(text for (text,) in alone)


async def test_a_round_behind_a_hosted_call_decodes_its_output_alone(tmp_path: Path) -> None:
    """The model is made to call, for it was not taught the tool; what it then says of the output is its own."""
    path = tmp_path / "tools.json"
    path.write_text(json.dumps({"servers": {"honest": stdio()}}))
    tool = {"type": "mcp", "server_label": "honest", "require_approval": "never", "allowed_tools": ["note"]}
    choice = {"type": "mcp", "server_label": "honest", "name": "note"}
    model = await start_model(ModelSettings())
    async with live_server(model, ServerSettings(tool_servers=path)) as server, open_socket(server) as socket:
        events = await socket.turn(
            model="tiny", input=TASK, tools=[tool], tool_choice=choice, store=False, max_output_tokens=200
        )
        response = check_response_events(events)
        _, call, *_ = response["output"]
        assert call["type"] == "mcp_call" and call["status"] == "completed"
        record = server.app.services.records.latest()[-1]
        assert record.rounds == 2 and record.fallbacks == ()
        usage = response["usage"]
        missed = usage["input_tokens"] - usage["input_tokens_details"]["cached_tokens"]
        assert engine_of(server).decoded_tokens <= missed + usage["output_tokens"]
        assert missed < usage["input_tokens"] * 2 // 3, "the second round has the first one's KV"
        continued = await socket.turn(
            model="tiny",
            input="Go on.",
            tools=[tool],
            store=False,
            previous_response_id=response["id"],
            max_output_tokens=20,
        )
        check_response_events(continued)
        after = final_response(continued)["usage"]
        assert after["input_tokens"] - after["input_tokens_details"]["cached_tokens"] < usage["input_tokens"] // 4
