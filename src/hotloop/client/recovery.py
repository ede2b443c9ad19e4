"""What to do about a broken turn: one action per cause, decided here and nowhere else. No I/O, no clock.

    cause                                                    action
    ───────────────────────────────────────────────────────  ─────────────────────────────────────────────
    nobody answers, and nobody ever did                      give up
    no WebSocket comes through                               fall back to HTTP for good
    connection lost; server restarting                       back off, new connection, full history
    previous_response_not_found, connection limit            at once: new connection, full history
    429                                                      wait as told (else back off), send the same again
    5xx, or a `response.failed` of the same kind             back off, new connection, full history
    any other 4xx, `response.failed`, `response.incomplete`  give up
    retries used up, connection lost again and again         fall back to HTTP if there is a way, else give up
    retries used up, else                                    give up

A completed turn refills the budget of retries.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hotloop.client.errors import (
    AgentError,
    CannotConnect,
    ConnectionLost,
    RequestRefused,
    ResponseFailed,
    WebSocketBlocked,
)

RETRY_DELAYS_S = (0.2, 0.4, 0.8, 1.6, 3.2)  # one entry per retry; 6 s in all, a restart of the engine takes less
MAX_WAIT_S = 60.0  # a server that asks for more is out of order as far as an agent is concerned

_STALE_CHAIN = {"previous_response_not_found", "websocket_connection_limit_reached"}
_FINAL_RATE_LIMITS = {"insufficient_quota", "usage_not_included"}  # docs/protocol.md §10.4: not retried
_RETRIED_FAILURES = {  # codes of response.failed that would be 429 or 5xx as an error event
    "server_error",
    "rate_limit_exceeded",
    "server_is_overloaded",
    "engine_unavailable",
    "engine_timeout",
    "storage_unavailable",
}
_RATE_LIMITED = 429
_SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Retry:
    """Send the turn again after `delay_s`; `afresh`: on a new connection with the full history."""

    reason: str
    delay_s: float
    afresh: bool


@dataclass(frozen=True, slots=True)
class FallBack:
    """Send this turn and all later ones, in full, over the other transport."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Show the error to the caller."""

    error: AgentError


Action = Retry | FallBack | GiveUp


class Recovery:
    """The budget of retries, and the table above.

    Args:
        delays_s: back-off before each retry.
        jitter: a number from 0 to 1 per call; takes up to a quarter off a delay, so that clients do not march in step.
        can_fall_back: whether there is another transport.
    """

    def __init__(self, *, delays_s: tuple[float, ...], jitter: Callable[[], float], can_fall_back: bool) -> None:
        self._delays_s = delays_s
        self._jitter = jitter
        self._can_fall_back = can_fall_back
        self._used = 0
        self._reached = False

    def reached(self) -> None:
        """The server has answered: from now on its absence is a fault that may pass."""
        self._reached = True

    def completed(self) -> None:
        """A turn is whole: later trouble is new trouble."""
        self._used = 0

    def decide(self, error: AgentError) -> Action:
        """The action for this error. A fallback may be asked for once; then all is as without one."""
        match error:
            case WebSocketBlocked():
                return self._fall_back(error) if self._can_fall_back else GiveUp(error)
            case CannotConnect() if not self._reached:
                return GiveUp(error)
            case CannotConnect() | ConnectionLost():
                return self._retry(error)
            case RequestRefused(code=code) if code in _STALE_CHAIN:
                return self._retry(error, delay_s=0.0)
            case RequestRefused(status=status, code=code) if status == _RATE_LIMITED:
                if code in _FINAL_RATE_LIMITS:
                    return GiveUp(error)
                return self._retry(error, delay_s=error.retry_after_s, afresh=False)
            case RequestRefused(status=status) if status >= _SERVER_ERROR:
                return self._retry(error, delay_s=error.retry_after_s)
            case ResponseFailed(code=code) if code in _RETRIED_FAILURES:
                return self._retry(error, delay_s=error.retry_after_s)
            case _:
                return GiveUp(error)

    def _retry(self, error: AgentError, *, delay_s: float | None = None, afresh: bool = True) -> Action:
        if self._used >= len(self._delays_s):
            is_wire = isinstance(error, ConnectionLost | CannotConnect)
            return self._fall_back(error) if is_wire and self._can_fall_back else GiveUp(error)
        if delay_s is None:
            delay_s = self._delays_s[self._used] * (1 - self._jitter() / 4)
        if delay_s > MAX_WAIT_S:
            return GiveUp(error)
        self._used += 1
        return Retry(error.code, delay_s, afresh)

    def _fall_back(self, error: AgentError) -> Action:
        self._can_fall_back = False
        self._used = 0
        return FallBack(error.code)
