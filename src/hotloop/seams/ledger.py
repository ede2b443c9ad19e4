"""What was used, by whom: append-only, idempotent by event id."""

from typing import Literal, Protocol

import msgspec

from hotloop.session.principal import Tenant

AttemptOutcome = Literal["completed", "incomplete", "failed", "cancelled"]


class AttemptStarted(msgspec.Struct, frozen=True):
    """A turn goes to a model. Written before its first output leaves."""

    event_id: str
    response_id: str
    tenant: Tenant
    key_id: str
    model: str
    started_at: float  # seconds since the epoch


class AttemptEnded(msgspec.Struct, frozen=True):
    """How the attempt ended and what it used; token counts are the engine's own."""

    event_id: str
    response_id: str
    outcome: AttemptOutcome
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    ended_at: float  # seconds since the epoch


class UsageLedger(Protocol):
    """The record of usage."""

    def attempt_started(self, event: AttemptStarted) -> None:
        """Note the start. A repeated event id changes nothing."""
        ...

    def attempt_ended(self, event: AttemptEnded) -> None:
        """Note the end. A repeated event id changes nothing."""
        ...
