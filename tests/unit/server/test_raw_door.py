"""A connection of the raw path with everything behind it, on a transport that the test holds. Time is virtual."""

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from tests.support.scripted_model import scripted_model
from tests.support.virtual_time import run_virtual
from tests.unit.server.test_frames import client_frame
from tests.unit.server.test_raw_writes import Transport
from uvicorn.config import Config
from uvicorn.server import ServerState

from hotloop.app import build_app
from hotloop.bench.frames import FrameReader, handshake
from hotloop.config import ServerSettings
from hotloop.decoding.reader import LONG_BYTES, MessageReader, ReadEvent
from hotloop.protocol.client_event import read_event
from hotloop.server.frames import TEXT


def create(text: str) -> bytes:
    body = {"type": "response.create", "model": "test", "store": False, "input": text}
    return client_frame(TEXT, json.dumps(body).encode())


@asynccontextmanager
async def opened() -> AsyncGenerator[tuple[Any, Transport]]:
    app = build_app(scripted_model(), ServerSettings())
    assert app.websocket is not None
    wire, transport = cast(Any, app.websocket)(Config(cast(Any, None)), ServerState(), {}), Transport()
    wire.connection_made(transport)
    wire.data_received(handshake("localhost", 1, "/v1/responses"))
    transport.writes.clear()
    tasks = set(wire._server.tasks)
    try:
        yield wire, transport
    finally:
        wire.connection_lost(None)
        await asyncio.wait(tasks)
        await app.services.models["test"].close()


def deltas(data: bytes) -> list[str]:
    events = [json.loads(payload) for _, payload in FrameReader().feed(data)]
    return [event["delta"] for event in events if event["type"] == "response.output_text.delta"]


def test_who_reads_again_in_the_middle_of_a_turn_gets_what_was_kept_at_once() -> None:
    async def main() -> None:
        async with opened() as (wire, transport):
            wire.data_received(create("forever"))
            await asyncio.sleep(1.005)  # between two steps of the engine
            wire.pause_writing()
            before = len(transport.writes)
            await asyncio.sleep(1)
            assert len(transport.writes) == before
            wire.resume_writing()
            await asyncio.sleep(0)
            (kept,) = deltas(b"".join(data for _, data in transport.writes[before:]))
            assert len(kept) > 20 * len("w")
            await asyncio.sleep(1)
            assert len(transport.writes) > before + 20, "and from then on single deltas"

    run_virtual(main())


def test_nothing_more_is_taken_while_a_long_message_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def event(self: MessageReader, message: bytes) -> ReadEvent:
            await go_on.wait()
            return ReadEvent(read_event(message))

        monkeypatch.setattr(MessageReader, "event", event)
        async with opened() as (wire, transport):
            readings = [transport.is_reading]
            wire.data_received(client_frame(TEXT, b" " * LONG_BYTES))
            await asyncio.sleep(1)
            readings.append(transport.is_reading)
            go_on.set()
            await asyncio.sleep(1)
            readings.append(transport.is_reading)
            assert readings == [True, False, True]
            assert b"invalid_json" in transport.writes[-1][1]

    run_virtual(main())


def test_a_lost_connection_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with opened() as (wire, _):
            wire.data_received(create("hello"))
            await asyncio.sleep(1)
            served = weakref.ref(wire._listener._served)
            assert served() is not None
        del wire
        await asyncio.sleep(1)
        gc.collect()
        assert served() is None, "its lifetime's timer would hold it for an hour"

    run_virtual(main())
