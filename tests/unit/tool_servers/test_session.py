"""A session's one task: whatever becomes of who opens it, nothing of it is left."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage

from hotloop.seams.hosted_tools import ToolServerError
from hotloop.tool_servers.session import Session


class Silent:
    """A way to a server that never answers."""

    def __init__(self) -> None:
        self.is_entered = asyncio.Event()
        self.is_left = False

    @asynccontextmanager
    async def streams(self, on_end: Callable[[], None]) -> AsyncGenerator[TransportStreams]:
        heard, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, said = anyio.create_memory_object_stream[SessionMessage](16)
        self.is_entered.set()
        try:
            yield incoming, outgoing
        finally:
            self.is_left = True
            for stream in (heard, incoming, outgoing, said):
                stream.close()


async def test_a_session_that_is_not_opened_in_time_is_left() -> None:
    way = Silent()
    with pytest.raises(ToolServerError, match=r"did not answer within 0\.05 s"):
        await Session(way.streams).open(0.05)
    assert way.is_left


async def test_a_session_whose_opener_is_stopped_is_left() -> None:
    way = Silent()
    opening = asyncio.create_task(Session(way.streams).open(60))
    await asyncio.wait_for(way.is_entered.wait(), 60)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert way.is_left


async def test_a_way_that_cannot_be_taken_is_said_to_be() -> None:
    def no_way(on_end: Callable[[], None]) -> AbstractAsyncContextManager[TransportStreams]:
        raise FileNotFoundError("s3cret")

    session = Session(no_way)
    with pytest.raises(ToolServerError) as caught:
        await session.open(5)
    assert "cannot be started" in str(caught.value) and "s3cret" not in str(caught.value)
    assert not session.is_open
    await session.close()


async def test_a_session_that_is_not_open_answers_nothing() -> None:
    async def question(client: object) -> None:
        raise AssertionError("asked all the same")

    with pytest.raises(ToolServerError):
        await Session(Silent().streams).ask(question)
