"""One WebSocket connection, whatever carries it: performs what the connection core decides.

    transport ──receive, peer_left──▶ ServedConnection ──push, finish──▶ ConnectionSink ──▶ transport

One task per running turn, all owned by `serve`; the core owns every rule of order. The transport owns the socket, the sink
owns framing and back-pressure.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from hotloop.decoding.reader import MessageReader, ReadEvent
from hotloop.errors import ApiError, InvalidEvent, ServerFault
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
from hotloop.protocol.client_event import read_event
from hotloop.protocol.connection import Connection, Limits, TurnEnd
from hotloop.protocol.control import decline_injection, decode_interrupt
from hotloop.protocol.request import ResponseCreate, put_tools
from hotloop.protocol.steering import decode_steer
from hotloop.protocol.wire import error_event
from hotloop.server.sinks import ConnectionSink, LaneSink
from hotloop.session.chain_cache import ConnectionId
from hotloop.session.input_survey import InputSurvey
from hotloop.session.principal import Principal
from hotloop.turns.bind import Parent, bind_cached
from hotloop.turns.record import TurnRecord, monotonic
from hotloop.turns.runner import TurnRunner
from hotloop.turns.terms import LaneTerms
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
        reader: MessageReader,
        *,
        wants_timing: bool,
    ) -> None:
        self._runner = runner
        self._reader = reader
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
        self._terms: dict[Lane, LaneTerms] = {}  # of the lanes that were used: the core bounds their number
        self._tools: msgspec.Raw | None = None  # of the last create
        self._inbox: deque[bytes | None] = deque()  # messages behind one that is being read; None: a binary one
        self._reading: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Until `stop`. Leaves no task and no cache entry behind."""
        lifetime = self._loop.call_later(self._lifetime_s, self._lifetime_over)
        try:
            await self._over
        finally:
            lifetime.cancel()
            self._stop_turns()
            reading = [self._reading] if self._reading is not None else []
            await asyncio.gather(*self._turns, *reading, return_exceptions=True)
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

    def receive(self, data: bytes, *, is_text: bool = True) -> "asyncio.Future[None] | None":
        """A message. A bug here ends the connection with 1011, not the server's other connections.

        A future: this message or one before it is still being read; the transport lets the client wait until it is done.
        """
        if self._reading is not None:
            self._inbox.append(data if is_text else None)
            return self._reading
        if is_text and self._reader.is_long(data):
            self._inbox.append(data)
            self._reading = self._loop.create_task(self._read_inbox())
            return self._reading
        self._take(data if is_text else None)
        return None

    async def _read_inbox(self) -> None:
        """One message after the other, in the order they came: what they do depends on it."""
        try:
            while self._inbox:
                message = self._inbox.popleft()
                if message is None or not self._reader.is_long(message):
                    self._take(message)
                    continue
                received = monotonic()
                self._take(message, await self._reader.event(message), received)
        except Exception as error:
            self._break(error)
        finally:
            self._reading = None

    def _take(self, data: bytes | None, read: ReadEvent | None = None, received: float = 0.0) -> None:
        try:
            if data is None:
                error = InvalidEvent("Messages must be text, one JSON object each.", param="type")
                self._sink.push([error_event(error, None)])
                return
            received = received or monotonic()
            self._receive(data, read or ReadEvent(read_event(data)), received)
        except Exception as error:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        logger.error("a bug brought a connection down", exc_info=error)
        self._sink.push([error_event(ServerFault("Something went wrong on the server's side."))])
        self._stop_turns()
        self._sink.finish(1011)

    def _receive(self, data: bytes, read: ReadEvent, received: float) -> None:
        event, request = read.event, read.event.request
        try:
            if event.error is not None:
                raise event.error
            if request is None:
                self._control(event.kind, data)
                return
        except ApiError as error:
            self._sink.push([error_event(error, event.lane)])
            return
        # Unchanged tools stay the same object: `request.tools is` those of the create before.
        if self._tools is None or request.tools != self._tools:
            self._tools = self._runner.services.raw_texts.same(request.tools)
        put_tools(request, self._tools)
        held = self._hold(request, event.lane, received, len(data))
        held.record.fallbacks, held.survey = read.fallbacks, read.survey
        self._perform(self._core.receive(request, event.lane, held, len(data)), held)

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
                survey=held.survey,
                wants_timing=self._wants_timing,
                lane_terms=self._terms.setdefault(start.lane, LaneTerms()),
                on_created=on_created,
            )
            outcome = await self._runner.run(turn, LaneSink(self._sink))
            end = TurnEnd(None if outcome.keeps_parent else outcome.error, outcome.ending)
        finally:
            self._running.pop(start.turn, None)
            self._perform(self._core.turn_over(start.turn, end))

    def _stop_turns(self) -> None:
        self._inbox.clear()
        if self._reading is not None:
            self._reading.cancel()
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
    survey: InputSurvey | None = None

    def release(self) -> None:
        """Let go of the parent. Idempotent."""
        if self.parent is not None:
            self.parent.release()
