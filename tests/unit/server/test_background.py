import asyncio
import json
from typing import Any

import pytest
from tests.support.asgi_client import Message
from tests.support.turns import ME, BrokenStore, Pipeline

from hotloop.errors import ApiError, ModelNotFound, RateLimited, StorageUnavailable
from hotloop.server.background import BackgroundLimits, BackgroundRun, BackgroundTurns
from hotloop.server.connections import OpenConnections
from hotloop.server.replay import ReplayLog
from hotloop.server.replay_stream import ReplayStream
from hotloop.storage.memory import MemoryStore


class Place:
    """Background responses over a toy pipeline."""

    def __init__(self, pipeline: Pipeline | None = None, **limits: Any) -> None:
        self.pipeline = pipeline or Pipeline()
        self.open = OpenConnections()
        self.turns = BackgroundTurns(self.pipeline.runner, self.open, BackgroundLimits(**limits))

    async def start(self, **fields: Any) -> BackgroundRun:
        wanted: dict[str, Any] = {"input": "hi", "background": True, **fields}
        return await self.turns.start(self.pipeline.turn(connection=None, **wanted))

    async def status(self, run: BackgroundRun) -> str:
        stored = await self.pipeline.store.get(ME, run.response_id)
        assert stored is not None
        found: str = json.loads(stored.body)["status"]
        return found

    async def idle(self) -> None:
        await asyncio.wait_for(self.open.wait_empty(), 60)


@pytest.mark.parametrize(
    ("store", "model", "kind"), [(None, "gone", ModelNotFound), (BrokenStore(), "toy", StorageUnavailable)]
)
async def test_what_cannot_begin_is_refused_and_leaves_nothing(
    store: MemoryStore | None, model: str, kind: type[ApiError]
) -> None:
    place = Place(Pipeline(store=store))
    with pytest.raises(kind):
        await place.start(model=model)
    await place.idle()
    assert place.turns.running == 0
    assert place.pipeline.engine.open_handles == 0


async def test_places_are_given_in_the_order_of_arrival_and_never_more_than_there_are() -> None:
    place = Place(running=1, waiting=2)
    place.pipeline.engine.pause()
    first, second, third = [await place.start() for _ in range(3)]
    with pytest.raises(RateLimited):
        await place.start()
    assert (place.turns.running, place.open.waiting) == (1, 2)
    assert await place.status(second) == "queued"
    await place.turns.cancel(ME, second.response_id)
    place.pipeline.engine.resume()
    await place.idle()
    assert [await place.status(run) for run in (first, second, third)] == ["completed", "cancelled", "completed"]
    assert place.turns.running == 0


async def test_cancelling_frees_the_engine_and_may_be_repeated() -> None:
    place = Place()
    place.pipeline.engine.pause()
    run = await place.start()
    await asyncio.wait_for(place.pipeline.engine.has_run.wait(), 60)
    cancelling = asyncio.create_task(place.turns.cancel(ME, run.response_id))
    await asyncio.sleep(0)
    place.pipeline.engine.resume()
    await asyncio.wait_for(cancelling, 60)
    await place.turns.cancel(ME, run.response_id)
    await place.turns.cancel(ME, "resp_unknown")
    await place.idle()
    assert place.pipeline.engine.open_handles == 0
    assert await place.status(run) == "cancelled"


async def test_events_of_what_is_over_are_dropped_oldest_first() -> None:
    place = Place(logs_bytes=6000)
    runs: list[BackgroundRun] = []
    for _ in range(4):
        runs.append(await place.start())
        await place.idle()
    kept = [run for run in runs if place.turns.find(ME, run.response_id) is not None]
    assert kept
    assert kept == runs[-len(kept) :]
    assert len(kept) < 4
    assert sum(run.log.size_bytes for run in kept) <= 6000


async def test_closing_stops_all_of_them() -> None:
    place = Place(running=1)
    place.pipeline.engine.pause()
    runs = [await place.start() for _ in range(2)]
    closing = asyncio.create_task(place.turns.close())
    await asyncio.sleep(0)
    place.pipeline.engine.resume()
    await asyncio.wait_for(closing, 60)
    await place.idle()
    assert [await place.status(run) for run in runs] == ["cancelled", "cancelled"]


async def test_an_engine_that_does_not_stop_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.server.background.STOP_TIMEOUT_S", 0.01)
    place = Place()
    place.pipeline.engine.pause()
    run = await place.start()
    await asyncio.wait_for(place.pipeline.engine.has_run.wait(), 60)
    monkeypatch.setattr("tests.support.toy_engine.ToyRun.abort", lambda self: None)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    await asyncio.wait_for(place.turns.cancel(ME, run.response_id), 60)
    await place.idle()


class Follower:
    """Someone who reads a kept stream."""

    def __init__(self, log: ReplayLog[bytes], start: int = 0) -> None:
        self.messages: list[Message] = []
        self.hears = asyncio.Event()
        self.hears.set()
        self.has_heard_comment = asyncio.Event()
        self.leaves = asyncio.Event()
        self.served = asyncio.ensure_future(ReplayStream(log, start)({}, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.hears.wait()
        self.messages.append(message)
        if message.get("body", b"").startswith(b": "):
            self.has_heard_comment.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    async def over(self) -> None:
        await asyncio.wait_for(self.served, 60)


def log_of(*events: bytes, max_bytes: int = 1000) -> ReplayLog[bytes]:
    log: ReplayLog[bytes] = ReplayLog(max_bytes, len)
    for event in events:
        log.append(event)
    return log


async def test_a_stream_that_is_silent_says_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.server.replay_stream.SILENCE_S", 0.001)
    log = log_of(b'{"type":"a"}')
    follower = Follower(log)
    await asyncio.wait_for(follower.has_heard_comment.wait(), 60)
    log.finish()
    await follower.over()
    assert follower.body.startswith(b'event: a\ndata: {"type":"a"}\n\n')
    assert follower.body.endswith(b"data: [DONE]\n\n")


async def test_a_reader_who_is_too_slow_is_told_in_its_stream_what_it_missed() -> None:
    log = log_of(b'{"type":"a"}', max_bytes=100)
    follower = Follower(log)
    follower.hears.clear()
    await asyncio.sleep(0)
    for _ in range(30):
        log.append(b'{"type":"b"}')
    log.finish()
    follower.hears.set()
    await follower.over()
    error = json.loads(follower.body.split(b"\n\n")[-3].split(b"data: ")[1])
    assert (error["type"], error["code"]) == ("error", "rate_limit_exceeded")


@pytest.mark.parametrize("way", ["leaves", "never reads"])
async def test_a_reader_who_is_gone_ends_only_its_own_stream(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.server.replay_stream.MAX_STUCK_S", 0.01)
    log = log_of(b'{"type":"a"}')
    follower = Follower(log)
    if way == "leaves":
        follower.leaves.set()
    else:
        follower.hears.clear()
    await follower.over()
    assert not log.is_finished
