"""Reasoning that a client carries: sealed on the way out, opened on the way in, over both transports."""

from pathlib import Path

import pytest
from tests.support.doors import TRANSPORTS, Json, door
from tests.support.scripted_model import scripted_model

from hotloop.config import ServerSettings

SCRIPT: list[Json] = [
    {
        "match": "^think",
        "turns": [
            {"reasoning": "the plum", "call": {"name": "ls", "arguments": {}}},
            {"text": "seen", "requires_history": "the plum"},
        ],
    },
    {"match": "^plainly", "turns": [{"reasoning": "aloud", "text": "said"}]},
]
LS = {"type": "function", "name": "ls"}
ASK: Json = {"type": "message", "role": "user", "content": "think"}
INCLUDE = ["reasoning.encrypted_content"]


def carried(item: Json) -> Json:
    """As a client keeps it that cannot read it."""
    return {"type": item["type"], "id": item["id"], "summary": [], "encrypted_content": item["encrypted_content"]}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_is_sealed_where_it_was_asked_for_or_nobody_else_keeps_it(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        for fields, is_sealed in (
            ({"store": True}, False),
            ({"store": True, "include": INCLUDE}, True),
            ({"store": False}, True),
            ({"store": False, "include": INCLUDE}, True),
        ):
            response = await ask(input="plainly", **fields)
            assert ("encrypted_content" in response["output"][0]) == is_sealed


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_sealed_reasoning_comes_back_as_reasoning_and_is_recognised(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (server, ask):
        first = await ask(input=[ASK], store=False, include=INCLUDE, tools=[LS])
        thought, call = first["output"]
        answer = {"type": "function_call_output", "call_id": call["call_id"], "output": ""}
        history = [ASK, carried(thought), call, answer]
        second = await ask(input=history, store=False, include=INCLUDE, tools=[LS])
        assert second["output"][0]["content"][0]["text"] == "seen"
        record = server.app.services.records.latest()[-1]
        assert (record.recognised_items, record.fallbacks) == (3, ())


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_survives_the_server_but_not_its_keys(transport: str, tmp_path: Path) -> None:
    settings = ServerSettings(port=0, seal_keys=tmp_path / "keys")
    async with door(transport, scripted_model(SCRIPT), settings) as (_, ask):
        first = await ask(input=[ASK], store=False, include=INCLUDE, tools=[LS])
        thought, call = first["output"]
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": ""}
    history = [ASK, carried(thought), call, answer]
    async with door(transport, scripted_model(SCRIPT), settings) as (_, ask):
        second = await ask(input=history, store=False, include=INCLUDE, tools=[LS])
        assert second["output"][0]["content"][0]["text"] == "seen"
    other = ServerSettings(port=0, seal_keys=tmp_path / "other")
    async with door(transport, scripted_model(SCRIPT), other) as (_, ask):
        refused = await ask(input=history, store=False, tools=[LS])
        assert (refused["error"]["code"], refused["error"]["param"]) == ("invalid_encrypted_content", "input")
        tampered = {**carried(thought), "encrypted_content": "gAAAA"}
        refused = await ask(input=[tampered, ASK], store=False, tools=[LS])
        assert (refused["error"]["code"], refused["error"]["param"]) == ("invalid_encrypted_content", "input")
        fine = await ask(input="plainly")
        assert fine["status"] == "completed"
