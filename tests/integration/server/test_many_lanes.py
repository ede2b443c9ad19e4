"""Lanes do not touch each other: what a lane sees among many is what it sees alone, byte for byte."""

import asyncio
import json
import re
from typing import Any

from tests.support.event_order import check_response_events, split_responses
from tests.support.live_server import TERMINAL, Event, LiveServer, live_server, open_socket
from tests.support.scripted_model import CONVERSATIONS, LOOK_UP, scripted_model

from hotloop.engines.scripted import ScriptedEngine

CONNECTIONS = 4
LANES = 16  # of each connection: as many as may run at once
TURNS = 3

_IDS = re.compile(r'"(resp|msg|fc|ctc|rs|call|steer)_[0-9a-f]{32}"')
_UNREPEATED = re.compile(r'"(created_at|completed_at|encrypted_content)":(?:\d+|"[^"]*")')
SCRIPT: list[dict[str, Any]] = [{"match": "^long", "turns": [{"text": "word " * 40}]}, *CONVERSATIONS]
QUESTIONS = ("hello", "think about it", "two steps", "long")


def lane_name(connection: int, lane: int) -> str:
    return f"lane-{connection}-{lane}"


def question(lane: str, turn: int) -> str:
    """A lane's turns differ from those of its neighbours."""
    return f"{QUESTIONS[(sum(lane.encode()) + turn) % len(QUESTIONS)]} of {lane}, turn {turn}"


async def run_lane(lane: str, send: Any, mailbox: "asyncio.Queue[str]") -> list[str]:
    """A conversation: questions and, where the answer is a call, its output; every message as it came."""
    messages: list[str] = []
    previous: str | None = None
    for turn in range(TURNS):
        new: Any = question(lane, turn)
        while new is not None:
            await send(stream_id=lane, store=False, previous_response_id=previous, input=new, tools=[LOOK_UP])
            event: Event = {"type": ""}
            while event["type"] not in TERMINAL:
                messages.append(await asyncio.wait_for(mailbox.get(), 60))
                event = json.loads(messages[-1])
            previous = event["response"]["id"]
            calls = [item for item in event["response"]["output"] if item["type"] == "function_call"]
            outputs = [
                {"type": "function_call_output", "call_id": item["call_id"], "output": f"found for {lane}"}
                for item in calls
            ]
            new = outputs or None
    return messages


async def run_connection(server: LiveServer, lanes: list[str]) -> dict[str, list[str]]:
    """All lanes of a connection at once."""
    async with open_socket(server) as socket:
        mailboxes: dict[str, asyncio.Queue[str]] = {lane: asyncio.Queue() for lane in lanes}

        async def deliver() -> None:
            async for message in socket.connection:
                assert isinstance(message, str)
                mailboxes[json.loads(message)["stream_id"]].put_nowait(message)

        delivery = asyncio.create_task(deliver())
        try:
            seen = await asyncio.gather(*(run_lane(lane, socket.send, mailboxes[lane]) for lane in lanes))
        finally:
            delivery.cancel()
        return dict(zip(lanes, seen, strict=True))


def normalised(messages: list[str]) -> list[str]:
    """Ids by order of appearance, times and sealed texts left out; all else as it is."""
    names: dict[str, str] = {}
    return [
        _IDS.sub(lambda found: names.setdefault(found[0], f'"id {len(names)}"'), _UNREPEATED.sub(r'"\1":0', message))
        for message in messages
    ]


async def test_64_lanes_over_4_connections_see_what_each_would_see_alone() -> None:
    async with live_server(scripted_model(SCRIPT)) as server:
        together = await asyncio.gather(
            *(
                run_connection(server, [lane_name(connection, lane) for lane in range(LANES)])
                for connection in range(CONNECTIONS)
            )
        )
        assert sum(map(len, together)) == CONNECTIONS * LANES
        assert server.app.services.records.counters.fallbacks.keys() <= {"reasoning_dropped"}, (
            "a lane took another's KV"
        )
    model = scripted_model(SCRIPT)
    assert isinstance(model.engine, ScriptedEngine)
    async with live_server(model) as server:
        for lanes in together:
            for lane, messages in lanes.items():
                model.engine.pool.clear()  # else the lane before it would have cached its first tokens
                alone = await run_connection(server, [lane])
                assert normalised(messages) == normalised(alone[lane])
                for part in split_responses([json.loads(message) for message in messages]):
                    check_response_events(part, lane=lane)
