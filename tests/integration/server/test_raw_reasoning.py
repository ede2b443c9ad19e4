"""Whoever asks for a summary of the reasoning gets the reasoning itself, and the same of it everywhere."""

from typing import Any

import httpx
import pytest
from tests.support.doors import Json
from tests.support.live_server import live_server, open_socket
from tests.support.scripted_model import scripted_model

ASKED: list[Json] = [
    {},
    {"reasoning": {"summary": "auto"}},
    {"reasoning": {"summary": "concise", "effort": "low"}},
    {"reasoning": {"summary": "detailed"}, "include": ["reasoning.encrypted_content"]},
    {"reasoning": {"generate_summary": "auto"}},
]
THINK: Json = {"type": "message", "role": "user", "content": "think"}


def summary_of(asked: Json) -> str | None:
    reasoning: dict[str, Any] = asked.get("reasoning", {})
    found: str | None = reasoning.get("summary") or reasoning.get("generate_summary")
    return found


@pytest.mark.parametrize("asked", ASKED)
async def test_it_is_the_same_in_events_and_objects_and_comes_back_as_it_went(asked: Json) -> None:
    async with (
        live_server(scripted_model(), checks_requests=False) as server,
        open_socket(server) as socket,
        httpx.AsyncClient(base_url=server.url, timeout=30) as client,
    ):
        events = await socket.turn(input=[THINK], **asked)
        final = events[-1]["response"]
        assert final["reasoning"]["summary"] == summary_of(asked)
        kinds = [event["type"] for event in events]
        assert not any("summary" in kind for kind in kinds)
        shown = "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta")
        (done,) = (
            event["item"]
            for event in events
            if event["type"] == "response.output_item.done" and event["item"]["type"] == "reasoning"
        )
        assert shown == "Let me see."
        assert (done["summary"], done["content"]) == ([], [{"type": "reasoning_text", "text": shown}])
        assert ("encrypted_content" in done) == ("include" in asked)
        assert final["output"][0] == done
        stored = (await client.get(f"/responses/{final['id']}")).json()
        assert stored["output"] == final["output"]
        body = {"model": "test", "input": [THINK, *final["output"], THINK], **asked}
        again = (await client.post("/responses", json=body)).json()
        assert again["status"] == "completed"
        record = server.app.services.records.latest()[-1]
        assert (record.recognised_items, record.new_items) == (3, 1)  # the reasoning is known as what it was
        listed = (await client.get(f"/responses/{again['id']}/input_items", params={"order": "asc"})).json()["data"]
        assert (listed[1]["summary"], listed[1]["content"]) == (done["summary"], done["content"])
