"""What the connection core asks the server to do. Plain data; to be carried out in order."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.request import ResponseCreate

Lane = str | None  # None: the default lane
Bound = TypeVar("Bound")  # the parent's state, as the server holds it; holding it is the pin


class StartTurn(msgspec.Struct, Generic[Bound], frozen=True):
    """Run the request now.

    `bound` is what came with the request when it was received; None for a turn that no client asked for.
    """

    turn: int  # number of the turn on this connection
    lane: Lane
    request: ResponseCreate
    bound: Bound | None


@dataclass(frozen=True, slots=True)
class BindParent(Generic[Bound]):
    """The response these requests wait for has ended: pin it for them now, before anything can evict it."""

    response_id: str
    waiting: tuple[Bound, ...]


@dataclass(frozen=True, slots=True)
class InterruptTurn:
    """Stop the turn now, keeping the items that are whole."""

    turn: int


@dataclass(frozen=True, slots=True)
class SteerTurn:
    """Stop the turn at its next safe output boundary."""

    turn: int


@dataclass(frozen=True, slots=True)
class Say:
    """Send an event beside a running turn's output, numbered among its events. `fields` follow the common ones."""

    turn: int
    kind: bytes
    fields: bytes


@dataclass(frozen=True, slots=True)
class SendEvent:
    """Send an event that belongs to no running response."""

    event: bytes


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


Action = (
    StartTurn[Bound]
    | BindParent[Bound]
    | InterruptTurn
    | SteerTurn
    | Say
    | SendEvent
    | SendError
    | EvictResponse
    | CloseConnection
)
