"""Stored responses over HTTP, through the openai-python client: retrieve, delete, cancel, input items, input tokens."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, BaseModel
from openai.types.responses import Response
from tests.support.event_order import check_response_events
from tests.support.live_server import LiveServer, final_response, live_server, open_socket
from tests.support.scripted_model import LOOK_UP, scripted_model

from hotloop.config import ServerSettings

Json = dict[str, Any]


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[tuple[LiveServer, AsyncOpenAI]]:
    async with (
        live_server(scripted_model(), ServerSettings(port=0, **settings)) as server,
        AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):
        yield server, client


async def create(client: AsyncOpenAI, **fields: Any) -> Response:
    """A response made with fields that are known at run time only."""
    make: Any = client.responses.create
    made: Response = await make(model="test", **fields)
    return made


def text_of(item: BaseModel) -> str:
    """Text of a message as the listing shows it."""
    shown: Any = item.to_dict()
    text: str = shown["content"][0]["text"]
    return text


async def test_a_deleted_response_can_be_neither_read_nor_continued() -> None:
    async with served() as (_, client):
        first = await client.responses.create(model="test", input="hello")
        assert (await client.responses.retrieve(first.id)).output_text == first.output_text
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_items.list(first.id)
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="test", input="remember", previous_response_id=first.id)
        assert caught.value.code == "previous_response_not_found"


async def test_the_input_items_of_a_response_come_in_pages_and_either_order() -> None:
    async with served() as (_, client):
        texts = [f"hello {number}" for number in range(5)]
        first = await client.responses.create(model="test", input=[{"role": "user", "content": text} for text in texts])
        listed = await client.responses.input_items.list(first.id, order="asc", limit=2)
        assert (len(listed.data), listed.has_more) == (2, True)
        everything = [item async for item in listed]
        assert [text_of(item) for item in everything] == texts
        backwards = await client.responses.input_items.list(first.id, include=["reasoning.encrypted_content"])
        assert [item.id for item in backwards.data] == [item.id for item in reversed(everything)]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.input_items.list(first.id, after="msg_none")
        assert caught.value.param == "after"
        for limit in (0, 101):
            with pytest.raises(openai.BadRequestError):
                await client.responses.input_items.list(first.id, limit=limit)


async def test_the_input_items_of_a_continuation_are_its_own() -> None:
    async with served() as (_, client):
        first = await client.responses.create(model="test", input="hello, the magic word is plum")
        second = await client.responses.create(model="test", input="remember", previous_response_id=first.id)
        (only,) = (await client.responses.input_items.list(second.id)).data
        assert text_of(only) == "remember"


async def test_an_item_can_be_sent_again_by_its_id() -> None:
    async with served() as (_, client):
        first = await client.responses.create(model="test", input="hello, the magic word is plum")
        (asked,) = (await client.responses.input_items.list(first.id)).data
        assert asked.id is not None
        references: Any = [{"type": "item_reference", "id": item_id} for item_id in (asked.id, first.output[0].id)]
        again = await client.responses.create(
            model="test", input=[*references, {"role": "user", "content": "remember"}]
        )
        assert again.output_text == "I do."
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.create(model="test", input=[{"type": "item_reference", "id": "msg_none"}])
        assert caught.value.body == {
            "type": "invalid_request_error",
            "code": "item_not_found",
            "message": "Item with id 'msg_none' not found.",
            "param": "input[0].id",
        }


@pytest.mark.parametrize("with_tools", [False, True])
async def test_the_tokens_counted_are_the_tokens_of_the_turn(with_tools: bool) -> None:
    tools: Any = {"tools": [LOOK_UP]} if with_tools else {}
    async with served() as (server, client):
        counted = await client.responses.input_tokens.count(
            model="test", input="hello", instructions="Be brief.", **tools
        )
        assert counted.object == "response.input_tokens"
        first = await create(client, input="hello", instructions="Be brief.", **tools)
        assert first.usage is not None
        assert counted.input_tokens == first.usage.input_tokens
        follow: Any = {"input": "hello again", "previous_response_id": first.id, "instructions": "Be brief.", **tools}
        counted = await client.responses.input_tokens.count(model="test", **follow)
        second = await create(client, **follow)
        assert second.usage is not None
        assert counted.input_tokens == second.usage.input_tokens
        assert second.usage.input_tokens_details.cached_tokens > 0
        assert len(server.app.services.records.latest()) == 2  # counting is no turn


async def test_counting_refuses_what_a_turn_would_refuse_but_not_what_is_too_long() -> None:
    async with served() as (_, client):
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_tokens.count(model="nobody", input="hello")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.input_tokens.count(model="test", input="hi", previous_response_id="resp_none")
        assert caught.value.code == "previous_response_not_found"
        counted = await client.responses.input_tokens.count(model="test", input="word " * 150_000)
        assert counted.input_tokens > 100_000


async def test_only_a_background_response_can_be_cancelled() -> None:
    async with served() as (_, client):
        first = await client.responses.create(model="test", input="hello")
        with pytest.raises(openai.BadRequestError):
            await client.responses.cancel(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.cancel("resp_none")


_NULLABLE = (
    "completed_at error incomplete_details instructions max_output_tokens max_tool_calls previous_response_id"
    " prompt_cache_key reasoning safety_identifier usage user"
)
_ALWAYS = (
    "id object created_at status model output parallel_tool_calls store temperature top_p presence_penalty"
    " frequency_penalty top_logprobs text tool_choice tools truncation background service_tier metadata"
)
KEYS = {*_NULLABLE.split(), *_ALWAYS.split()}
ASKED: dict[str, Any] = {
    "input": "two steps",
    "instructions": "Be brief.",
    "tools": [
        LOOK_UP,
        {"type": "function", "name": "bare"},
        {"type": "custom", "name": "shell", "description": "Runs.", "format": {"type": "text"}},
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look_up"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "metadata": {"k": "v"},
    "temperature": 0.5,
    "service_tier": "auto",
    "safety_identifier": "s",
    "prompt_cache_key": "p",
}
_OWN = ("id", "call_id", "item_id", "created_at", "completed_at", "cached_tokens")


def without_own(value: Any) -> Any:
    """The same without what differs from one run to the next: ids, times, what the engine had in its KV."""
    if isinstance(value, dict):
        entries: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {
            name: None if name in _OWN and entry is not None else without_own(entry) for name, entry in entries.items()
        }
    if isinstance(value, list):
        return [without_own(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
    return value


async def test_both_transports_give_the_same_events_and_objects_with_every_key() -> None:
    # Each on a server of its own: a second request would find the first one's tokens and count them as cached.
    async with served() as (server, _), open_socket(server) as socket:
        on_socket = await socket.turn(**ASKED)
    async with served() as (_, client):
        raw: Any = client.responses.with_raw_response
        plain = json.loads((await raw.create(model="test", **ASKED)).text)
    async with served() as (_, client):
        raw = client.responses.with_raw_response
        text: bytes = await (await raw.create(model="test", stream=True, **ASKED)).http_response.aread()
    blocks = text.decode().split("\n\n")
    on_http = [json.loads(block.split("\ndata: ")[1]) for block in blocks if block.startswith("event: ")]
    check_response_events(on_socket)
    check_response_events(on_http)
    assert without_own(on_http) == without_own(on_socket)
    assert without_own(plain) == without_own(final_response(on_socket))
    for event in on_socket:
        if "response" in event:
            assert set(event["response"]) == KEYS
    final = final_response(on_socket)
    assert final["tools"][1] == {
        "type": "function",
        "name": "bare",
        "description": None,
        "parameters": None,
        "strict": None,
    }
    assert final["text"]["format"] == {
        "type": "json_schema",
        "name": "n",
        "description": None,
        "schema": {"type": "object"},
        "strict": False,
    }
    assert final["reasoning"] == {"effort": "low", "summary": None}
    assert isinstance(final["service_tier"], str)
    assert set(final["usage"]["input_tokens_details"]) == {"cached_tokens", "cache_write_tokens"}
    assert set(final["usage"]["output_tokens_details"]) == {"reasoning_tokens"}


async def test_the_names_of_raw_reasoning_events_are_a_setting() -> None:
    for setting, stem in (("openai", "response.reasoning_text"), ("open_responses", "response.reasoning")):
        async with served(reasoning_events=setting) as (server, _), open_socket(server) as socket:
            kinds = [event["type"] for event in await socket.turn(input="think")]
            assert f"{stem}.delta" in kinds
            assert f"{stem}.done" in kinds


async def test_a_deleted_response_leaves_no_tokens_behind() -> None:
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        services = server.app.services

        async def create(**fields: Any) -> Json:
            found: Json = (await client.post("/responses", json={"model": "test", **fields})).json()
            return found

        hello = {"role": "user", "content": "hello"}
        first = await create(input=[hello])
        second = await create(input=[hello], previous_response_id=first["id"])
        points = len(services.prefixes)
        assert points > 0
        await client.delete(f"/responses/{first['id']}")
        assert 0 < len(services.prefixes) < points
        await client.delete(f"/responses/{second['id']}")
        assert (len(services.prefixes), services.prefixes.total_bytes, len(services.chains)) == (0, 0, 0)
        assert services.models["test"].kept_bytes == 0
        await create(input=[hello, *first["output"], hello])  # what is known of its beginning is not its content
        assert services.records.latest()[-1].fallbacks == ("history_unknown",)


async def test_a_deleted_conversation_leaves_no_tokens_behind() -> None:
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        services = server.app.services
        conversation = (await client.post("/conversations", json={})).json()["id"]
        for _ in range(3):
            body = {"model": "test", "input": "hello", "conversation": conversation, "store": False}
            assert (await client.post("/responses", json=body)).status_code == 200
        assert len(services.prefixes) > 0
        assert (await client.delete(f"/conversations/{conversation}")).status_code == 200
        assert (len(services.prefixes), services.models["test"].kept_bytes) == (0, 0)
