"""What a WebSocket connection does next, given what just happened (docs/protocol.md §5.4–5.6). No I/O, no clock.

    lane:   IDLE ──create──▶ RUNNING ──turn over, none waiting──▶ IDLE
            RUNNING ──create──▶ RUNNING      (waits its turn: first in, first out within a lane)

Lanes run side by side, `max_running` at most; what waits is started in arrival order. The default lane is the lane
`None`. The server feeds `receive` and `turn_over` and carries out the actions they return. Every rule about order and
eviction lives in this file.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from hotloop.errors import ApiError, ConnectionLimitReached, Overloaded, RateLimited, StreamLimitReached
from hotloop.protocol.control import INTERRUPT_MODE, Interrupt, interrupt_failed
from hotloop.protocol.request import ResponseCreate

LANES_REMEMBERED = 1024  # responses whose lane is known; an older one counts as the lane that continues it

Lane = str | None
Bound = TypeVar("Bound")  # the parent's state, as the server holds it; holding it is the pin


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection (docs/protocol.md §1.6)."""

    running: int = 16
    waiting: int = 64
    lanes: int = 32
    lifetime_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class StartTurn(Generic[Bound]):
    """Run the request now. `parent` is what was bound when the request arrived, if it existed then."""

    turn: int  # number of the turn on this connection, for `turn_over`
    lane: Lane
    request: ResponseCreate
    parent: Bound | None


@dataclass(frozen=True, slots=True)
class SendError:
    """Refuse a request with one `error` event."""

    error: ApiError
    lane: Lane


@dataclass(frozen=True, slots=True)
class EvictResponse:
    """Forget the response for later lookups on this connection."""

    response_id: str


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Nothing more will run here: close with this code."""

    code: int


@dataclass(frozen=True, slots=True)
class InterruptTurn:
    """Stop the turn now, keeping the items that are whole."""

    turn: int


@dataclass(frozen=True, slots=True)
class SendEvent:
    """Send an event that belongs to no running response."""

    event: bytes


Action = StartTurn[Bound] | SendError | EvictResponse | CloseConnection | InterruptTurn | SendEvent


@dataclass(slots=True)
class _Waiting(Generic[Bound]):
    lane: Lane
    request: ResponseCreate
    parent: Bound | None


class Connection(Generic[Bound]):
    """Turn order of one connection.

    Args:
        limits: bounds of the connection.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._names: set[str] = set()
        self._running: dict[int, tuple[Lane, ResponseCreate]] = {}
        self._busy: set[Lane] = set()
        self._waiting: deque[_Waiting[Bound]] = deque()
        self._lane_of: OrderedDict[str, Lane] = OrderedDict()  # lane of the responses this connection made
        self._turn_of: dict[str, int] = {}  # running responses
        self._next_turn = 0
        self._refusal: ApiError | None = None
        self._close_code = 0
        self._is_closing = False

    @property
    def running(self) -> int:
        """Turns under way."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests held."""
        return len(self._waiting)

    def receive(self, request: ResponseCreate, lane: Lane, parent: Bound | None) -> list[Action[Bound]]:
        """Accept a request: start it, hold it, or refuse it. A refusal here never evicts the parent."""
        must_wait = lane in self._busy or len(self._running) >= self._limits.running
        refusal = self._refuse(lane, must_wait=must_wait)
        if refusal is not None:
            return [SendError(refusal, lane)]
        if lane is not None:
            self._names.add(lane)
        self._waiting.append(_Waiting(lane, request, parent))
        return self._start_ready()

    def created(self, turn: int, response_id: str) -> None:
        """The turn was admitted under this id; the id belongs to the turn's lane from now on."""
        self._turn_of[response_id] = turn
        self._lane_of[response_id] = self._running[turn][0]
        if len(self._lane_of) > LANES_REMEMBERED:
            self._lane_of.popitem(last=False)

    def turn_over(self, turn: int, *, failed: bool) -> list[Action[Bound]]:
        """The turn reached its end. `failed`: it ended in an `error` event or in `response.failed` after it was bound."""
        lane, request = self._running.pop(turn)
        self._turn_of = {response_id: other for response_id, other in self._turn_of.items() if other != turn}
        self._busy.discard(lane)
        actions: list[Action[Bound]] = []
        parent_id = request.previous_response_id
        # docs/protocol.md §5.4: a failed continuation evicts its parent, on the parent's own lane only.
        if failed and parent_id is not None and self._lane_of.get(parent_id, lane) == lane:
            actions.append(EvictResponse(parent_id))
        actions += self._start_ready()
        return actions + self._close_if_done()

    def interrupt(self, interrupt: Interrupt) -> list[Action[Bound]]:
        """Stop a running response. It overtakes whatever waits on the lane; for one that has just ended it comes late."""
        response_id = interrupt.response_id
        if interrupt.mode != INTERRUPT_MODE:
            failure = interrupt_failed(response_id, "unsupported_value", f"The only mode is '{INTERRUPT_MODE}'.")
            return [SendEvent(failure)]
        turn = self._turn_of.get(response_id)
        if turn is not None:
            return [InterruptTurn(turn)]
        if response_id in self._lane_of:
            return []
        message = "No response with this id runs on this connection."
        return [SendEvent(interrupt_failed(response_id, "response_not_found", message))]

    def abandon(self) -> list[Bound]:
        """The connection is gone: nothing more starts. Returns what was bound for the requests that waited."""
        bound = [waiting.parent for waiting in self._waiting if waiting.parent is not None]
        self._waiting.clear()
        self._is_closing = True
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
        if self._refusal is None or self._running or self._waiting or self._is_closing:
            return []
        self._is_closing = True
        close = CloseConnection(self._close_code)
        # docs/protocol.md §1.6, §1.7: the end of the lifetime is told by an error event, also to a client that is idle.
        is_aged = isinstance(self._refusal, ConnectionLimitReached)
        return [SendError(self._refusal, None), close] if is_aged else [close]

    def _refuse(self, lane: Lane, *, must_wait: bool) -> ApiError | None:
        if self._refusal is not None:
            return self._refusal
        if lane is not None and lane not in self._names and len(self._names) >= self._limits.lanes:
            return StreamLimitReached(self._limits.lanes)
        if must_wait and len(self._waiting) >= self._limits.waiting:
            return RateLimited(f"{self._limits.waiting} requests are already waiting on this connection.")
        return None

    def _start_ready(self) -> list[Action[Bound]]:
        """Start, in arrival order, what neither the lane nor the connection's limit holds back."""
        actions: list[Action[Bound]] = []
        held: deque[_Waiting[Bound]] = deque()
        while self._waiting and len(self._running) < self._limits.running:
            waiting = self._waiting.popleft()
            if waiting.lane in self._busy:
                held.append(waiting)
                continue
            turn = self._next_turn
            self._next_turn += 1
            self._running[turn] = (waiting.lane, waiting.request)
            self._busy.add(waiting.lane)
            actions.append(StartTurn(turn, waiting.lane, waiting.request, waiting.parent))
        self._waiting.extendleft(reversed(held))
        return actions
