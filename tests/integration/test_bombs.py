"""Schemas and grammars built to cost minutes or gigabytes, against the whole server: refused by name; nobody else notices."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from tests.support.live_server import LiveServer, final_response, live_server, open_socket

from hotloop.app import start_model
from hotloop.config import ModelSettings
from hotloop.constraints.validator import DEADLINE_S


def function(schema: object) -> dict[str, object]:
    return {"type": "function", "name": "f", "strict": True, "parameters": schema}


def custom(syntax: str, definition: str) -> dict[str, object]:
    grammar = {"type": "grammar", "syntax": syntax, "definition": definition}
    return {"type": "custom", "name": "c", "format": grammar}


def one_of(depth: int) -> dict[str, Any]:
    """Twice as many branches with every level."""
    schema: dict[str, Any] = {"type": "string"}
    for level in range(depth):
        schema = {"oneOf": [schema, {"type": "object", "properties": {f"p{level}": schema}}]}
    return schema


def nested_arrays(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


def shared_one_of(depth: int) -> dict[str, Any]:
    """The same, written once for each level: short, and as many branches."""
    definitions: dict[str, Any] = {"l0": {"type": "string"}}
    for level in range(1, depth + 1):
        below = {"$ref": f"#/$defs/l{level - 1}"}
        definitions[f"l{level}"] = {"oneOf": [below, {"type": "object", "properties": {f"p{level}": below}}]}
    return {
        "type": "object",
        "properties": {"a": {"$ref": f"#/$defs/l{depth}"}},
        "required": ["a"],
        "$defs": definitions,
    }


EACH_OTHER = {"x": {"$ref": "#/$defs/y"}, "y": {"$ref": "#/$defs/x"}}

PLAIN: dict[str, object] = {"type": "function", "name": "plain"}
PARAMETERS, DEFINITION = "tools[1].parameters", "tools[1].format.definition"
TOOL_BOMBS: list[tuple[str, dict[str, object]]] = [
    (PARAMETERS, function({"type": "object", "properties": {"a": one_of(12)}})),
    (PARAMETERS, function(shared_one_of(20))),
    (PARAMETERS, function({"$ref": "#"})),
    (PARAMETERS, function({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "required": ["a"],
                           "$defs": EACH_OTHER})),
    (PARAMETERS, function({"type": "object", "properties": {"a": {"type": "string", "pattern": "(a{1000}){1000}"}},
                           "required": ["a"]})),
    (PARAMETERS, function({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(50_000)}})),
    (DEFINITION, custom("lark", "start: " + "(" * 60_000 + '"a"' + ")" * 60_000)),
    (DEFINITION, custom("regex", "((a{100}){100}){100}")),
    (DEFINITION, custom("regex", "(" * 60_000)),
]  # fmt: skip
HARMLESS = function(
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "required": ["a"]}
)  # a trap for engines that backtrack; this one does not


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[LiveServer, httpx.AsyncClient]]:
    model = await start_model(ModelSettings())
    async with live_server(model) as server, httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield server, client


async def create(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/responses", json={"model": "tiny", "input": "go", "store": False, **fields})


async def test_every_bomb_is_refused_by_name_while_another_stream_goes_on() -> None:
    async with served() as (server, client):

        async def others() -> list[int]:
            return [(await create(client, max_output_tokens=8)).status_code for _ in range(20)]

        going_on = asyncio.create_task(others())
        answers = await asyncio.gather(*(create(client, tools=[PLAIN, bomb]) for _, bomb in TOOL_BOMBS))
        for (param, _), answer in zip(TOOL_BOMBS, answers, strict=True):
            assert answer.status_code == 400, answer.text
            error = answer.json()["error"]
            assert (error["code"], error["param"]) == ("schema_too_complex", param), answer.text
        many = await create(client, tools=[{**PLAIN, "name": f"t{n}"} for n in range(100_000)])
        assert (many.json()["error"]["code"], many.json()["error"]["param"]) == ("schema_too_complex", "tools")
        assert await going_on == [200] * 20
        records = server.app.services.records.latest()
        refused = [record for record in records if record.outcome.endswith("schema_too_complex")]
        assert len(refused) == len(TOOL_BOMBS) + 1
        assert not any(record.submitted or record.usage.output_tokens for record in refused)  # the engine saw none
        assert DEADLINE_S <= 2.5  # and no verdict takes longer, once a child is there


async def test_bombs_of_the_text_format_are_refused_by_name() -> None:
    async with served() as (_, client):
        for schema in ({"$ref": "#"}, one_of(12)):
            answer = await create(client, text={"format": {"type": "json_schema", "name": "x", "schema": schema}})
            assert answer.json()["error"]["code"] == "schema_too_complex", answer.text
            assert answer.json()["error"]["param"] == "text.format.schema"
        for depth in (1_000, 500_000):
            body = b'{"model":"tiny","input":"go","text":{"format":{"type":"json_schema","name":"x","schema":%b}}}'
            answer = await client.post("/responses", content=body % nested_arrays(depth).encode())
            assert answer.status_code == 400, answer.text[:300]
        assert (await create(client, max_output_tokens=4)).status_code == 200


async def test_on_a_socket_a_bomb_ends_in_response_failed() -> None:
    async with served() as (server, _), open_socket(server) as socket:
        events = await socket.turn(model="tiny", input="go", store=False, tools=[PLAIN, TOOL_BOMBS[2][1]])
        assert events[0]["type"] == "response.created" and events[-1]["type"] == "response.failed"
        assert final_response(events)["error"]["code"] == "schema_too_complex"


async def test_what_only_looks_like_a_bomb_is_served() -> None:
    async with served() as (_, client):
        answer = await create(client, tools=[HARMLESS], tool_choice="required", max_output_tokens=64)
        assert answer.status_code == 200
        calls = [item for item in answer.json()["output"] if item["type"] == "function_call"]
        assert calls and '{"a": "a' in calls[0]["arguments"]
