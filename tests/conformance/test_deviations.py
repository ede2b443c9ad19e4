"""Where hotloop takes more, or answers otherwise, than one of the two specifications says (docs/compatibility.md)."""

import json
from typing import Any

import httpx
import pytest
from tests.support.event_order import check_response_events
from tests.support.live_server import live_server, open_socket
from tests.support.scripted_model import LOOK_UP, scripted_model

Json = dict[str, Any]

_NAMESPACE = {"type": "namespace", "name": "tools", "description": "Some.", "tools": [LOOK_UP]}
_SEARCH = {"type": "web_search", "external_web_access": False}

# Fields that are taken without effect, and what the response object says of them.
WITHOUT_EFFECT: list[tuple[str, Json, Json]] = [
    ("unknown fields", {"brand_new": [1], "client_metadata": {"a": "b"}}, {}),
    ("null for absent", {"tools": None, "metadata": None, "top_p": None, "store": None}, {"metadata": {}, "store": True}),
    ("unknown includes", {"include": ["file_search_call.results"]}, {}),
    ("obfuscation", {"stream_options": {"include_obfuscation": True}}, {}),
    ("truncation", {"truncation": "auto"}, {"truncation": "auto"}),
    ("a threshold for compaction", {"context_management": [{"type": "compaction", "compact_threshold": 10_000}]}, {}),
    ("max_tool_calls", {"max_tool_calls": 1}, {"max_tool_calls": 1}),
    ("another tier", {"service_tier": "flex"}, {"service_tier": "default"}),
    ("a tier of OpenAI's", {"service_tier": "fast"}, {"service_tier": "default"}),
    ("a long safety identifier", {"safety_identifier": "s" * 128}, {"safety_identifier": "s" * 128}),
    ("few output tokens", {"max_output_tokens": 2}, {"max_output_tokens": 2, "status": "incomplete"}),
    ("efforts of OpenAI's", {"reasoning": {"effort": "minimal"}}, {"reasoning": {"effort": "minimal", "summary": None}}),
    ("a namespace of tools", {"tools": [_NAMESPACE]}, {"tools": [_NAMESPACE]}),
    ("a hosted tool", {"tools": [_SEARCH]}, {"tools": [_SEARCH]}),
    ("a message without its type", {"input": [{"role": "user", "content": "hello"}]}, {}),
    ("a cache breakpoint", {"input": [{"role": "user", "content": [{
        "type": "input_text", "text": "hello", "prompt_cache_breakpoint": {"mode": "explicit"}}]}]}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fields", "echo"), WITHOUT_EFFECT, ids=[row[0] for row in WITHOUT_EFFECT])
async def test_it_is_taken_over_both_transports(name: str, fields: Json, echo: Json) -> None:
    body: Json = {"model": "test", "input": "hello", **fields}
    async with (
        live_server(scripted_model()) as server,
        open_socket(server) as socket,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        answer = await client.post("/responses", json=body)
        assert answer.status_code == 200, answer.text
        events = await socket.turn(**{**body, "stream": True})  # real clients send `stream` there
        final = check_response_events(events)
        assert not any("obfuscation" in event for event in events)
    for response in (answer.json(), final):
        expected: Json = {"status": "completed", **echo}
        assert {key: response[key] for key in expected} == expected


async def test_a_form_is_no_body() -> None:
    """Open Responses names `application/x-www-form-urlencoded` beside JSON; no client is known to send it."""
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.post("/responses", data={"model": "test", "input": "hello"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


async def test_an_item_that_brings_tools_is_listed_as_it_came() -> None:
    item = {"type": "additional_tools", "role": "developer", "tools": [_NAMESPACE]}
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        body = {"model": "test", "input": [item, {"role": "user", "content": "hello"}]}
        answer = await client.post("/responses", json=body)
        assert answer.status_code == 200, answer.text
        listed = await client.get(f"/responses/{answer.json()['id']}/input_items", params={"order": "asc"})
        carried = listed.json()["data"][0]
        assert carried["type"] == "additional_tools"
        assert json.dumps(carried["tools"]) == json.dumps([_NAMESPACE])


async def test_the_echo_of_a_schema_is_the_schema() -> None:
    """The contract's own type for it allows null only."""
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        answer = await client.post("/responses", json={"model": "test", "input": "hello", "text": {"format": form}})
        assert answer.json()["text"]["format"]["schema"] == form["schema"]


async def test_raw_reasoning_comes_back_as_it_went_out() -> None:
    """The contract's reasoning item for input knows a summary only."""
    async with live_server(scripted_model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        first = (await client.post("/responses", json={"model": "test", "input": "think", "store": False})).json()
        asked = {"role": "user", "content": "think"}
        history = [asked, *first["output"], {"role": "user", "content": "hello"}]
        assert first["output"][0]["content"][0]["type"] == "reasoning_text"
        answer = await client.post("/responses", json={"model": "test", "input": history, "store": False})
        assert answer.status_code == 200, answer.text
