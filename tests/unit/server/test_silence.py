"""Silence and slowness, in virtual time: what a client hears while nothing happens, and what becomes of a deaf one."""

import asyncio
import json
from typing import Any

from tests.support.asgi_client import HttpExchange, Message, WebSocketPeer
from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say
from tests.support.turns import Pipeline
from tests.support.virtual_time import run_virtual

from hotloop.decoding.reader import MessageReader
from hotloop.protocol.connection import Limits
from hotloop.server.auth import AccessPolicy
from hotloop.server.background import BackgroundLimits, BackgroundTurns
from hotloop.server.connections import OpenConnections
from hotloop.server.door import Door
from hotloop.server.http_turn import HttpTurns
from hotloop.server.routes.create import CreateResponse
from hotloop.server.served_connection import SocketSettings
from hotloop.server.websocket import ResponsesSocket

SILENCE_S = 15.0
WORK_S = 100.0  # of an engine that says nothing


def socket_door(pipeline: Pipeline, **limits: Any) -> ResponsesSocket:
    settings = SocketSettings(Limits(**limits), 2**20)
    return ResponsesSocket(pipeline.runner, AccessPolicy(""), settings, OpenConnections(), MessageReader(2**20))


def http_door(pipeline: Pipeline) -> CreateResponse:
    connections = OpenConnections()
    return CreateResponse(
        HttpTurns(pipeline.runner, connections, max_pending_bytes=2**20),
        Door(AccessPolicy(""), connections, MessageReader(2**20), max_body_bytes=1000),
        BackgroundTurns(pipeline.runner, connections, BackgroundLimits()),
    )


class Timed:
    """Notes when the door sent what."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.times: list[float] = []

    async def __call__(self, message: Message) -> None:
        await self._send(message)
        self.times.append(asyncio.get_running_loop().time())

    @property
    def longest_gap(self) -> float:
        return max(after - before for before, after in zip(self.times, self.times[1:], strict=False))


def test_a_silent_turn_is_heard_over_websocket() -> None:
    async def main() -> None:
        pipeline = Pipeline(turn_timeout_s=1e6)
        pipeline.engine.pause()
        door = socket_door(pipeline)
        timed: list[Timed] = []

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            timed.append(Timed(send))
            await door(scope, receive, timed[0])

        peer = await WebSocketPeer(watched).accepted()
        peer.create(store=False)
        await asyncio.sleep(WORK_S)
        pipeline.engine.resume()
        events = await peer.until("response.completed")
        check_response_events(events)
        assert timed[0].longest_gap <= SILENCE_S
        assert sum(event["type"] == "response.in_progress" for event in events) > WORK_S / SILENCE_S
        peer.leave()
        await peer.gone()

    run_virtual(main())


def test_a_silent_turn_is_heard_over_sse() -> None:
    async def main() -> None:
        pipeline = Pipeline(turn_timeout_s=1e6)
        pipeline.engine.pause()
        body = {"model": "toy", "input": "hi", "stream": True, "store": False}
        exchange = HttpExchange(http_door(pipeline), json.dumps(body).encode())
        await asyncio.sleep(WORK_S)
        pipeline.engine.resume()
        await exchange.over()
        check_response_events(exchange.events)
        assert sum(event["type"] == "response.in_progress" for event in exchange.events) > WORK_S / SILENCE_S

    run_virtual(main())


def test_a_reader_of_sse_that_stands_still_is_dropped_and_its_turn_stopped() -> None:
    async def main() -> None:
        pipeline = Pipeline(ToyEngine(lambda prompt: say("x" * 1000), step=1), turn_timeout_s=1e6)
        pipeline.engine.pause()
        body = {"model": "toy", "input": "hi", "stream": True, "store": False}
        exchange = HttpExchange(http_door(pipeline), json.dumps(body).encode())
        exchange.hears.clear()
        await asyncio.wait_for(exchange.served, 1000)
        assert pipeline.engine.runs[0].is_aborted
        assert pipeline.engine.open_handles == 0

    run_virtual(main())


def test_a_lifetime_of_an_hour_ends_an_idle_connection_and_lets_a_turn_finish() -> None:
    async def main() -> None:
        pipeline = Pipeline(turn_timeout_s=1e6)
        peer = await WebSocketPeer(socket_door(pipeline)).accepted()
        await asyncio.sleep(3590)
        pipeline.engine.pause()
        peer.create(store=False)
        peer.create(store=False, input="waits")
        await asyncio.sleep(20)
        peer.create(store=False, input="late")
        refused = (await peer.until("error"))[-1]
        assert refused["error"]["code"] == "websocket_connection_limit_reached"
        pipeline.engine.resume()
        await peer.until("response.completed")
        check_response_events(await peer.until("response.completed"))
        assert (await peer.event())["error"]["code"] == "websocket_connection_limit_reached"
        assert await peer.message() == {"type": "websocket.close", "code": 1001}
        await peer.gone()

    run_virtual(main())
