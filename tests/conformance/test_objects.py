"""Response objects over HTTP, in every status, strictly as the contract has them; and what stands beside them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.support.event_order import check_response_events
from tests.support.live_server import LiveServer, live_server, open_socket, output_text
from tests.support.open_responses import check_schema
from tests.support.scripted_model import LOOK_UP, scripted_model

Json = dict[str, Any]

_KEYS = (
    "id object created_at completed_at status error incomplete_details instructions model output parallel_tool_calls"
    " previous_response_id reasoning store temperature top_p presence_penalty frequency_penalty top_logprobs text"
    " tool_choice tools truncation usage max_output_tokens max_tool_calls background service_tier metadata"
    " safety_identifier prompt_cache_key user"
)
KEYS = frozenset(_KEYS.split())  # docs/protocol.md §8; `conversation` only where there is one


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[LiveServer, httpx.AsyncClient]]:
    async with (
        live_server(scripted_model()) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        yield server, client


async def create(client: httpx.AsyncClient, **fields: Any) -> Json:
    answer = await client.post("/responses", json={"model": "test", **fields})
    found: Json = answer.json()
    return found


def check_object(response: Json, status: str, *extra: str) -> None:
    check_schema("ResponseResource", response)
    assert set(response) == KEYS | set(extra)
    assert response["status"] == status


def test_the_keys_are_those_that_the_contract_requires_and_user() -> None:
    complete: Json = dict.fromkeys(KEYS)
    for missing in KEYS - {"user"}:
        with pytest.raises(AssertionError):
            check_schema("ResponseResource", {name: value for name, value in complete.items() if name != missing})


async def test_completed_incomplete_and_failed() -> None:
    async with served() as (_, client):
        check_object(await create(client, input="think", tools=[LOOK_UP], metadata={"a": "b"}), "completed")
        check_object(await create(client, input="two steps", tools=[LOOK_UP]), "completed")
        check_object(await create(client, input="long", max_output_tokens=16), "incomplete")
        begun = await create(client, input="die late", background=True)
        check_object(begun, "queued")
        await _until(client, begun["id"], "failed")


async def test_queued_in_progress_and_cancelled() -> None:
    async with served() as (_, client):
        begun = await create(client, input="forever", background=True)
        check_object(begun, "queued")
        await _until(client, begun["id"], "in_progress")
        check_object((await client.post(f"/responses/{begun['id']}/cancel")).json(), "cancelled")
        check_object((await client.get(f"/responses/{begun['id']}")).json(), "cancelled")


async def _until(client: httpx.AsyncClient, response_id: str, status: str) -> None:
    """Asked for again and again, as clients do; every answer is whole."""
    async with asyncio.timeout(30):
        while True:
            found: Json = (await client.get(f"/responses/{response_id}")).json()
            check_object(found, found["status"])
            if found["status"] == status:
                return
            await asyncio.sleep(0)


async def test_a_response_of_a_conversation_names_it() -> None:
    async with served() as (_, client):
        conversation = (await client.post("/conversations", json={})).json()["id"]
        made = await create(client, input="hello", conversation=conversation)
        check_object(made, "completed", "conversation")
        assert made["conversation"] == {"id": conversation}
        check_object((await client.get(f"/responses/{made['id']}")).json(), "completed", "conversation")


async def test_the_items_of_a_response_are_the_contracts_in_both_directions() -> None:
    """What was given is listed as items, and what came out goes back in unchanged."""
    async with served() as (_, client):
        made = await create(client, input="two steps", tools=[LOOK_UP])
        (call,) = made["output"]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "found"}
        asked = {"role": "user", "content": "two steps"}
        again = await create(client, input=[asked, call, output], tools=[LOOK_UP])
        check_object(again, "completed")
        listed = (await client.get(f"/responses/{again['id']}/input_items", params={"order": "asc"})).json()
        assert listed["object"] == "list"
        assert [item["type"] for item in listed["data"]] == ["message", "function_call", "function_call_output"]
        for item in [*listed["data"], *again["output"]]:
            check_schema("ItemField", item)


async def test_what_is_left_out_is_absent_and_not_null() -> None:
    """docs/protocol.md §4.1: the strict contract takes absence, not null."""
    async with served() as (_, client):
        made = await create(client, input="think")
        for item in made["output"]:
            assert None not in item.values()
            assert not {"phase", "encrypted_content", "namespace", "created_by"} & set(item)


async def test_a_call_of_a_custom_tool_is_whole_and_goes_back_in() -> None:
    """OpenAI's alone: `tests/support/open_responses.py` says what it must have, the contract knows none."""
    shell = {"type": "custom", "name": "shell", "description": "Runs.", "format": {"type": "text"}}
    call = {"call": {"name": "shell", "input": "ls -l"}}
    script: list[Json] = [{"match": "^list", "turns": [call, {"text": "There is one."}]}]
    async with live_server(scripted_model(script)) as server, open_socket(server) as socket:
        events = await socket.turn(input="list", tools=[shell], store=False)
        final = check_response_events(events)
        assert "response.custom_tool_call_input.delta" in [event["type"] for event in events]
        (item,) = final["output"]
        assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "shell", "ls -l")
        output = {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": "a.txt"}
        asked = {"role": "user", "content": "list"}
        again = await socket.turn(input=[asked, item, output], tools=[shell], store=False)
        assert output_text(again) == "There is one."
