"""WebSocket mode of `/v1/responses`: carries out what the connection core decides.

One reader task, one pump task, one task per running turn, all in one task group; the core owns every rule of order.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hotloop.errors import ApiError, InvalidEvent, MissingParameter
from hotloop.protocol.connection import (
    Action,
    CloseConnection,
    Connection,
    EvictResponse,
    Lane,
    Limits,
    SendError,
    StartTurn,
)
from hotloop.protocol.control import CONTROL_EVENTS, decline
from hotloop.protocol.request import decode_create, event_head, lane_of
from hotloop.protocol.wire import error_body, error_event
from hotloop.server.auth import AccessPolicy, authenticate
from hotloop.server.connections import OpenConnections
from hotloop.server.sinks import AsgiSend, LaneSink, WebSocketSink
from hotloop.session.chain_cache import ConnectionId
from hotloop.session.principal import Principal
from hotloop.turns.bind import Parent, bind_cached
from hotloop.turns.record import TurnRecord, monotonic
from hotloop.turns.runner import TurnRequest, TurnRunner

logger = logging.getLogger(__name__)

AsgiReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiScope = MutableMapping[str, Any]

CLOSE_TIMEOUT_S = 5.0  # for the close frame to leave; a peer that reads nothing is left to the transport

_connection_ids = itertools.count(1)
_IGNORED_EVENTS = frozenset({"response.processed"})  # docs/protocol.md §2: some Codex versions acknowledge


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Bounds of a connection."""

    limits: Limits
    max_pending_bytes: int


