"""One WebSocket connection, whatever carries it: performs what the connection core decides.

    transport ──receive, peer_left──▶ ServedConnection ──push, finish──▶ ConnectionSink ──▶ transport

One task per running turn, all owned by `serve`; the core owns every rule of order. The transport owns the socket, the sink
owns framing and back-pressure.
"""

import asyncio
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from hotloop.errors import ApiError, InvalidEvent, MissingParameter, ServerFault
from hotloop.protocol.actions import (
    Action,
    BindParent,
    CloseConnection,
    EvictResponse,
    InterruptTurn,
    Lane,
    Say,
    SendError,
    SendEvent,
    StartTurn,
    SteerTurn,
)
from hotloop.protocol.connection import Connection, Limits, TurnEnd
from hotloop.protocol.control import decline_injection, decode_interrupt
from hotloop.protocol.request import (
    ResponseCreate,
    check_socket_create,
    decode_socket_create,
    event_head,
    lane_of,
    put_tools,
    whole_create,
)
from hotloop.protocol.steering import decode_steer
from hotloop.protocol.wire import error_event
from hotloop.server.sinks import ConnectionSink, LaneSink
from hotloop.session.chain_cache import ConnectionId
from hotloop.session.principal import Principal
from hotloop.turns.bind import Parent, bind_cached
from hotloop.turns.record import TurnRecord, monotonic
from hotloop.turns.runner import TurnRunner
from hotloop.turns.turn_request import RunningTurn, TurnRequest

logger = logging.getLogger(__name__)

