"""Chat completions over HTTP, through the openai-python client."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from tests.support.live_server import PATIENCE_S, LiveServer, live_server
from tests.support.scripted_model import LOOK_UP, scripted_model

from hotloop.config import ServerSettings

TOOL: dict[str, Any] = {"type": "function", "function": {name: LOOK_UP[name] for name in LOOK_UP if name != "type"}}


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[tuple[LiveServer, AsyncOpenAI]]:
    async with (
        live_server(scripted_model(), ServerSettings(port=0, **settings)) as server,
        AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):
        yield server, client


async def ask(client: AsyncOpenAI, *messages: Any, **fields: Any) -> Any:
    create: Any = client.chat.completions.create
    return await create(model="test", messages=list(messages), **fields)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def chunks_of(client: AsyncOpenAI, *messages: Any, **fields: Any) -> list[Any]:
    return [chunk async for chunk in await ask(client, *messages, stream=True, **fields)]


async def test_an_answer_is_one_choice_with_its_usage() -> None:
    async with served() as (_, client):
        answer = await ask(client, {"role": "system", "content": "Be brief."}, user("hello"))
        (choice,) = answer.choices
        assert (choice.message.content, choice.finish_reason) == ("Hello yourself, \u00e9lan \U0001f600.", "stop")
        assert answer.object == "chat.completion"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


async def test_chunks_add_up_to_the_answer_and_the_last_counts_tokens_if_asked() -> None:
    async with served() as (_, client):
        whole = await ask(client, user("hello"))
        chunks = await chunks_of(client, user("hello"), stream_options={"include_usage": True})
        *written, last = chunks
        assert written[0].choices[0].delta.role == "assistant"
        assert "".join(chunk.choices[0].delta.content or "" for chunk in written) == whole.choices[0].message.content
        assert written[-1].choices[0].finish_reason == "stop"
        assert last.choices == []
        assert last.usage.completion_tokens == whole.usage.completion_tokens
        assert all(chunk.usage is None for chunk in written)
        assert len({chunk.id for chunk in chunks}) == 1
        assert not any(chunk.usage for chunk in await chunks_of(client, user("hello")))


async def test_a_tool_loop_of_full_histories_finds_what_was_computed_before() -> None:
    async with served() as (_, client):
        messages: list[Any] = [user("two steps")]
        for step in range(3):
            answer = await ask(client, *messages, tools=[TOOL])
            message = answer.choices[0].message
            if step == 2:
                assert message.content == "Both are known."
                break
            (call,) = message.tool_calls
            assert (answer.choices[0].finish_reason, call.function.name) == ("tool_calls", "look_up")
            if step:
                assert answer.usage.prompt_tokens_details.cached_tokens > 0
            messages += [
                message.model_dump(exclude_none=True),
                {"role": "tool", "tool_call_id": call.id, "content": "found"},
            ]


async def test_streamed_calls_are_named_once_and_their_arguments_add_up() -> None:
    async with served() as (_, client):
        chunks = await chunks_of(client, user("two steps"), tools=[TOOL])
        pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert (pieces[0].id[:5], pieces[0].function.name, pieces[0].type) == ("call_", "look_up", "function")
        assert "".join(piece.function.arguments for piece in pieces) == '{"key": "a"}'
        assert {piece.index for piece in pieces} == {0}
        assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_reasoning_is_shown_beside_the_content() -> None:
    async with served() as (_, client):
        answer = await ask(client, user("think"))
        assert (answer.choices[0].message.reasoning_content, answer.choices[0].message.content) == (
            "Let me see.",
            "Seen.",
        )
        deltas = [chunk.choices[0].delta for chunk in await chunks_of(client, user("think"))]
        assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Let me see."


async def test_an_answer_that_was_cut_says_so() -> None:
    async with served() as (_, client):
        answer = await ask(client, user("long"), max_completion_tokens=5)
        assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 5)
        chunks = await chunks_of(client, user("long"), max_tokens=5)
        assert chunks[-1].choices[0].finish_reason == "length"


async def test_a_format_is_asked_for_as_in_the_older_api() -> None:
    async with served() as (server, client):
        schema: dict[str, Any] = {"name": "n", "schema": {"type": "object", "properties": {}}, "strict": True}
        await ask(client, user("hello"), response_format={"type": "json_schema", "json_schema": schema})
        await ask(client, user("hello"), response_format={"type": "json_object"})
        assert len(server.app.services.records.latest()) == 2


@pytest.mark.parametrize(
    ("messages", "fields", "status", "param"),
    [
        ([user("hello")], {"model": "nobody"}, 404, "model"),
        ([user("hello")], {"stop": ["x"]}, 400, "stop"),
        ([user("hello")], {"n": 2}, 400, "n"),
        ([user("hello")], {"logit_bias": {"1": 1}}, 400, "logit_bias"),
        ([user("hello")], {"functions": []}, 400, "functions"),
        ([user("hello")], {"modalities": ["audio"]}, 400, "modalities"),
        ([user("hello")], {"temperature": 3}, 400, "temperature"),
        (
            [user("hello")],
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            400,
            "tool_choice",
        ),
        (
            [user("hello")],
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            400,
            "response_format.json_schema.name",
        ),
        ([], {}, 400, "messages"),
        ([{"role": "narrator", "content": "x"}], {}, 400, "messages[0].role"),
        ([user("hello"), {"role": "tool", "tool_call_id": "c", "content": "x"}], {}, 400, "messages"),
        (
            [user("hello"), {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
            {},
            400,
            "messages[1]",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_refused_is_named_in_chat_terms_with_its_plain_status(
    messages: list[Any], fields: dict[str, Any], status: int, param: str, stream: bool
) -> None:
    async with served() as (server, _), httpx.AsyncClient(base_url=server.url) as client:
        body = {"model": "test", "messages": messages, "stream": stream, **fields}
        answer = await client.post("/chat/completions", json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["param"] == param


async def test_a_failure_before_the_first_word_is_a_plain_status_and_later_an_error_in_the_stream() -> None:
    async with served() as (_, client):
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await ask(client, user("die early"), stream=stream)
            assert caught.value.code == "engine_unavailable"
        seen: list[str] = []

        async def read() -> None:
            async for chunk in await ask(client, user("die late"), stream=True):
                seen.append(chunk.choices[0].delta.content or "")

        with pytest.raises(openai.APIError) as late:
            await read()
        assert "".join(seen)
        assert late.value.code == "engine_unavailable"


async def test_nothing_of_it_is_stored() -> None:
    async with served() as (server, client):
        await ask(client, user("hello"), store=True)
        assert len(server.app.services.chains) == 0


async def test_a_client_that_leaves_stops_its_turn() -> None:
    async with served() as (server, client):
        stream = await ask(client, user("forever"), stream=True)
        await anext(aiter(stream))
        await stream.close()
        async with asyncio.timeout(PATIENCE_S):
            await server.app.connections.wait_empty()
        assert [record.outcome for record in server.app.services.records.latest()] == ["cancelled"]
