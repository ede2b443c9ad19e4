"""What a WebSocket connection does next, given what just happened (docs/protocol.md §5.4–5.6, §9). No I/O, no clock.

    lane      IDLE ──create──▶ RUNNING ──turn over, none waiting──▶ IDLE
              RUNNING ──create──▶ RUNNING      (waits its turn: first in, first out within a lane)

    steer of a running response
              PENDING ──it ends without calls──▶ input of a successor that the server starts, before what waits on the lane
              PENDING ──it ends with calls──▶ OWED ──the client's create with their outputs──▶ put before its input
              PENDING ──it fails or is interrupted──▶ comes back as failed

Lanes run side by side, `running` at most; what waits is started in arrival order. The default lane is the lane `None`. The
server feeds what happens and carries out the actions returned. Every rule about order, eviction and steering lives here.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import msgspec

from hotloop.errors import ApiError, ConnectionLimitReached, Overloaded, RateLimited, StreamLimitReached
from hotloop.protocol.actions import (
    Action,
    BindParent,
    Bound,
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
from hotloop.protocol.control import INTERRUPT_MODE, Interrupt, interrupt_failed, numbered_event
from hotloop.protocol.items import OwedItem
from hotloop.protocol.request import ResponseCreate
from hotloop.protocol.response import ResponseEnding
from hotloop.protocol.steering import (
    Steer,
    SteerError,
    accepted_fields,
    failed_fields,
    is_steerable,
    pending_fields,
    successor_of,
    with_steers,
)

RESPONSES_REMEMBERED = 1024  # ended responses whose lane is known; an older one counts as of the lane that continues it

_ACCEPTED = b"response.steer.accepted"
_PENDING = b"response.steer.pending"
_FAILED = b"response.steer.failed"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection (docs/protocol.md §1.6)."""

    running: int = 16
    waiting: int = 64
    lanes: int = 32
    lifetime_s: float = 3600.0
    steers: int = 64  # pending, owed ones included
    held_bytes: int = 256 * 2**20  # of requests that wait and steers that are pending


class TurnEnd(msgspec.Struct, frozen=True):
    """How a turn ended. `error` without `ending` is a refusal before `created`; neither: nobody is left to tell."""

    error: ApiError | None = None
    ending: ResponseEnding | None = None


class _Waiting(msgspec.Struct, Generic[Bound]):
    lane: Lane
    request: ResponseCreate
    bound: Bound
    size: int


class _Running(msgspec.Struct):
    lane: Lane
    request: ResponseCreate
    is_successor: bool
    applied: Sequence[Steer]  # in its input; committed once it is created
    response_id: str = ""
    steers: list[Steer] = []  # pending


class _Ended(msgspec.Struct):
    lane: Lane
    status: str
    calls: tuple[OwedItem, ...]  # the client still owes their outputs
    next_sequence: int
    owed: list[Steer] = []  # wait for those outputs