_connection_ids = itertools.count(1)
_IGNORED_EVENTS = frozenset({"response.processed"})  # docs/protocol.md §2: some Codex versions acknowledge


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Bounds of a connection."""

    limits: Limits
    max_pending_bytes: int


class ServedConnection:
    """One accepted connection."""

    def __init__(
        self,
        runner: TurnRunner,
        settings: SocketSettings,
        principal: Principal,
        sink: ConnectionSink,
        *,
        wants_timing: bool,
    ) -> None:
        self._runner = runner
        self._principal = principal
        self._wants_timing = wants_timing
        self._lifetime_s = settings.limits.lifetime_s
        self._id: ConnectionId = next(_connection_ids)
        self._core: Connection[_Held] = Connection(settings.limits)
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._turns: set[asyncio.Task[None]] = set()
        self._running: dict[int, RunningTurn] = {}  # turns that have a response
        self._tools: msgspec.Raw | None = None  # of the last create

    async def serve(self) -> None:
        """Until `stop`. Leaves no task and no cache entry behind."""
        lifetime = self._loop.call_later(self._lifetime_s, self._lifetime_over)
        try:
            await self._over
        finally:
            lifetime.cancel()
            self._stop_turns()
            await asyncio.gather(*self._turns, return_exceptions=True)
            self._runner.services.chains.drop_connection(self._id)

    def stop(self) -> None:
        """The socket is gone or closed: cancel what runs and end `serve`. Idempotent."""
        self._stop_turns()
        if not self._over.done():
            self._over.set_result(None)

    @property
    def waiting(self) -> int:
        """Creates held until their lane is free."""
        return self._core.waiting

    def drain(self) -> None:
        """Refuse new creates, finish what runs, then close."""
        self._perform(self._core.drain())

    def abandon(self) -> None:
        """Drop what still runs and close now."""
        self._stop_turns()
        self._sink.close(1012)

    def resume(self) -> None:
        """The client reads again: its turns send what they held back."""
        for turn in list(self._running.values()):
            turn.resume()

    def receive_binary(self) -> None:
        """A binary message: only text is spoken here."""
        self._sink.push([error_event(InvalidEvent("Messages must be text, one JSON object each.", param="type"), None)])

    def receive(self, data: bytes) -> None:
        """A text message. A bug here ends the connection with 1011, not the server's other connections."""
        try:
            self._receive(data)
        except Exception as error:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        logger.error("a bug brought a connection down", exc_info=error)
        self._sink.push([error_event(ServerFault("Something went wrong on the server's side."))])
        self._stop_turns()
        self._sink.finish(1011)

    def _receive(self, data: bytes) -> None:
        received = monotonic()
        lane: Lane = None
        try:
            request = whole_create(data)
            if request is not None:
                lane = lane_of(request.stream_id)
                check_socket_create(request)
            else:
                head = event_head(data)
                if head.type != "response.create":
                    self._control(head.type, data)
                    return
                lane = lane_of(head.stream_id)
                request = decode_socket_create(data)
            if not request.model:
                raise MissingParameter("model")
        except ApiError as error:
            self._sink.push([error_event(error, lane)])
            return
        # Unchanged tools stay the same object: `request.tools is` those of the create before.
        self._tools = self._runner.services.raw_texts.same(request.tools, self._tools)
        put_tools(request, self._tools)
        held = self._hold(request, lane, received, len(data))
        self._perform(self._core.receive(request, lane, held, len(data)), held)

    def _hold(self, request: ResponseCreate, lane: Lane, received: float, size: int) -> "_Held":
        return _Held(
            self._bind(request.previous_response_id),
            TurnRecord(transport="websocket", lane=lane, received=received, bytes_in=size),
        )

    def _bind(self, response_id: str | None) -> Parent | None:
        return bind_cached(self._runner.services.chains, self._principal, self._id, response_id)

    def _control(self, kind: str, data: bytes) -> None:
        if kind in _IGNORED_EVENTS:
            return
        match kind:
            case "response.steer":
                self._perform(self._core.steer(decode_steer(data), self._runner.services.new_id("steer")))
            case "response.interrupt":
                interrupt = decode_interrupt(data)
                if isinstance(interrupt, bytes):
                    self._sink.push([interrupt])
                else:
                    self._perform(self._core.interrupt(interrupt))
            case "response.inject":
                self._sink.push([decline_injection(data)])
            case _:
                raise InvalidEvent(f"Unknown client event type '{kind[:100]}'.", param="type")

    def _perform(self, actions: Sequence[Action["_Held"]], received: "_Held | None" = None) -> None:
        for action in actions:
            match action:
                case StartTurn():
                    self._start(action)
                case BindParent():
                    for held in action.waiting:
                        held.parent = held.parent or self._bind(action.response_id)
                case InterruptTurn():
                    self._running[action.turn].interrupt()
                case SteerTurn():
                    self._running[action.turn].steer()
                case Say():
                    self._running[action.turn].say(action.kind, action.fields)
                case SendEvent():
                    self._sink.push([action.event])
                case SendError():
                    if received is not None:
                        received.release()
                    self._sink.push([error_event(action.error, action.lane)])
                case EvictResponse():
                    self._runner.services.chains.evict(self._principal, self._id, action.response_id)
                case CloseConnection():
                    self._sink.finish(action.code)

    def _start(self, start: StartTurn["_Held"]) -> None:
        held = start.bound
        if held is None:  # a steered response's successor: nobody sent it
            held = self._hold(start.request, start.lane, monotonic(), len(bytes(start.request.input)))
        task = self._loop.create_task(self._run_turn(start, held))
        self._turns.add(task)
        task.add_done_callback(partial(self._turn_done, held))

    def _turn_done(self, held: "_Held", task: asyncio.Task[None]) -> None:
        """Also for a turn that was cancelled before it began: its coroutine never ran."""
        self._turns.discard(task)
        held.release()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._break(error)

    async def _run_turn(self, start: StartTurn["_Held"], held: "_Held") -> None:
        def on_created(turn: RunningTurn) -> None:
            self._running[start.turn] = turn
            self._perform(self._core.created(start.turn, turn.response_id))

        end = TurnEnd()
        try:
            turn = TurnRequest(
                principal=self._principal,
                request=start.request,
                record=held.record,
                connection=self._id,
                lane=start.lane,
                parent=held.parent,
                wants_timing=self._wants_timing,
                on_created=on_created,
            )
            outcome = await self._runner.run(turn, LaneSink(self._sink))
            end = TurnEnd(None if outcome.keeps_parent else outcome.error, outcome.ending)
        finally:
            self._running.pop(start.turn, None)
            self._perform(self._core.turn_over(start.turn, end))

    def _stop_turns(self) -> None:
        for held in self._core.abandon():
            held.release()
        for task in self._turns:
            task.cancel()

    def _lifetime_over(self) -> None:
        self._perform(self._core.lifetime_over())


class _Held(msgspec.Struct):
    """What a request carries while it waits: its parent, pinned, and its record."""

    parent: Parent | None
    record: TurnRecord

    def release(self) -> None:
        """Let go of the parent. Idempotent."""
        if self.parent is not None:
            self.parent.release()
