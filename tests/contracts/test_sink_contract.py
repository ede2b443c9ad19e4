"""What every `seams.sink.Sink` promises, over a recording ASGI send."""

import asyncio
import json
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.virtual_time import run_virtual

from hotloop.server.sinks import DiscardSink, LaneSink, SseSink, WebSocketSink

Message = MutableMapping[str, Any]


class Client:
    """The other side of an ASGI send: takes messages, refuses them, or takes its time."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.is_gone = False
        self.reads = asyncio.Event()
        self.reads.set()
        self.is_sending = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.is_sending.set()
        await self.reads.wait()
        if self.is_gone:
            raise OSError("the peer is gone")
        self.messages.append(message)

    @property
    def events(self) -> list[Any]:
        """What a WebSocket client decodes."""
        return [json.loads(message["text"]) for message in self.messages]

    @property
    def chunks(self) -> list[bytes]:
        """Body chunks of an HTTP response."""
        return [message["body"] for message in self.messages if message["type"] == "http.response.body"]


def event(number: int, kind: str = "response.x") -> bytes:
    return json.dumps({"type": kind, "n": number}, separators=(",", ":")).encode()


@asynccontextmanager
async def pumped(sink: WebSocketSink | SseSink) -> AsyncGenerator[None]:
    """The sink's pump, until it ends by itself."""
    pump = asyncio.create_task(sink.pump())
    try:
        yield
        await asyncio.wait_for(pump, timeout=60)
    finally:
        pump.cancel()


# --- WebSocket ---


async def test_each_event_is_one_text_message_in_order() -> None:
    client = Client()
    sink = WebSocketSink(client.send, max_pending_bytes=1000)
    async with pumped(sink):
        sink.push([event(0), event(1)])
        sink.push([event(2)])
        sink.finish(1000)
    assert [entry["n"] for entry in client.events] == [0, 1, 2]
    assert all(message["type"] == "websocket.send" and "bytes" not in message for message in client.messages)


async def test_lanes_share_a_connection_and_count_their_own_bytes() -> None:
    client = Client()
    sink = WebSocketSink(client.send, max_pending_bytes=1000)
    one, two = LaneSink(sink), LaneSink(sink)
    async with pumped(sink):
        one.push(iter([event(0)]))
        two.push(iter([event(1), event(2)]))
        sink.finish(1000)
    assert [entry["n"] for entry in client.events] == [0, 1, 2]
    assert (one.bytes_out, two.bytes_out) == (len(event(0)), 2 * len(event(1)))
    assert sink.bytes_out == one.bytes_out + two.bytes_out


async def test_a_closed_sink_drops_what_is_pushed_and_its_pump_ends() -> None:
    client = Client()
    sink = WebSocketSink(client.send, max_pending_bytes=1000)
    lane = LaneSink(sink)
    async with pumped(sink):
        lane.push([event(0)])
        sink.close(1006)
        assert lane.is_closed
        lane.push([event(1)])
    assert client.messages == []


async def test_a_reader_too_slow_is_closed_at_the_byte_cap_even_if_it_never_reads_again() -> None:
    client = Client()
    client.reads.clear()
    sink = WebSocketSink(client.send, max_pending_bytes=50)
    pump = asyncio.create_task(sink.pump())
    sink.push([event(0)])
    await asyncio.wait_for(client.is_sending.wait(), timeout=60)
    was_closed = sink.is_closed
    sink.push([event(number) for number in range(5)])
    assert (was_closed, sink.is_closed, sink.close_code) == (False, True, 1008)
    await asyncio.wait_for(sink.wait_closed(), timeout=60)
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)


async def test_a_reader_that_keeps_up_never_meets_the_cap() -> None:
    client = Client()
    sink = WebSocketSink(client.send, max_pending_bytes=50)
    async with pumped(sink):
        for number in range(20):
            client.is_sending.clear()
            sink.push([event(number)])
            await asyncio.wait_for(client.is_sending.wait(), timeout=60)
        sink.finish(1000)
    assert len(client.messages) == 20
    assert not sink.is_closed


async def test_a_peer_that_is_gone_closes_the_sink() -> None:
    client = Client()
    client.is_gone = True
    sink = WebSocketSink(client.send, max_pending_bytes=1000)
    async with pumped(sink):
        sink.push([event(0), event(1)])
    assert sink.is_closed
    assert sink.close_code == 1006


# --- SSE ---


