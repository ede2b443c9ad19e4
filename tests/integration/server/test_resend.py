"""Clients that resend the whole history on every turn, over real sockets: the engine still sees only what is new."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
import pytest
from tests.support.live_server import LiveServer, final_response, live_server, open_socket
from tests.support.scripted_model import LOOK_UP, scripted_model

Json = dict[str, Any]
Ask = Callable[..., Awaitable[Json]]

TURNS = 50
SCRIPT: list[Json] = [
    {
        "match": "^go",
        "turns": [
            *(
                {"reasoning": "next", "call": {"name": "look_up", "arguments": {"key": str(n)}}}
                for n in range(TURNS - 1)
            ),
            {"text": "All are known."},
        ],
    }
]
START: Json = {"type": "message", "role": "user", "content": "go on until all is known"}


@asynccontextmanager
async def door(transport: str) -> AsyncGenerator[tuple[LiveServer, Ask]]:
    """A server, and how to ask it over `transport`."""
    async with live_server(scripted_model(SCRIPT)) as server:
        if transport == "http":
            async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:

                async def post(**fields: Any) -> Json:
                    answer = await client.post("/responses", json={"model": "test", **fields})
                    assert answer.status_code == 200, answer.text
                    found: Json = answer.json()
                    return found

                yield server, post
        else:
            async with open_socket(server) as socket:

                async def turn(**fields: Any) -> Json:
                    return final_response(await socket.turn(**fields))

                yield server, turn


def resent(item: Json) -> Json:
    """As Codex sends it back, with keys in another order."""
    return {key: item[key] for key in sorted(item) if key != "status"}


def outputs(response: Json) -> list[Json]:
    return [
        {"type": "function_call_output", "call_id": item["call_id"], "output": f"found {item['arguments']}"}
        for item in response["output"]
        if item["type"] == "function_call"
    ]


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("transport", ["http", "websocket"])
async def test_fifty_turns_of_a_resent_history_prefill_only_what_is_new(transport: str, store: bool) -> None:
    async with door(transport) as (server, ask):
        history, usages, response = [START], list[Json](), START
        for _ in range(TURNS):
            response = await ask(input=history, tools=[LOOK_UP], store=store)
            usages.append(response["usage"])
            history += [*map(resent, response["output"]), *outputs(response)]
        assert history[-1]["content"][0]["text"] == "All are known."
        for before, after in pairwise(usages):
            held = before["input_tokens"] + before["output_tokens"] - 1  # the last id was sampled, not prefilled
            assert after["input_tokens_details"]["cached_tokens"] >= held
        records = server.app.services.records
        assert records.counters.fallbacks == {}
        assert records.counters.recognitions == TURNS - 1
        assert [record.new_items for record in records.latest()] == [1] * TURNS
        if store:
            listed = await _input_items(server, response["id"])
            assert len(listed) == len(history) - 1
            assert all(item["id"] for item in listed)


async def _input_items(server: LiveServer, response_id: str) -> list[Json]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        answer = await client.get(f"/responses/{response_id}/input_items", params={"order": "asc", "limit": 100})
        found: list[Json] = answer.json()["data"]
        while answer.json()["has_more"]:
            answer = await client.get(
                f"/responses/{response_id}/input_items",
                params={"order": "asc", "limit": 100, "after": answer.json()["last_id"]},
            )
            found += answer.json()["data"]
        return found


async def test_a_request_that_comes_again_shows_its_input_with_ids() -> None:
    async with door("http") as (server, ask):
        for _ in range(2):
            response = await ask(input=[START], tools=[LOOK_UP])
            (item,) = await _input_items(server, response["id"])
            assert item["id"].startswith("msg_")
        assert server.app.services.records.counters.recognitions == 1


async def test_a_client_that_reconnects_and_resends_goes_on_where_it_was() -> None:
    async with live_server(scripted_model(SCRIPT)) as server:
        history = [START]
        for _ in range(3):
            async with open_socket(server) as socket:  # as Codex does after a cut: store false, no previous_response_id
                response = final_response(await socket.turn(input=history, tools=[LOOK_UP], store=False))
            history += [*map(resent, response["output"]), *outputs(response)]
        assert server.app.services.records.counters.fallbacks == {}
        assert server.app.services.records.latest()[-1].new_items == 1


async def test_what_was_changed_in_the_middle_is_rendered_again_and_named() -> None:
    async with door("http") as (server, ask):
        history = [START]
        for _ in range(4):
            response = await ask(input=history, tools=[LOOK_UP], store=False)
            history += [*map(resent, response["output"]), *outputs(response)]
        place = next(
            index for index, item in enumerate(history) if index > 3 and item["type"] == "function_call_output"
        )
        history[place] = {**history[place], "output": "something else"}
        await ask(input=history, tools=[LOOK_UP], store=False)
        record = server.app.services.records.latest()[-1]
        assert record.fallbacks == ("history_changed", "kv_not_held")
        assert 0 < record.recognised_items <= place
        assert record.usage.cached_tokens > 0  # the engine's own prefix cache