class ResponsesSocket:
    """ASGI application for the WebSocket scope."""

    def __init__(
        self, runner: TurnRunner, policy: AccessPolicy, settings: SocketSettings, open_connections: OpenConnections
    ) -> None:
        self._runner = runner
        self._policy = policy
        self._settings = settings
        self._open = open_connections

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One connection, handshake to close."""
        message = await receive()
        assert message["type"] == "websocket.connect", message["type"]
        try:
            principal = authenticate(self._policy, scope["headers"])
        except ApiError as error:
            await _refuse_handshake(scope, send, error)
            return
        await send({"type": "websocket.accept"})
        wants_timing = any(name == b"hotloop-timing" and value == b"1" for name, value in scope["headers"])
        served = _ServedConnection(self._runner, self._settings, principal, receive, send, wants_timing=wants_timing)
        self._open.add(served)
        try:
            await served.serve()
        finally:
            self._open.remove(served)


class _ServedConnection:
    """One accepted connection."""

    def __init__(
        self,
        runner: TurnRunner,
        settings: SocketSettings,
        principal: Principal,
        receive: AsgiReceive,
        send: AsgiSend,
        *,
        wants_timing: bool,
    ) -> None:
        self._runner = runner
        self._principal = principal
        self._receive = receive
        self._send = send
        self._wants_timing = wants_timing
        self._lifetime_s = settings.limits.lifetime_s
        self._id: ConnectionId = next(_connection_ids)
        self._core: Connection[_Held] = Connection(settings.limits)
        self._sink = WebSocketSink(send, max_pending_bytes=settings.max_pending_bytes)
        self._turns: set[asyncio.Task[None]] = set()
        self._finished: dict[str, asyncio.Event] = {}  # running responses, by id
        self._close_code = 1000
        self._peer_is_gone = False

    async def serve(self) -> None:
        """Until either side closes. Leaves no task and no cache entry behind."""
        lifetime = asyncio.get_running_loop().call_later(self._lifetime_s, self._lifetime_over)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._reader = group.create_task(self._read())
                group.create_task(self._pump())
        finally:
            lifetime.cancel()
            self._runner.services.chains.drop_connection(self._id)

    def drain(self) -> None:
        """Refuse new creates, finish what runs, then close."""
        self._perform(self._core.drain())

    def abandon(self) -> None:
        """Drop what still runs and close now."""
        self._close_code = 1012
        self._stop_turns()
        self._sink.close()

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._peer_is_gone = True
                self._stop_turns()
                self._sink.close()
                return
            self._receive_message(message)

    async def _pump(self) -> None:
        """Send until there is nothing more to send, then close the socket and stop the reader."""
        sending = asyncio.create_task(self._sink.pump())
        closed = asyncio.create_task(self._sink.wait_closed())
        try:
            await asyncio.wait({sending, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()  # a reader that never reads would hold it for ever
            closed.cancel()
            await asyncio.gather(sending, closed, return_exceptions=True)
        if self._sink.is_too_slow:
            self._close_code = 1008
        self._stop_turns()
        if not self._peer_is_gone:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._send({"type": "websocket.close", "code": self._close_code})
            except (OSError, RuntimeError, TimeoutError):
                logger.debug("connection %d was gone before it was closed", self._id)
        self._reader.cancel()

    def _receive_message(self, message: MutableMapping[str, Any]) -> None:
        received = monotonic()
        lane: Lane = None
        try:
            text = message.get("text")
            if text is None:
                raise InvalidEvent("Messages must be text, one JSON object each.", param="type")
            data = text.encode()
            head = event_head(data)
            if head.type in _IGNORED_EVENTS:
                return
            if head.type in CONTROL_EVENTS:
                self._sink.push([decline(head.type, data)])
                return
            if head.type != "response.create":
                raise InvalidEvent(f"Unknown client event type '{head.type[:100]}'.", param="type")
            lane = lane_of(head.stream_id)
            request = decode_create(data)
            if not request.model:
                raise MissingParameter("model")
        except ApiError as error:
            self._sink.push([error_event(error, lane)])
            return
        held = _Held(
            bind_cached(self._runner.services.chains, self._principal, self._id, request.previous_response_id),
            TurnRecord(transport="websocket", lane=lane, received=received, bytes_in=len(data)),
        )
        self._perform(self._core.receive(request, lane, held), held)

    def _perform(self, actions: Sequence[Action["_Held"]], received: "_Held | None" = None) -> None:
        for action in actions:
            match action:
                case StartTurn():
                    task = self._group.create_task(self._run_turn(action))
                    self._turns.add(task)
                    task.add_done_callback(partial(self._turn_done, action.parent))
                case SendError():
                    if received is not None:
                        received.release()
                    self._sink.push([error_event(action.error, action.lane)])
                case EvictResponse():
                    self._runner.services.chains.evict(self._principal, self._id, action.response_id)
                case CloseConnection():
                    self._close_code = action.code
                    self._sink.finish()

    def _turn_done(self, held: "_Held | None", task: asyncio.Task[None]) -> None:
        """Also for a turn that was cancelled before it began: its coroutine never ran."""
        self._turns.discard(task)
        if held is not None:
            held.release()

    async def _run_turn(self, start: StartTurn["_Held"]) -> None:
        held = start.parent
        assert held is not None
        request = start.request
        over = asyncio.Event()
        response_id = ""

        def on_created(created_id: str) -> None:
            nonlocal response_id
            response_id = created_id
            self._finished[created_id] = over
            self._core.created(start.turn, created_id)

        failed = False
        try:
            parent_runs = self._finished.get(request.previous_response_id or "")
            if held.parent is None and parent_runs is not None:
                await parent_runs.wait()  # docs/design.md §1: a create that names a running response binds at its end
            turn = TurnRequest(
                principal=self._principal,
                request=request,
                record=held.record,
                connection=self._id,
                lane=start.lane,
                parent=held.parent,
                wants_timing=self._wants_timing,
                on_created=on_created,
            )
            outcome = await self._runner.run(turn, LaneSink(self._sink))
            failed = outcome.error is not None
            if outcome.error is not None and outcome.is_refused:
                self._sink.push([error_event(outcome.error, start.lane)])
        finally:
            over.set()
            self._finished.pop(response_id, None)
            self._perform(self._core.turn_over(start.turn, failed=failed))

    def _stop_turns(self) -> None:
        for held in self._core.abandon():
            held.release()
        for task in self._turns:
            task.cancel()

    def _lifetime_over(self) -> None:
        self._perform(self._core.lifetime_over())


@dataclass(frozen=True, slots=True)
class _Held:
    """What a request carries while it waits: its parent, pinned, and its record."""

    parent: Parent | None
    record: TurnRecord

    def release(self) -> None:
        """Let go of the parent. Idempotent."""
        if self.parent is not None:
            self.parent.release()


async def _refuse_handshake(scope: AsgiScope, send: AsgiSend, error: ApiError) -> None:
    """A plain HTTP status on the upgrade, with the ordinary error body where the server can send one."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": error.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error_body(error)})
