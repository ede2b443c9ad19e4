"""Conversations over HTTP, through the openai-python client, and on both transports as the context of responses."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from tests.support.event_order import check_response_events
from tests.support.live_server import LiveServer, final_response, live_server, open_socket, output_text
from tests.support.scripted_model import LOOK_UP, scripted_model

from hotloop.config import ServerSettings


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[tuple[LiveServer, AsyncOpenAI]]:
    async with (
        live_server(scripted_model(), ServerSettings(port=0, **settings)) as server,
        AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):
        yield server, client


def user(text: str, **fields: Any) -> Any:
    return {"type": "message", "role": "user", "content": text, **fields}


async def shown(client: AsyncOpenAI, conversation_id: str) -> list[Any]:
    """All items, oldest first, as the listing shows them."""
    listed = await client.conversations.items.list(conversation_id, order="asc", limit=2)
    return [item.to_dict() async for item in listed]


def texts(items: list[Any]) -> list[str]:
    return [item["content"][0]["text"] for item in items if item["type"] == "message"]


async def test_a_conversation_is_made_read_changed_and_deleted() -> None:
    async with served() as (_, client):
        made = await client.conversations.create(metadata={"topic": "plums"}, items=[user("one"), user("two")])
        assert (made.object, made.metadata) == ("conversation", {"topic": "plums"})
        assert await client.conversations.retrieve(made.id) == made
        assert texts(await shown(client, made.id)) == ["one", "two"]
        changed = await client.conversations.update(made.id, metadata={"topic": "pears"})
        assert changed.metadata == {"topic": "pears"}
        assert (await client.conversations.retrieve(made.id)).metadata == {"topic": "pears"}
        gone = await client.conversations.delete(made.id)
        assert (gone.id, gone.deleted, gone.object) == (made.id, True, "conversation.deleted")
        for call in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
            with pytest.raises(openai.NotFoundError) as caught:
                await call(made.id)
            assert caught.value.code == "conversation_not_found"


async def test_items_are_added_read_and_taken_out_one_by_one() -> None:
    async with served() as (_, client):
        made = await client.conversations.create()
        added = await client.conversations.items.create(
            made.id, items=[user("one", id="msg_mine"), user("two"), user("three")]
        )
        ids = [item.to_dict()["id"] for item in added.data]
        assert ids[0] == "msg_mine"
        assert (added.first_id, added.last_id, added.has_more) == (ids[0], ids[2], False)
        one = await client.conversations.items.retrieve("msg_mine", conversation_id=made.id)
        assert texts([one.to_dict()]) == ["one"]
        left = await client.conversations.items.delete("msg_mine", conversation_id=made.id)
        assert left.id == made.id
        assert texts(await shown(client, made.id)) == ["two", "three"]
        for call in (client.conversations.items.retrieve, client.conversations.items.delete):
            with pytest.raises(openai.NotFoundError) as caught:
                await call("msg_mine", conversation_id=made.id)
            assert caught.value.code == "item_not_found"
        copied: Any = [{"type": "item_reference", "id": ids[1]}]
        other = await client.conversations.create(items=copied)
        assert texts(await shown(client, other.id)) == ["two"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"items": [user("x")] * 21}, "items"),
        ({"items": [{"type": "message", "role": "user"}]}, "items[0].content"),
        ({"items": [user("x", id="a"), user("y", id="a")]}, "items[1].id"),
        ({"items": [{"type": "item_reference", "id": "msg_none"}]}, "items[0].id"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ],
)
async def test_what_cannot_be_in_a_conversation_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    async with served() as (_, client):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.conversations.create(**fields)
        assert caught.value.status_code in (400, 404)
        body: Any = caught.value.body
        assert body["param"] == param


async def test_responses_of_a_conversation_build_on_each_other_on_either_transport() -> None:
    async with served() as (server, client), open_socket(server) as socket:
        made = await client.conversations.create(items=[user("the magic word is plum")])
        first = await client.responses.create(model="test", input="hello", conversation=made.id, store=False)
        assert first.conversation is not None
        assert first.conversation.id == made.id
        events = await socket.turn(input="remember", conversation={"id": made.id})
        check_response_events(events)
        assert output_text(events) == "I do."
        assert final_response(events)["conversation"] == {"id": made.id}
        assert texts(await shown(client, made.id)) == [
            "the magic word is plum",
            "hello",
            first.output_text,
            "remember",
            "I do.",
        ]
        counted = await client.responses.input_tokens.count(model="test", input="hello", conversation=made.id)
        third = await client.responses.create(model="test", input="hello", conversation=made.id)
        assert third.usage is not None
        assert counted.input_tokens == third.usage.input_tokens


async def test_a_hot_conversation_sends_only_what_is_new_until_it_is_changed_by_hand() -> None:
    async with served() as (server, client):
        made = await client.conversations.create()
        for _ in range(3):
            await client.responses.create(model="test", input="hello", conversation=made.id)
        await client.conversations.items.create(made.id, items=[user("by hand")])
        await client.responses.create(model="test", input="hello", conversation=made.id)
        fallbacks = [list(record.fallbacks) for record in server.app.services.records.latest()]
        assert fallbacks[:3] == [[], [], []]
        assert fallbacks[3] != []


async def test_calls_of_a_conversation_are_answered_in_the_next_response() -> None:
    async with served() as (_, client):
        made = await client.conversations.create()
        tools: Any = [LOOK_UP]
        first = await client.responses.create(model="test", input="two steps", tools=tools, conversation=made.id)
        call: Any = first.output[0]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="test", input="hello", tools=tools, conversation=made.id)
        assert caught.value.param == "input"
        answer: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "found"}]
        second = await client.responses.create(model="test", input=answer, tools=tools, conversation=made.id)
        assert second.output[0].type == "function_call"


async def test_a_response_that_fails_leaves_its_conversation_as_it_was_and_free() -> None:
    async with served() as (server, client):
        made = await client.conversations.create(items=[user("before")])
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="test", input="die late", conversation=made.id)
        assert texts(await shown(client, made.id)) == ["before"]
        assert len(server.app.services.conversations) == 0
        await client.responses.create(model="test", input="hello", conversation=made.id)


async def test_a_second_response_at_the_same_time_is_refused_and_so_is_a_change_by_hand() -> None:
    async with served() as (server, client):
        made = await client.conversations.create(items=[user("before", id="msg_1")])
        running = await client.responses.create(model="test", input="forever", conversation=made.id, background=True)
        for attempt in (
            client.responses.create(model="test", input="hello", conversation=made.id),
            client.conversations.items.create(made.id, items=[user("x")]),
            client.conversations.items.delete("msg_1", conversation_id=made.id),
            client.conversations.delete(made.id),
        ):
            with pytest.raises(openai.ConflictError) as caught:
                await attempt
            assert (caught.value.code, caught.value.param) == ("conversation_locked", "conversation")
        await client.responses.cancel(running.id)
        assert len(server.app.services.conversations) == 0
        assert texts(await shown(client, made.id)) == ["before"]
        await client.responses.create(model="test", input="hello", conversation=made.id)


async def test_what_does_not_go_with_a_conversation_is_refused() -> None:
    async with served() as (server, client), open_socket(server) as socket:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.create(model="test", input="hello", conversation="conv_none")
        assert caught.value.code == "conversation_not_found"
        (error,) = await socket.turn(input="hello", conversation="conv_none")
        assert (error["status"], error["error"]["code"]) == (404, "conversation_not_found")
        with pytest.raises(openai.BadRequestError) as both:
            await client.responses.create(
                model="test", input="hello", conversation="conv_none", previous_response_id="resp_none"
            )
        assert both.value.param == "conversation"
