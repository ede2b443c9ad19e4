"""`HOTLOOP_CACHES=off`: what clients see is the same, every turn is rendered in full and says so."""

from typing import Any

import httpx
import pytest
from tests.support.live_server import final_response, live_server, open_socket
from tests.support.scripted_model import scripted_model

from hotloop.config import ServerSettings

SCRIPT: list[dict[str, Any]] = [{"match": "^ask", "turns": [{"text": "An answer."}]}]


def question(number: int) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": f"ask {number}"}


async def chained(caches: str) -> tuple[list[Any], list[Any]]:
    async with live_server(scripted_model(SCRIPT), ServerSettings(port=0, caches=caches)) as server:
        async with open_socket(server) as socket:
            previous: str | None = None
            seen: list[Any] = []
            for number in range(3):
                fields: dict[str, Any] = {"store": False, "input": [question(number)]}
                response = final_response(
                    await socket.turn(**fields, **({"previous_response_id": previous} if previous else {}))
                )
                previous = response["id"]
                seen.append((response["usage"]["input_tokens"], response["output"][0]["content"]))
        return seen, server.app.services.records.latest()


async def test_a_chain_sees_the_same_with_caches_off_and_every_turn_names_its_full_render() -> None:
    hot, hot_records = await chained("on")
    cold, cold_records = await chained("off")
    assert hot == cold
    assert [list(record.fallbacks) for record in hot_records] == [[], [], []]
    assert [list(record.fallbacks) for record in cold_records] == [[], ["state_not_kept"], ["state_not_kept"]]


@pytest.mark.parametrize(("caches", "recognised"), [("on", True), ("off", False)])
async def test_a_resent_history_is_recognised_only_with_caches_on(caches: str, recognised: bool) -> None:
    async with (
        live_server(scripted_model(SCRIPT), ServerSettings(port=0, caches=caches)) as server,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        items: list[dict[str, Any]] = []
        for number in range(2):
            items.append(question(number))
            answer = await client.post("/responses", json={"model": "test", "store": False, "input": items})
            assert answer.status_code == 200, answer.text
            items += answer.json()["output"]
        services = server.app.services
        assert (services.records.latest()[-1].recognised_items > 0) == recognised
        assert (len(services.prefixes) > 0, len(services.contexts) > 0, len(services.item_digests) > 0) == (
            (recognised,) * 3
        )