class Connection(Generic[Bound]):
    """Turn order of one connection.

    Args:
        limits: bounds of the connection.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._names: set[str] = set()
        self._turns: dict[int, _Running] = {}
        self._busy: set[Lane] = set()
        self._waiting: deque[_Waiting[Bound]] = deque()
        self._turn_of: dict[str, int] = {}  # running responses
        self._successor_of: dict[str, int] = {}  # steered responses whose successor is started but not created
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._next_turn = 0
        self._steers = 0
        self._refusal: ApiError | None = None
        self._close_code = 0
        self._is_closing = False
        self.held_bytes = 0  # accounted of `Limits.held_bytes`

    @property
    def running(self) -> int:
        """Turns under way."""
        return len(self._turns)

    @property
    def waiting(self) -> int:
        """Requests held."""
        return len(self._waiting)

    @property
    def pending_steers(self) -> int:
        """Steers accepted and not yet part of a response."""
        return self._steers

    def receive(self, request: ResponseCreate, lane: Lane, bound: Bound, size: int = 0) -> list[Action[Bound]]:
        """Accept a request of `size` bytes: start it, hold it, or refuse it. A refusal here never evicts the parent."""
        if self._can_start(request.previous_response_id, lane):
            return [self._start_asked(lane, request, bound)]
        refusal = self._refuse(request, lane, size)
        if refusal is not None:
            return [SendError(refusal, lane)]
        if lane is not None:
            self._names.add(lane)
        self._waiting.append(_Waiting(lane, request, bound, size))
        self.held_bytes += size
        return self._start_ready()

    def created(self, turn: int, response_id: str) -> list[Action[Bound]]:
        """The turn was admitted under this id; the steers in its input are committed."""
        run = self._turns[turn]
        run.response_id = response_id
        run.applied = ()
        self._turn_of[response_id] = turn
        if run.is_successor:
            self._successor_is_known(run)
        return [SteerTurn(turn)] if run.steers else []

    def turn_over(self, turn: int, end: TurnEnd) -> list[Action[Bound]]:
        """The turn reached its end."""
        run = self._turns.pop(turn)
        self._busy.discard(run.lane)
        self._turn_of.pop(run.response_id, None)
        if self._is_closing:
            return []
        actions: list[Action[Bound]] = []
        if end.ending is not None:
            self._remember(run, end.ending)
        elif end.error is not None:
            actions += self._refused(run, end.error)
        parent_id = run.request.previous_response_id
        if parent_id is not None and end.error is not None and self._evicts(run, parent_id, end):
            actions.append(EvictResponse(parent_id))
        if run.steers:
            actions += self._settle_steers(run, end)
        if self._waiting:
            actions += self._bind_waiting(run.response_id)
            actions += self._start_ready()
        return actions if self._refusal is None else actions + self._close_if_done()

    def interrupt(self, interrupt: Interrupt) -> list[Action[Bound]]:
        """Stop a running response. It overtakes whatever waits on the lane; for one that has just ended it comes late."""
        response_id = interrupt.response_id
        if interrupt.mode != INTERRUPT_MODE:
            failure = interrupt_failed(response_id, "unsupported_value", f"The only mode is '{INTERRUPT_MODE}'.")
            return [SendEvent(failure)]
        turn = self._turn_of.get(response_id)
        if turn is not None:
            return [InterruptTurn(turn)]
        if response_id in self._ended:
            return []
        message = "No response with this id runs on this connection."
        return [SendEvent(interrupt_failed(response_id, "response_not_found", message))]

    def steer(self, steer: Steer, steer_id: str) -> list[Action[Bound]]:
        """Queue input for a response that runs, or that waits for the outputs of its calls. Accepted, it gets `steer_id`."""
        turn = self._turn_of.get(steer.target, self._successor_of.get(steer.target))
        failure = self._refuse_steer(steer, turn)
        if failure is not None:
            return [self._beside(steer.target, _FAILED, failed_fields(steer, failure))]
        steer = msgspec.structs.replace(steer, id=steer_id)
        self._steers += 1
        self.held_bytes += steer.size_bytes
        accepted = self._beside(steer.target, _ACCEPTED, accepted_fields(steer))
        if turn is None:
            ended = self._ended[steer.target]
            ended.owed.append(steer)
            return [accepted, self._beside(steer.target, _PENDING, pending_fields(steer, ended.calls))]
        run = self._turns[turn]
        run.steers.append(steer)
        return [accepted, SteerTurn(turn)] if run.response_id else [accepted]

    def abandon(self) -> list[Bound]:
        """The connection is gone: nothing more starts. Returns what was bound for the requests that waited."""
        bound = [waiting.bound for waiting in self._waiting]
        self._waiting.clear()
        self._is_closing = True
        self._refusal = self._refusal or Overloaded("The connection is closing. Open a new one.", retry_after_s=1)
        self.held_bytes = self._steers = 0
        return bound

    def lifetime_over(self) -> list[Action[Bound]]:
        """New creates get the error from now on; running and waiting turns finish, then the connection closes."""
        return self._wind_down(ConnectionLimitReached(self._limits.lifetime_s), 1001)

    def drain(self) -> list[Action[Bound]]:
        """The server is shutting down: like the end of the lifetime, with 503 and close code 1012."""
        return self._wind_down(Overloaded("The server is shutting down. Reconnect to continue.", retry_after_s=1), 1012)

    def _wind_down(self, refusal: ApiError, code: int) -> list[Action[Bound]]:
        if self._refusal is None:
            self._refusal, self._close_code = refusal, code
        return self._close_if_done()

    def _close_if_done(self) -> list[Action[Bound]]:
        if self._refusal is None or self._turns or self._waiting or self._is_closing:
            return []
        self._is_closing = True
        close = CloseConnection(self._close_code)
        # docs/protocol.md §1.6, §1.7: the end of the lifetime is told by an error event, also to a client that is idle.
        is_aged = isinstance(self._refusal, ConnectionLimitReached)
        return [SendError(self._refusal, None), close] if is_aged else [close]

    def _refuse(self, request: ResponseCreate, lane: Lane, size: int) -> ApiError | None:
        if self._refusal is not None:
            return self._refusal
        if lane is not None and lane not in self._names and len(self._names) >= self._limits.lanes:
            return StreamLimitReached(self._limits.lanes)
        must_wait = (
            lane in self._busy
            or len(self._turns) >= self._limits.running
            or request.previous_response_id in self._turn_of
            or any(waiting.lane == lane for waiting in self._waiting)
        )
        if must_wait and len(self._waiting) >= self._limits.waiting:
            return RateLimited(f"{self._limits.waiting} requests are already waiting on this connection.")
        if must_wait and self.held_bytes + size > self._limits.held_bytes:
            return RateLimited("The requests waiting on this connection are too large together.")
        return None

    def _can_start(self, parent_id: str | None, lane: Lane) -> bool:
        """Nothing holds the request back: what is nearly always so, and then neither refused nor queued."""
        return (
            not self._waiting
            and lane not in self._busy
            and parent_id not in self._turn_of
            and (lane is None or lane in self._names)
            and self._refusal is None
            and len(self._turns) < self._limits.running
        )

    def _start_ready(self) -> list[Action[Bound]]:
        """Start, in arrival order, what neither its lane, its parent nor the connection's limit holds back."""
        actions: list[Action[Bound]] = []
        held: deque[_Waiting[Bound]] = deque()
        behind: set[Lane] = set()  # lanes whose first in line is held
        while self._waiting and len(self._turns) < self._limits.running:
            waiting = self._waiting.popleft()
            # docs/design.md §1: a create that names a running response waits and binds at its end.
            runs = waiting.request.previous_response_id in self._turn_of
            if waiting.lane in self._busy or waiting.lane in behind or runs:
                behind.add(waiting.lane)
                held.append(waiting)
                continue
            self.held_bytes -= waiting.size
            actions.append(self._start_asked(waiting.lane, waiting.request, waiting.bound))
        self._waiting.extendleft(reversed(held))
        return actions

    def _start_asked(self, lane: Lane, request: ResponseCreate, bound: Bound) -> StartTurn[Bound]:
        """With the steers that waited for it in its input."""
        steers = self._claim_owed(request.previous_response_id, lane)
        return self._start(lane, with_steers(request, steers) if steers else request, bound, steers)

    def _start(
        self, lane: Lane, request: ResponseCreate, bound: Bound | None, steers: Sequence[Steer]
    ) -> StartTurn[Bound]:
        turn = self._next_turn
        self._next_turn += 1
        self._turns[turn] = _Running(lane, request, is_successor=bound is None, applied=steers)
        self._busy.add(lane)
        if steers:
            self._let_go(steers)
        return StartTurn(turn, lane, request, bound)

    def _remember(self, run: _Running, ending: ResponseEnding) -> None:
        assert run.response_id, "a response without `created`"
        self._ended[run.response_id] = _Ended(run.lane, ending.status, ending.calls, ending.next_sequence)
        if len(self._ended) > RESPONSES_REMEMBERED:
            oldest = next(response_id for response_id, ended in self._ended.items() if not ended.owed)
            del self._ended[oldest]

    def _evicts(self, run: _Running, parent_id: str, end: TurnEnd) -> bool:
        """docs/protocol.md §5.4: a failed continuation evicts its parent, on the parent's own lane only.

        A successor that could not be created is no continuation: nobody asked for it.
        """
        is_continuation = end.ending is not None or not run.is_successor
        return is_continuation and self._lane_of(parent_id, run.lane) == run.lane

    def _lane_of(self, response_id: str, default: Lane) -> Lane:
        running = self._turn_of.get(response_id)  # named before it was there: it is continued by nobody yet
        if running is not None:
            return self._turns[running].lane
        ended = self._ended.get(response_id)
        return default if ended is None else ended.lane

    def _refused(self, run: _Running, error: ApiError) -> list[Action[Bound]]:
        """Before `created`: one `error` event, unless nobody asked; the steers in its input come back."""
        self._successor_is_known(run)
        told: list[Action[Bound]] = [] if run.is_successor else [SendError(error, run.lane)]
        return told + self._return_steers(run.applied, "successor_creation_failed")

    def _successor_is_known(self, run: _Running) -> None:
        """It has an id of its own to steer, or never will. Others may continue the same response."""
        if run.is_successor:
            self._successor_of.pop(run.request.previous_response_id or "", None)

    def _bind_waiting(self, response_id: str) -> list[Action[Bound]]:
        named = tuple(waiting.bound for waiting in self._waiting if waiting.request.previous_response_id == response_id)
        return [BindParent(response_id, named)] if response_id and named else []

    # --- steering, docs/protocol.md §9.1 ---

    def _refuse_steer(self, steer: Steer, turn: int | None) -> SteerError | None:
        ended = self._ended.get(steer.target)
        if turn is None and ended is None:
            return "invalid_input" if not steer.target and steer.problem else "response_not_found"
        if turn is None and ended is not None and not ended.calls:
            return "response_already_completed" if ended.status == "completed" else "response_not_active"
        if steer.problem:
            return "invalid_input"
        if turn is not None and not is_steerable(self._turns[turn].request):
            return "steering_not_supported"
        is_full = self.held_bytes + steer.size_bytes > self._limits.held_bytes
        if self._steers >= self._limits.steers or is_full:
            return "too_many_pending_steers"
        return "successor_creation_failed" if self._refusal is not None else None

    def _settle_steers(self, run: _Running, end: TurnEnd) -> list[Action[Bound]]:
        """What becomes of the steers that were pending when the turn ended."""
        steers, run.steers = run.steers, []
        if not steers:
            return []
        ending = end.ending
        if ending is None or ending.status == "failed":
            self._let_go(steers)
            return self._return_steers(steers, "successor_creation_failed")
        if ending.reason == "interrupted":
            self._let_go(steers)
            return self._return_steers(steers, "response_not_active")
        if not ending.calls:
            request = successor_of(run.request, run.response_id, steers)
            start: StartTurn[Bound] = self._start(run.lane, request, None, steers)
            self._successor_of[run.response_id] = start.turn
            return [start]
        self._ended[run.response_id].owed += steers
        if any(self._answers(waiting, run) for waiting in self._waiting):
            return []  # the continuation is here already: nothing to wait for
        return [self._beside(steer.target, _PENDING, pending_fields(steer, ending.calls)) for steer in steers]

    def _answers(self, waiting: _Waiting[Bound], run: _Running) -> bool:
        return waiting.lane == run.lane and waiting.request.previous_response_id == run.response_id

    def _claim_owed(self, response_id: str | None, lane: Lane) -> Sequence[Steer]:
        """The steers for the create that continues a response on its own lane; the calls count as answered."""
        ended = self._ended.get(response_id or "")
        if ended is None or ended.lane != lane:
            return ()
        steers, ended.owed, ended.calls = ended.owed, [], ()
        return steers

    def _return_steers(self, steers: Sequence[Steer], code: SteerError) -> list[Action[Bound]]:
        return [self._beside(steer.target, _FAILED, failed_fields(steer, code)) for steer in steers]

    def _let_go(self, steers: Sequence[Steer]) -> None:
        self._steers -= len(steers)
        self.held_bytes -= sum(steer.size_bytes for steer in steers)

    def _beside(self, response_id: str, kind: bytes, fields: bytes) -> Action[Bound]:
        """An event in the numbering of the response it is about, which may run or have ended."""
        turn = self._turn_of.get(response_id)
        if turn is not None:
            return Say(turn, kind, fields)
        ended = self._ended.get(response_id)
        if ended is None:
            return SendEvent(numbered_event(kind, 0, None, fields))
        number = ended.next_sequence
        ended.next_sequence += 1
        return SendEvent(numbered_event(kind, number, ended.lane, fields))
