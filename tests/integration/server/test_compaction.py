"""Compaction in all three ways it can be asked for, over both transports: only what was summed up is gone."""

from typing import Any

import httpx
import pytest
from tests.support.doors import TRANSPORTS, Ask, Json, door
from tests.support.live_server import LiveServer, live_server, open_socket
from tests.support.scripted_model import LOOK_UP, scripted_model

from hotloop.protocol.typed_calls import SUMMARY_PROMPT

SUMMARY = "The summary: the word is plum."
SCRIPT: list[Json] = [
    {"match": "^Summarize this conversation", "turns": [{"reasoning": "hm", "text": SUMMARY}]},
    {"match": "^ask for the word", "turns": [{"text": "plum", "requires_history": SUMMARY}]},
    {"match": "^tell", "turns": [{"text": "word " * 400}]},
    {"match": "^use a tool", "turns": [{"call": {"name": "look_up", "arguments": {"key": "a"}}}, {"text": "used"}]},
    {"match": "^hello", "turns": [{"text": "hello"}]},
]
SHORT: list[Json] = [{"match": "^tell", "turns": [{"text": "word " * 80}]}, *SCRIPT]
FAILING: list[Json] = [
    {"match": "^Summarize", "turns": [{"text": "half", "fail": {"reason": "unavailable", "after_tokens": 1}}]},
    *SCRIPT[2:],
]


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def says(response: Json) -> str:
    found: str = response["output"][-1]["content"][0]["text"]
    return found


