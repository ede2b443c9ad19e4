"""What a door and a turn say to each other: the request, what can be asked of it while it runs, the outcome."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.items import Item
from hotloop.protocol.request import ResponseCreate
from hotloop.protocol.response import ResponseEnding
from hotloop.session.chain_cache import ConnectionId
from hotloop.session.input_survey import InputSurvey
from hotloop.session.principal import Principal
from hotloop.turns.bind import Parent
from hotloop.turns.record import TurnRecord
from hotloop.turns.terms import LaneTerms


class RunningTurn(Protocol):
    """What can be asked of a turn between `response.created` and its terminal event. Later it has no effect."""

    @property
    def response_id(self) -> str:
        """Id of its response."""
        ...

    def interrupt(self) -> None:
        """Stop now: acknowledged, the open item is taken back, `response.incomplete` follows (docs/protocol.md §9.2)."""
        ...

    def steer(self) -> None:
        """Stop at the next safe output boundary, with `response.incomplete` (docs/protocol.md §9.1)."""
        ...

    def cancel(self) -> None:
        """Stop now. The outcome's response has status `cancelled`, is stored like any other and is no parent."""
        ...

    def resume(self) -> None:
        """The client reads again: send what was held back for it."""
        ...

    def say(self, kind: bytes, fields: bytes) -> None:
        """Send an event beside the output, numbered in the response's sequence. `fields` begins with a comma."""
        ...


class TurnRequest(msgspec.Struct):
    """One turn as a door hands it over.

    `parent` is what was bound when the request was received, if anything; `survey` what is known of its input; `lane_terms`
    what its lane remembers of the create before; `connection` is None over HTTP. `on_created` is told at admission, before
    the first event. `capacity`, if given, is told the response object as `queued` once it can be read, and awaited before the
    work starts. `asks_compaction` instead of an answer; `on_compacted` is told what a compaction has kept.
    """

    principal: Principal
    request: ResponseCreate
    record: TurnRecord
    connection: ConnectionId | None = None
    lane: str | None = None
    parent: Parent | None = None
    survey: InputSurvey | None = None
    wants_timing: bool = False
    lane_terms: LaneTerms | None = None
    on_created: Callable[[RunningTurn], None] | None = None
    capacity: Callable[[bytes], Awaitable[object]] | None = None
    asks_compaction: bool = False
    on_compacted: Callable[[Sequence[Item]], None] | None = None


class TurnOutcome(msgspec.Struct, frozen=True):
    """How a turn ended. `error` without `body` is a refusal before `response.created`."""

    body: bytes = b""  # the terminal response object
    error: ApiError | None = None
    ending: ResponseEnding | None = None  # None: refused, cancelled, or nobody was left to tell
    keeps_parent: bool = False  # a failure that leaves its parent as it was: a compaction that failed loses nothing

    @property
    def is_refused(self) -> bool:
        """No event was pushed."""
        return not self.body
