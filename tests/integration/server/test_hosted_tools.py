"""Real MCP servers behind a real server: over both transports of each, well-behaved and not."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.doors import TRANSPORTS, Ask, Json, door
from tests.support.live_server import LiveServer, live_server, open_socket
from tests.support.mcp_servers import http_server, stdio
from tests.support.scripted_model import scripted_model

from hotloop.config import ServerSettings


def called(name: str, **arguments: Any) -> Json:
    return {"call": {"name": name, "arguments": arguments}}


SCRIPT: list[Json] = [
    {
        "match": "^sum",
        "turns": [
            {"reasoning": "First the parts.", **called("honest__add", a=1, b=2)},
            {
                "calls": [
                    {"name": "honest__add", "arguments": {"a": 3, "b": 4}},
                    {"name": "honest__odd_name_with_signs", "arguments": {}},
                ]
            },
            {"text": "Done."},
        ],
    },
    {"match": "^rogue", "turns": [called("rogue__t"), {"text": "Never mind.", "requires_history": "Error: "}]},
    {"match": "^whoami", "turns": [called("honest__headers"), {"text": "Known."}]},
    {
        "match": "^note",
        "turns": [called("honest__note", text="milk"), {"text": "Noted.", "requires_history": "noted: milk"}],
    },
    {"match": "^hello", "turns": [{"text": "Hello."}]},
]
NEVER = {"type": "mcp", "server_label": "honest", "require_approval": "never"}
ALWAYS = {"type": "mcp", "server_label": "honest"}


@asynccontextmanager
async def served(transport: str, folder: Path, file: Json) -> AsyncGenerator[tuple[LiveServer, Ask]]:
    """A server with these tool servers."""
    path = folder / "tools.json"
    path.write_text(json.dumps(file))
    settings = ServerSettings(port=0, tool_servers=path)
    async with door(transport, scripted_model(SCRIPT), settings) as (server, ask):
        yield server, ask


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def calls(response: Json) -> list[Json]:
    return [item for item in response["output"] if item["type"] == "mcp_call"]


@pytest.mark.parametrize("kind", ["program", "configured url", "request's url"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tools_are_listed_called_and_told_inside_one_response(transport: str, kind: str, tmp_path: Path) -> None:
    async with http_server() as url:
        files: dict[str, Json] = {
            "program": {"servers": {"honest": stdio()}},
            "configured url": {"servers": {"honest": {"url": url}}},
            "request's url": {"allow_urls": [url]},
        }
        tool = {**NEVER, "server_url": url} if kind == "request's url" else NEVER
        async with served(transport, tmp_path, files[kind]) as (server, ask):
            first = await ask(input=[user("sum")], tools=[tool])
            assert [item["type"] for item in first["output"]] == [
                *("mcp_list_tools", "reasoning", "mcp_call", "mcp_call", "mcp_call", "message")
            ]
            assert [item["output"] for item in calls(first)] == ["3", "7", "odd"]
            second = await ask(input=[user("hello")], tools=[tool], previous_response_id=first["id"])
            assert [item["type"] for item in second["output"]] == ["message"]
            history = [user("sum"), *first["output"], *[user("hello")]]
            third = await ask(input=history, tools=[tool], store=False)
            assert [item["type"] for item in third["output"]] == ["message"]
            records = server.app.services.records.latest()
            assert records[0].rounds == 3
            # Reasoning goes when the user speaks again; the KV went along with the turn that came first.
            assert {name for record in records for name in record.fallbacks} <= {"reasoning_dropped", "kv_not_held"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stored_response_shows_its_hosted_items_and_consent_reaches_it(transport: str, tmp_path: Path) -> None:
    async with served(transport, tmp_path, {"servers": {"honest": stdio()}}) as (server, ask):
        first = await ask(input=[user("note")], tools=[ALWAYS])
        request = first["output"][1]
        assert request["type"] == "mcp_approval_request"
        consent = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
        server.app.services.chains.drop_connection(0)
        second = await ask(input=[consent], tools=[ALWAYS], previous_response_id=first["id"])
        assert calls(second)[0]["output"] == "noted: milk"
        assert second["output"][-1]["content"][0]["text"] == "Noted."
        async with httpx.AsyncClient(base_url=server.url) as client:
            shown = (await client.get(f"/responses/{second['id']}")).json()
            assert shown["output"] == second["output"]
            items = (await client.get(f"/responses/{second['id']}/input_items")).json()["data"]
            assert [item["type"] for item in items] == ["mcp_approval_response"]


async def test_the_whole_chain_may_come_from_the_store(tmp_path: Path) -> None:
    async with served("http", tmp_path, {"servers": {"honest": stdio()}}) as (server, ask):
        first = await ask(input=[user("note")], tools=[ALWAYS])
        consent = {"type": "mcp_approval_response", "approval_request_id": first["output"][1]["id"], "approve": True}
        chains = server.app.services.chains
        for key in list(chains._entries):
            chains._remove(key)
        server.app.services.prefixes.clear()
        second = await ask(input=[consent], tools=[ALWAYS], previous_response_id=first["id"])
        assert [item["type"] for item in second["output"]] == ["mcp_call", "message"]
        assert "state_not_kept" in server.app.services.records.latest()[-1].fallbacks


async def test_a_conversation_keeps_hosted_items(tmp_path: Path) -> None:
    async with served("http", tmp_path, {"servers": {"honest": stdio()}}) as (server, ask):
        client = httpx.AsyncClient(base_url=server.url)
        async with client:
            conversation = (await client.post("/conversations", json={})).json()["id"]
            first = await ask(input=[user("note")], tools=[NEVER], conversation=conversation)
            second = await ask(input=[user("hello")], tools=[NEVER], conversation=conversation)
            assert first["status"] == second["status"] == "completed"
            assert [item["type"] for item in second["output"]] == ["message"]
            listed = (await client.get(f"/conversations/{conversation}/items?order=asc")).json()["data"]
            assert [item["type"] for item in listed] == [
                *("message", "mcp_list_tools", "mcp_call", "message", "message", "message")
            ]


async def test_a_background_response_runs_calls_as_well(tmp_path: Path) -> None:
    async with served("http", tmp_path, {"servers": {"honest": stdio()}}) as (server, ask):
        queued = await ask(input=[user("note")], tools=[NEVER], background=True)
        client = httpx.AsyncClient(base_url=server.url, timeout=30)
        async with client, client.stream("GET", f"/responses/{queued['id']}?stream=true") as stream:
            lines = [line async for line in stream.aiter_lines() if line.startswith("data: {")]
        final = json.loads(lines[-1].removeprefix("data: "))["response"]
        assert calls(final)[0]["output"] == "noted: milk"


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("silent", "did not answer within"),
        ("garbage", "did not answer within"),
        ("old", "not MCP"),
        ("stillborn", "refused the session"),
        ("listless", "did not list"),
        ("many", "more than 256 tools"),
        ("monstrous", "bytes"),
        ("no-schema", "names a type that is none"),
        ("deep", "schema_too_complex"),
        ("same", "two tools of one name"),
    ],
)
async def test_a_list_that_cannot_be_had_is_a_failed_item_and_the_turn_goes_on(
    mode: str, words: str, tmp_path: Path
) -> None:
    hangs = mode in ("silent", "garbage")
    limits = {"connect_timeout_s": 0.5 if hangs else 30, "list_timeout_s": 0.5 if mode == "listless" else 30}
    file = {"servers": {"rogue": stdio("rogue", mode)}, "limits": limits}
    tools = [{"type": "mcp", "server_label": "rogue", "require_approval": "never"}]
    async with served("websocket", tmp_path, file) as (_, ask):
        response = await ask(input=[user("hello")], tools=tools)
        assert [item["type"] for item in response["output"]] == ["mcp_list_tools", "message"]
        assert words in response["output"][0]["error"]
        assert response["status"] == "completed"


@pytest.mark.parametrize("mode", ["die", "flood", "nonsense", "mute", "refuse"])
async def test_a_call_that_goes_wrong_is_a_failed_item_and_the_model_reads_it(mode: str, tmp_path: Path) -> None:
    limits = {"call_timeout_s": 0.5 if mode == "mute" else 30}
    file = {"servers": {"rogue": stdio("rogue", mode)}, "limits": limits}
    tools = [{"type": "mcp", "server_label": "rogue", "require_approval": "never"}]
    async with served("websocket", tmp_path, file) as (server, ask):
        response = await ask(input=[user("rogue")], tools=tools)
        (item,) = calls(response)
        assert (item["status"], item["output"]) == ("failed", None) and item["error"]["message"]
        assert response["output"][-1]["content"][0]["text"] == "Never mind."
        async with httpx.AsyncClient(base_url=server.url) as client:
            metrics = (await client.get(f"{server.url.removesuffix('/v1')}/metrics")).text
        assert 'tool_server_requests_total{action="call",outcome="failed",server="rogue"} 1.0' in metrics


async def test_credentials_reach_the_server_with_each_request_and_nobody_else(tmp_path: Path) -> None:
    async with http_server() as url, served("http", tmp_path, {"allow_urls": [url]}) as (_, ask):
        tool = {**NEVER, "server_url": url, "authorization": "s3cret-1", "headers": {"X-Team": "s3cret-2"}}
        first = await ask(input=[user("whoami")], tools=[tool])
        assert (
            calls(first)[0]["output"] == "Bearer s3cret-1 s3cret-2"
        )  # the test server says it aloud; hotloop does not
        (echoed,) = first["tools"]
        assert set(echoed) == {"type", "server_label", "server_url", "require_approval"}
        assert echoed["server_url"].endswith("/<redacted>")
        again = await ask(
            input=[user("whoami")], tools=[{**NEVER, "server_url": url}], previous_response_id=first["id"]
        )
        assert calls(again)[0]["output"] == "None None"


async def test_a_client_that_leaves_has_its_call_stopped(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = [{"match": "^wait", "turns": [called("honest__wait", path=str(told)), {"text": "Never."}]}]
    path = tmp_path / "tools.json"
    path.write_text(json.dumps({"servers": {"honest": stdio()}}))
    async with live_server(scripted_model(script), ServerSettings(port=0, tool_servers=path)) as server:
        opened = open_socket(server)
        async with opened as socket:
            await socket.send(input="wait", tools=[NEVER])
            while (await socket.receive())["type"] != "response.mcp_call_arguments.done":
                pass
            async with httpx.AsyncClient(base_url=server.url) as client:
                while not told.exists():
                    await client.get("/models")
                await socket.connection.close()
                while told.read_text() != "begun\nstopped\n":
                    await client.get("/models")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_may_not_be_connected_to_is_refused_by_field(transport: str, tmp_path: Path) -> None:
    async with served(transport, tmp_path, {"servers": {"honest": stdio()}}) as (_, ask):
        for fields, param in (
            ({"server_url": "https://tools.example.com/mcp"}, "tools[0].server_url"),
            ({"server_url": "http://127.0.0.1:1/"}, "tools[0].server_url"),
            ({"server_label": "nobody"}, "tools[0].server_label"),
            ({"connector_id": "connector_gmail"}, "tools[0].connector_id"),
            ({"authorization": "token"}, "tools[0].authorization"),
        ):
            refused = await ask(input=[user("hello")], tools=[{**NEVER, **fields}])
            assert refused["error"]["param"] == param, refused
        assert (await ask(input=[user("hello")], tools=[NEVER]))["status"] == "completed"
