"""One WebSocket connection, whatever carries it: performs what the connection core decides.

    transport ──receive, peer_left──▶ ServedConnection ──push, finish──▶ ConnectionSink ──▶ transport

The turns are owned by `serve`; a create that nothing holds back runs in the call that brought it. The core owns every rule of
order, the transport the socket, the sink framing and back-pressure.
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
from hotloop.protocol.client_event import Control, read_event
from hotloop.protocol.connection import Connection, Limits, TurnEnd
from hotloop.protocol.control import Injection, Interrupt, Reply, decline_injection
from hotloop.protocol.request import ResponseCreate, put_tools
from hotloop.protocol.steering import Steer
from hotloop.protocol.wire import error_event
from hotloop.server.sinks import ConnectionSink, LaneSink
from hotloop.session.chain_cache import ConnectionId
from hotloop.session.input_survey import InputSurvey
from hotloop.session.principal import Principal
from hotloop.turns.bind import Parent, bind_cached
from hotloop.turns.record import TurnRecord, monotonic
from hotloop.turns.runner import TurnRunner
from hotloop.turns.terms import LaneTerms
from hotloop.turns.turn import Turn
from hotloop.turns.turn_request import RunningTurn, TurnOutcome, TurnRequest

logger = logging.getLogger(__name__)

_connection_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """Bounds of a connection."""

    limits: Limits
    max_pending_bytes: int
    max_delay_s: float = 0.0  # an event may wait so long for others to leave with


class ServedConnection:
    """One accepted connection.

    Args:
        fallbacks: slower paths that every turn takes here, for its record.
    """

    def __init__(
        self,
        runner: TurnRunner,
        settings: SocketSettings,
        principal: Principal,
        sink: ConnectionSink,
        reader: MessageReader,
        *,
        wants_timing: bool,
        fallbacks: tuple[str, ...] = (),
    ) -> None:
        self._runner = runner
        self._reader = reader
        self._principal = principal
        self._wants_timing = wants_timing
        self._fallbacks = fallbacks
        self._lifetime_s = settings.limits.lifetime_s
        self._id: ConnectionId = next(_connection_ids)
        self._core: Connection[_Held] = Connection(settings.limits)
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._turns: dict[int, Turn] = {}  # that are not over
        self._to_start: deque[StartTurn[_Held]] = deque()  # in the loop's next tick
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
            if self._reading is not None:
                await asyncio.wait({self._reading})
            for turn in list(self._turns.values()):
                await turn.settled()
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
        self._take(data if is_text else None, None)
        return None

    async def _read_inbox(self) -> None:
        """One message after the other, in the order they came: what they do depends on it."""
        try:
            while self._inbox:
                message = self._inbox.popleft()
                if message is None or not self._reader.is_long(message):
                    self._take(message, None)
                    continue
                received = monotonic()
                self._take(message, await self._reader.event(message), received)
        except Exception as error:
            self._break(error)
        finally:
            self._reading = None

    def _take(self, data: bytes | None, read: ReadEvent | None, received: float = 0.0) -> None:
        """Do what the message asks for; one that was long is `read` already. None: it was no text."""
        received = received or monotonic()
        try:
            if data is None:
                raise InvalidEvent("Messages must be text, one JSON object each.", param="type")
            event = read_event(data) if read is None else read.event
            if event.error is not None:
                self._sink.push([error_event(event.error, event.lane)])
            elif event.request is None:
                self._control(event.control)
            else:
                self._create(event.request, event.lane, read, received, len(data))
        except ApiError as error:
            self._sink.push([error_event(error, None)])
        except Exception as error:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        logger.error("a bug brought a connection down", exc_info=error)
        self._sink.push([error_event(ServerFault("Something went wrong on the server's side."))])
        self._stop_turns()
        self._sink.finish(1011)

    def _create(self, request: ResponseCreate, lane: Lane, read: ReadEvent | None, received: float, size: int) -> None:
        # Unchanged tools stay the same object: `request.tools is` those of the create before.
        if self._tools is None or request.tools != self._tools:
            self._tools = self._runner.services.raw_texts.same(request.tools)
        put_tools(request, self._tools)
        held = self._hold(request, lane, received, size)
        if read is not None:
            held.record.fallbacks, held.survey = (*self._fallbacks, *read.fallbacks), read.survey
        for action in self._core.receive(request, lane, held, size):
            if type(action) is StartTurn:
                self._start(action)
            else:  # it is refused
                held.release()
                self._perform((action,))

    def _hold(self, request: ResponseCreate, lane: Lane, received: float, size: int) -> "_Held":
        return _Held(
            bind_cached(self._runner.services.chains, self._principal, self._id, request.previous_response_id),
            TurnRecord(transport="websocket", lane=lane, received=received, bytes_in=size, fallbacks=self._fallbacks),
        )

    def _bind(self, response_id: str | None) -> Parent | None:
        return bind_cached(self._runner.services.chains, self._principal, self._id, response_id)

    def _control(self, control: Control | None) -> None:
        match control:
            case Steer():
                self._perform(self._core.steer(control, self._runner.services.new_id("steer")))
            case Interrupt():
                self._perform(self._core.interrupt(control))
            case Injection():
                self._sink.push([decline_injection(control)])
            case Reply():
                self._sink.push([control.event])
            case None:
                pass

    def _perform(self, actions: Sequence[Action["_Held"]]) -> None:
        for action in actions:
            match action:
                case StartTurn():  # not now: an engine's last call may have led here
                    self._to_start.append(action)
                    self._loop.call_soon(self._start_next)
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
                    self._sink.push([error_event(action.error, action.lane)])
                case EvictResponse():
                    self._runner.services.chains.evict(self._principal, self._id, action.response_id)
                case CloseConnection():
                    self._sink.finish(action.code)

    def _start_next(self) -> None:
        if self._to_start:
            self._start(self._to_start.popleft())

    def _start(self, start: StartTurn["_Held"]) -> None:
        held, number, lane = start.bound, start.turn, start.lane
        if held is None:  # a steered response's successor: nobody sent it
            held = self._hold(start.request, lane, monotonic(), memoryview(start.request.input).nbytes)
        terms = self._terms.get(lane)
        if terms is None:
            terms = self._terms[lane] = LaneTerms()
        request = TurnRequest(
            principal=self._principal,
            request=start.request,
            record=held.record,
            connection=self._id,
            lane=lane,
            parent=held.parent,
            survey=held.survey,
            wants_timing=self._wants_timing,
            lane_terms=terms,
            on_created=partial(self._created, number),
        )
        turn = self._runner.turn(request, LaneSink(self._sink), partial(self._turn_over, number))
        self._turns[number] = turn
        turn.begin()

    def _created(self, number: int, response: RunningTurn) -> None:
        self._running[number] = response
        actions = self._core.created(number, response.response_id)
        if actions:
            self._perform(actions)

    def _turn_over(self, number: int, outcome: TurnOutcome) -> None:
        try:
            del self._turns[number]
            self._running.pop(number, None)
            end = TurnEnd(None if outcome.keeps_parent else outcome.error, outcome.ending)
            actions = self._core.turn_over(number, end)
            if actions:
                self._perform(actions)
        except Exception as error:  # the engine, which may have called, must not see it
            self._break(error)

    def _stop_turns(self) -> None:
        self._inbox.clear()
        if self._reading is not None:
            self._reading.cancel()
        for held in self._core.abandon():
            held.release()
        while self._to_start:
            bound = self._to_start.popleft().bound
            if bound is not None:
                bound.release()
        for turn in list(self._turns.values()):
            turn.abandon()

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
