"""A thousand turns on one chain: whatever was said is still in front of the engine at the end."""

import re
from typing import Any

import httpx
import pytest
from tests.support.event_order import check_response_events
from tests.support.live_server import LiveServer, final_response, live_server, open_socket
from tests.support.scripted_model import scripted_model

from hotloop.engines.scripted import ScriptedEngine
from hotloop.models.token_model import TokenModel
from hotloop.session.principal import Principal

TURNS = 1_000
SCRIPT: list[dict[str, Any]] = [{"match": "^question", "turns": [{"text": "Noted."}]}]


def model() -> TokenModel:
    return scripted_model(SCRIPT, thinking=False, context_tokens=1_000_000)


def seen(server: LiveServer) -> str:
    """What the engine holds of the longest chain, as text."""
    (served,) = server.app.services.models.values()
    assert isinstance(served, TokenModel)
    assert isinstance(served.engine, ScriptedEngine)
    longest = max(served.engine.handles, key=lambda handle: len(handle.ids))
    return b"".join(map(served.tokenizer.piece, longest.ids)).decode()


def check_whole(text: str, turns: int) -> None:
    """Every question is there, in order, each with its answer behind it."""
    assert re.findall(r"question (\d+)\.", text) == [str(number) for number in range(turns)]
    assert text.count("Noted.") == turns


def check_usage(responses: list[dict[str, Any]]) -> None:
    """No turn's prompt is shorter than all that came before it, and all of that was cached."""
    held = 0
    for response in responses:
        usage = response["usage"]
        assert usage["input_tokens"] > held
        assert usage["input_tokens_details"]["cached_tokens"] >= held - 1
        held = usage["total_tokens"]


@pytest.mark.parametrize(("store", "turns"), [(False, TURNS), (True, TURNS // 5)])
async def test_a_chain_on_one_connection_loses_nothing(store: bool, turns: int) -> None:
    async with live_server(model()) as server, open_socket(server) as socket:
        responses: list[dict[str, Any]] = []
        for number in range(turns):
            previous = responses[-1]["id"] if responses else None
            events = await socket.turn(input=f"question {number}.", store=store, previous_response_id=previous)
            check_response_events(events)
            responses.append(final_response(events))
        check_usage(responses)
        check_whole(seen(server), turns)
        assert server.app.services.records.counters.fallbacks == {}


async def test_a_chain_over_http_loses_nothing_in_the_cache_or_in_the_store() -> None:
    async with live_server(model()) as server, httpx.AsyncClient(base_url=server.url, timeout=30) as client:

        async def turn(number: int, previous: str | None) -> dict[str, Any]:
            body = {"model": "test", "input": f"question {number}.", "previous_response_id": previous}
            answer = await client.post("/responses", json=body)
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        responses: list[dict[str, Any]] = []
        for number in range(TURNS):
            responses.append(await turn(number, responses[-1]["id"] if responses else None))
        check_usage(responses)
        check_whole(seen(server), TURNS)
        assert server.app.services.records.counters.fallbacks == {}
        assert server.app.services.chains.evict(Principal(), None, responses[-1]["id"])
        server.app.services.prefixes.clear()
        last = await turn(TURNS, responses[-1]["id"])
        assert server.app.services.records.counters.fallbacks == {"state_not_kept": 1}
        assert last["usage"]["input_tokens"] > responses[-1]["usage"]["total_tokens"]
        check_whole(seen(server), TURNS + 1)
