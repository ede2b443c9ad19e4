"""The whole server on the embedded engine and the model that ships: real tokens, real KV, the real SDK and our own client."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from tests.support.event_order import check_response_events
from tests.support.live_server import LiveServer, final_response, live_server, open_socket

from hotloop.app import start_model
from hotloop.client import Agent, EditTool, HttpTransport, Limits, ShellTool, Transport, WebSocketTransport, approve_all
from hotloop.config import ModelSettings
from hotloop.engines.llama import LlamaEngine
from hotloop.models.token_model import TokenModel

LOOK_UP: Any = {
    "type": "function",
    "name": "look_up",
    "description": "Look a key up.",
    "parameters": {
        "type": "object",
        "properties": {"key": {"enum": ["plum", "pear"]}, "depth": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["key", "depth"],
        "additionalProperties": False,
    },
    "strict": True,
}


@asynccontextmanager
async def tiny() -> AsyncGenerator[LiveServer]:
    model = await start_model(ModelSettings())
    async with live_server(model) as server:
        yield server


def engine_of(server: LiveServer) -> LlamaEngine:
    (model,) = server.app.services.models.values()
    assert isinstance(model, TokenModel)
    assert isinstance(model.engine, LlamaEngine)
    return model.engine


def assert_only_new_tokens_were_decoded(server: LiveServer) -> None:
    """From turn 2 on the engine found everything but the last sampled token in its KV."""
    records = server.app.services.records.latest()
    assert len(records) > 1
    for before, after in pairwise(records):
        held = before.usage.prompt_tokens + max(before.usage.output_tokens - 1, 0)
        assert after.usage.cached_tokens >= held, (before, after)
        assert after.usage.prompt_tokens > after.usage.cached_tokens


async def test_a_three_turn_tool_loop_with_the_sdk_over_websocket() -> None:
    async with tiny() as server:
        decoded_before = engine_of(server).decoded_tokens
        sdk = AsyncOpenAI(base_url=server.url, api_key="none")
        async with sdk, sdk.responses.connect() as connection:

            async def turn(**fields: Any) -> Any:
                await connection.response.create(model="tiny", store=False, tools=[LOOK_UP], **fields)
                async for event in connection:
                    if event.type in ("response.completed", "response.failed", "response.incomplete", "error"):
                        assert event.type == "response.completed", event
                        return event.response
                raise AssertionError("the connection ended")

            response = await turn(input="Look two keys up.", tool_choice="required", parallel_tool_calls=False)
            cached = [response.usage.input_tokens_details.cached_tokens]
            for choice in ("required", "none"):
                (call,) = response.output
                assert call.type == "function_call"
                assert call.name == "look_up"
                arguments = json.loads(call.arguments)
                assert set(arguments) == {"key", "depth"}
                assert arguments["key"] in ("plum", "pear")
                held = response.usage.total_tokens - 1
                response = await turn(
                    input=[{"type": "function_call_output", "call_id": call.call_id, "output": "it is there"}],
                    previous_response_id=response.id,
                    tool_choice=choice,
                    parallel_tool_calls=False,
                    max_output_tokens=200,
                )
                cached.append(response.usage.input_tokens_details.cached_tokens)
                assert cached[-1] == held
            assert response.output_text
        assert_only_new_tokens_were_decoded(server)
        # The engine's own count: every token of the chain but the last was put through the model once.
        assert engine_of(server).decoded_tokens - decoded_before == response.usage.total_tokens - 1


@pytest.mark.parametrize("transport", [WebSocketTransport, HttpTransport])
async def test_our_own_client_over_both_transports(transport: type[Transport], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing\n")
    async with tiny() as server:
        agent = Agent(
            transport(server.url),  # type: ignore[call-arg]  # both take the URL first
            model="tiny",
            tools=[ShellTool(tmp_path), EditTool(tmp_path)],
            approve=approve_all,
            limits=Limits(max_turns=3, max_output_tokens=200),
        )
        async with agent, asyncio.timeout(60):
            await agent.run("The tests fail. Please fix the bug.")
        assert_only_new_tokens_were_decoded(server)
        spent = agent.spent
        assert spent.turns >= 1
        assert spent.engine_s is not None


@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_fifty_turns_of_a_resent_history_decode_only_new_tokens(transport: str) -> None:
    """No previous_response_id: the server recognises the history by its content, over either door."""
    async with tiny() as server, httpx.AsyncClient(timeout=30) as client, open_socket(server) as socket:
        decoded_before = engine_of(server).decoded_tokens
        history: list[Any] = []
        usages: list[dict[str, Any]] = []
        for number in range(50):
            history.append({"role": "user", "content": f"Look at file {number}."})
            fields: dict[str, Any] = {"model": "tiny", "input": history, "store": False, "max_output_tokens": 8}
            if transport == "http":
                response: dict[str, Any] = (await client.post(f"{server.url}/responses", json=fields)).json()
            else:
                response = final_response(await socket.turn(**fields))
            usages.append(response["usage"])
            history += [{**item, "id": None, "status": None} for item in response["output"]]
        for before, after in pairwise(usages):
            held = before["input_tokens"] + before["output_tokens"] - 1
            assert after["input_tokens_details"]["cached_tokens"] == held
        assert engine_of(server).decoded_tokens - decoded_before == usages[-1]["total_tokens"] - 1
        assert server.app.services.records.counters.fallbacks == {}


async def test_a_warm_up_prefills_the_engine() -> None:
    async with tiny() as server, open_socket(server) as socket:
        warm = await socket.turn(model="tiny", input=[], instructions="Be brief.", generate=False, store=False)
        check_response_events(warm)
        prefilled = final_response(warm)["usage"]["input_tokens"]
        assert prefilled > 0
        events = await socket.turn(
            model="tiny",
            input="Hello.",
            instructions="Be brief.",
            store=False,
            max_output_tokens=20,
            previous_response_id=final_response(warm)["id"],
        )
        assert final_response(events)["usage"]["input_tokens_details"]["cached_tokens"] == prefilled


async def test_a_warm_up_without_any_content_can_be_continued() -> None:
    async with tiny() as server, open_socket(server) as socket:
        warm = await socket.turn(model="tiny", input=[], generate=False, store=False)
        check_response_events(warm)
        assert final_response(warm)["usage"]["input_tokens"] == 0
        events = await socket.turn(
            model="tiny",
            input="Hello.",
            store=False,
            max_output_tokens=20,
            seed=-1,
            previous_response_id=final_response(warm)["id"],
        )
        check_response_events(events)
        assert final_response(events)["output"]


async def test_a_client_that_vanishes_frees_the_engine() -> None:
    async with tiny() as server:
        async with open_socket(server) as socket:
            await socket.send(model="tiny", input="Hello.", store=False, temperature=2)
            await socket.receive()
        async with asyncio.timeout(30):
            await server.app.connections.wait_empty()
        # A new turn gets its place at once; nothing of the old one is left.
        async with open_socket(server) as socket:
            events = await socket.turn(model="tiny", input="Hello.", max_output_tokens=20)
            check_response_events(events)


async def test_a_killed_engine_host_fails_the_running_turn_and_the_next_one_works() -> None:
    async with tiny() as server, open_socket(server) as socket:
        first = await socket.turn(model="tiny", input="Hello.", max_output_tokens=20)
        engine = engine_of(server)
        await socket.send(
            model="tiny", input="Hello again.", temperature=2, previous_response_id=final_response(first)["id"]
        )
        await socket.receive()
        pid = engine.host_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        events = await socket.until_terminal()
        last = events[-1]
        if last["type"] == "response.failed":  # else the turn was over before the kill
            assert last["response"]["error"]["code"] == "engine_unavailable"
        async with asyncio.timeout(60):
            after = await socket.turn(
                model="tiny",
                input="Still there?",
                max_output_tokens=20,
                previous_response_id=final_response(first)["id"],
            )
        check_response_events(after)
        assert after[-1]["type"] in ("response.completed", "response.incomplete")