async def test_an_sse_event_is_its_name_its_data_and_a_blank_line_in_one_chunk() -> None:
    client = Client()
    sink = SseSink(client.send, max_pending_bytes=1000)
    async with pumped(sink):
        sink.push([event(0, "response.created")])
        sink.finish()
    start, *bodies = client.messages
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
    assert (
        b"".join(client.chunks)
        == b'event: response.created\ndata: {"type":"response.created","n":0}\n\ndata: [DONE]\n\n'
    )
    assert [body["more_body"] for body in bodies] == [True, False]


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=8))
def test_sse_chunks_never_end_inside_an_event_and_done_is_last(ticks: list[list[int]]) -> None:
    async def scenario() -> None:
        client = Client()
        sink = SseSink(client.send, max_pending_bytes=10_000)
        async with pumped(sink):
            for numbers in ticks:
                sink.push([event(number) for number in numbers])
                await asyncio.sleep(0)
            sink.finish()
        assert all(chunk.endswith(b"\n\n") for chunk in client.chunks[:-1])
        assert client.chunks[-1] == b""
        *events, done = b"".join(client.chunks).split(b"\n\n")[:-1]
        assert done == b"data: [DONE]"
        sent = [json.loads(found.split(b"\ndata: ")[1])["n"] for found in events]
        assert sent == [number for numbers in ticks for number in numbers]
        assert sink.bytes_out == sum(map(len, client.chunks))

    asyncio.run(scenario())


async def test_a_closed_sse_sink_drops_what_is_pushed_and_sends_no_done() -> None:
    client = Client()
    sink = SseSink(client.send, max_pending_bytes=1000)
    async with pumped(sink):
        sink.push([event(0)])
        sink.close()
        sink.push([event(1)])
        sink.finish()
    assert client.messages == []
    assert sink.bytes_out == len(b"event: response.x\ndata: ") + len(event(0)) + 2


async def test_an_sse_reader_too_slow_is_closed_at_the_byte_cap() -> None:
    client = Client()
    sink = SseSink(client.send, max_pending_bytes=100)
    async with pumped(sink):
        sink.push([event(number) for number in range(10)])
        assert sink.is_closed
        assert sink.bytes_out < 200


@pytest.mark.parametrize("at_the_end", [False, True])
async def test_an_sse_peer_that_is_gone_closes_the_sink(at_the_end: bool) -> None:
    client = Client()
    sink = SseSink(client.send, max_pending_bytes=1000)
    async with pumped(sink):
        if at_the_end:
            sink.push([event(0)])
            await asyncio.wait_for(client.is_sending.wait(), timeout=60)
        client.is_gone = True
        sink.push([event(1)])
        sink.finish()
    assert sink.is_closed


# --- clients that read again ---


@pytest.mark.parametrize("kind", [WebSocketSink, SseSink])
async def test_producers_are_told_once_that_the_client_reads_again_if_they_were_told_that_it_does_not(
    kind: type[WebSocketSink] | type[SseSink],
) -> None:
    client, told = Client(), list[int]()  # messages that had been taken by then
    sink = kind(client.send, max_pending_bytes=1000)
    again = asyncio.Event()

    def resume() -> None:
        told.append(len(client.messages))
        again.set()

    sink.on_writable(resume)
    pump = asyncio.create_task(sink.pump())
    paused = [sink.is_paused]
    client.reads.clear()
    sink.push([event(0)])
    await asyncio.wait_for(client.is_sending.wait(), timeout=60)
    paused.append(sink.is_paused)
    assert told == []
    client.reads.set()
    await asyncio.wait_for(again.wait(), timeout=60)
    paused.append(sink.is_paused)
    assert paused == [False, True, False]
    for number in (1, 2):  # nobody asks meanwhile, so nobody is told
        client.is_sending.clear()
        sink.push([event(number)])
        await asyncio.wait_for(client.is_sending.wait(), timeout=60)
    assert len(told) == 1 and told[0] >= 1
    sink.finish(1000) if isinstance(sink, WebSocketSink) else sink.finish()
    await asyncio.wait_for(pump, timeout=60)


# --- events that may wait ---


def test_events_wait_for_others_to_leave_with_if_they_may() -> None:
    async def scenario(sink: WebSocketSink | SseSink, client: Client) -> list[tuple[float, int]]:
        loop, left = asyncio.get_running_loop(), list[tuple[float, int]]()
        pump = asyncio.create_task(sink.pump())
        await asyncio.sleep(0)
        for number in range(4):
            sink.push([event(number)])
            await asyncio.sleep(0.06)
            left.append((round(loop.time(), 2), len(client.messages)))
        if isinstance(sink, WebSocketSink):
            sink.finish(1000)
        else:
            sink.finish()
        await pump
        return left

    async def main() -> None:
        client = Client()
        sink = WebSocketSink(client.send, max_pending_bytes=2**20, max_delay_s=0.1)
        assert await scenario(sink, client) == [(0.06, 0), (0.12, 2), (0.18, 2), (0.24, 4)]
        client = Client()
        start = asyncio.get_running_loop().time()
        left = await scenario(SseSink(client.send, max_pending_bytes=2**20, max_delay_s=0.1), client)
        assert [(round(at - start, 2), count) for at, count in left] == [(0.06, 0), (0.12, 2), (0.18, 2), (0.24, 3)]
        assert [chunk.count(b"event:") for chunk in client.chunks] == [2, 2, 0, 0]

    run_virtual(main())


# --- one JSON object ---


def test_a_discarding_sink_counts_and_is_never_closed() -> None:
    sink = DiscardSink()
    sink.push([b"abc", b"de"])
    assert (sink.bytes_out, sink.is_closed) == (5, False)