def threshold(tokens: int) -> Json:
    return {"context_management": [{"type": "compaction", "compact_threshold": tokens}]}


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_trigger_gives_exactly_one_compaction_item_and_a_shorter_chain(transport: str, store: bool) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        first = await ask(input=[user("tell me")])
        trigger = {"type": "compaction_trigger"}
        compacted = await ask(input=[trigger], previous_response_id=first["id"], store=store)
        (item,) = compacted["output"]
        assert (compacted["status"], item["type"]) == ("completed", "compaction")
        assert SUMMARY not in item["encrypted_content"]
        assert compacted["usage"]["input_tokens"] < first["usage"]["input_tokens"] + first["usage"]["output_tokens"]
        # As a client goes on that keeps the history itself, on a new chain.
        fresh = await ask(input=[user("tell me"), item, user("ask for the word")], store=False)
        assert says(fresh) == "plum"
        if store or transport == "websocket":
            after = await ask(input=[user("ask for the word")], previous_response_id=compacted["id"])
            assert says(after) == "plum"
        # The original is still there for whoever goes on from it.
        before = await ask(input=[user("hello")], previous_response_id=first["id"])
        assert before["usage"]["input_tokens"] > first["usage"]["output_tokens"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_past_its_threshold_a_context_is_compacted_in_the_same_response(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (server, ask):
        fields = {**threshold(1500), "tools": [LOOK_UP]}
        first = await ask(input=[user("tell me")], **fields)
        assert [item["type"] for item in first["output"]] == ["message"]
        second = await ask(input=[user("ask for the word")], previous_response_id=first["id"], **fields)
        assert [item["type"] for item in second["output"]] == ["compaction", "message"]
        assert says(second) == "plum"
        assert second["usage"]["input_tokens"] < 1500
        third = await ask(input=[user("ask for the word")], previous_response_id=second["id"], **fields)
        assert [item["type"] for item in third["output"]] == ["message"]
        assert server.app.services.records.latest()[-1].fallbacks == ()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_warm_up_is_never_compacted(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        warm = await ask(input=[user("tell me " * 300)], generate=False, **threshold(100))
        assert (warm["status"], warm["output"]) == ("completed", [])
        assert warm["usage"]["input_tokens"] > 100
        assert warm["usage"]["output_tokens"] == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_conversation_keeps_all_its_items_whatever_the_threshold(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (server, ask):
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            made = (await client.post("/conversations", json={})).json()
            for _ in range(2):
                response = await ask(input=[user("tell me")], conversation=made["id"], **threshold(100))
                assert [item["type"] for item in response["output"]] == ["message"]
            items = (await client.get(f"/conversations/{made['id']}/items")).json()["data"]
        assert [item["type"] for item in items] == ["message"] * 4


async def chain_of(ask: Ask, turns: int, limit: int) -> list[Json]:
    fields = threshold(limit)
    responses = [await ask(input=[user("tell 0")], **fields)]
    for number in range(1, turns):
        last = responses[-1]["id"]
        responses.append(await ask(input=[user(f"tell {number}")], previous_response_id=last, **fields))
    return responses


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_chain_stays_below_its_threshold_for_fifty_turns(transport: str) -> None:
    async with door(transport, scripted_model(SHORT)) as (_, ask):
        limit = 2_400
        responses = await chain_of(ask, 50, limit)
        assert all(response["status"] == "completed" for response in responses)
        assert all(response["usage"]["input_tokens"] < limit for response in responses)
        compactions = sum(response["output"][0]["type"] == "compaction" for response in responses)
        assert 0 < compactions < 25
        asked = await ask(input=[user("ask for the word")], previous_response_id=responses[-1]["id"])
        assert says(asked) == "plum"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_compaction_that_fails_loses_nothing(transport: str) -> None:
    async with door(transport, scripted_model(FAILING)) as (server, ask):
        store = transport == "http"  # on a connection the cache alone has it
        first = await ask(input=[user("tell me")], store=store)
        trigger = {"type": "compaction_trigger"}
        failed = await ask(input=[trigger], previous_response_id=first["id"], store=store)
        assert "error" in failed
        assert failed["error"] is not None
        second = await ask(input=[user("hello")], previous_response_id=first["id"], store=store, **threshold(100))
        assert [item["type"] for item in second["output"]] == ["message"]
        assert "compaction_failed" in server.app.services.records.latest()[-1].fallbacks
        assert second["usage"]["input_tokens"] > first["usage"]["output_tokens"]


async def test_the_events_of_a_compaction() -> None:
    async with live_server(scripted_model(SCRIPT)) as server, open_socket(server) as socket:
        events = await socket.turn(input=[user("hello"), {"type": "compaction_trigger"}], store=False)
        assert [event["type"].removeprefix("response.") for event in events] == [
            "created",
            "in_progress",
            "output_item.added",
            "compaction.compacting",
            "output_item.done",
            "completed",
        ]
        assert events[2]["item"]["encrypted_content"] == ""


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_tool_loop_goes_on_behind_its_compaction(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        first = await ask(input=[user("use a tool")], tools=[LOOK_UP])
        (call,) = first["output"]
        answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "x" * 3000}
        second = await ask(input=[answer], previous_response_id=first["id"], tools=[LOOK_UP], **threshold(1500))
        assert second["output"][0]["type"] == "compaction"
        assert second["status"] == "completed"
        refused = await ask(input=[answer], previous_response_id=second["id"], tools=[LOOK_UP])
        assert refused["error"]["param"] == "input"  # its call is summed up


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_trigger_that_is_not_last_is_refused(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        refused = await ask(input=[{"type": "compaction_trigger"}, user("hello")])
        assert (refused["error"]["code"], refused["error"]["param"]) == ("invalid_value", "input")
        for sealed in ("nonsense", ""):
            refused = await ask(input=[{"type": "compaction", "encrypted_content": sealed}, user("hello")])
            assert (refused["error"]["code"], refused["error"]["param"]) == ("invalid_encrypted_content", "input")


async def compact(server: LiveServer, **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        return await client.post("/responses/compact", json=fields)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_compact_endpoint_gives_what_a_new_chain_begins_with(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (server, ask):
        first = await ask(input=[user("tell me")])
        for fields in (
            {"input": [user("tell me"), *first["output"]], "prompt_cache_key": "k"},
            {"input": [user("and more")], "previous_response_id": first["id"], "instructions": "Be brief."},
            {"input": "tell me"},
            {"input": [user("tell me"), {"type": "compaction_trigger"}]},
        ):
            answer = await compact(server, model="test", **fields)
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert body["object"] == "response.compaction"
            assert set(body) == {"id", "object", "created_at", "output", "usage"}
            assert [item["type"] for item in body["output"][:-1]] == ["message"] * (len(body["output"]) - 1)
            assert body["output"][-1]["type"] == "compaction"
            assert body["output"][0]["role"] == "user"
            after = await ask(input=[*body["output"], user("ask for the word")], store=False, tools=[])
            assert says(after) == "plum"


async def test_the_compact_endpoint_refuses_by_name() -> None:
    async with live_server(scripted_model(FAILING)) as server:
        assert (await compact(server, input="hello")).json()["error"]["param"] == "model"
        assert (await compact(server, model="gone", input="hello")).status_code == 404
        gone = await compact(server, model="test", previous_response_id="resp_gone")
        assert gone.json()["error"]["code"] == "previous_response_not_found"
        assert (await compact(server, model="test", input="hello")).status_code == 503
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/responses/compact")).status_code == 405


LONG = "word " * 300


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_truncation_drops_the_oldest_items_and_says_so(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT, context_tokens=4000)) as (server, ask):
        history = [user(f"{number} {LONG}") for number in range(10)]
        refused = await ask(input=[*history, user("hello")])
        assert refused["error"]["code"] == "context_length_exceeded"
        cut = await ask(input=[*history, user("hello")], truncation="auto")
        assert says(cut) == "hello"
        assert cut["usage"]["input_tokens"] < 4000
        assert "truncated" in server.app.services.records.latest()[-1].fallbacks
        after = await ask(input=[user("hello")], previous_response_id=cut["id"], truncation="auto")
        assert says(after) == "hello"
        one = await ask(input=[user(LONG * 10)], truncation="auto")
        assert one["error"]["code"] == "context_length_exceeded"


def test_the_prompt_is_what_the_script_is_asked() -> None:
    assert SUMMARY_PROMPT.startswith("Summarize this conversation")
