"""The client events that act on a running response (docs/protocol.md §9), and the answers that are no response's own.

Each has a `.failed` event. An `error` event instead would read as the end of the turn that runs on the lane.
"""

from typing import Any, Literal

import msgspec

from hotloop.protocol.decoding import decode_as
from hotloop.protocol.wire import json_bytes

ControlKind = Literal["response.steer", "response.interrupt", "response.inject"]
CONTROL_EVENTS: frozenset[str] = frozenset({"response.steer", "response.interrupt", "response.inject"})
INTERRUPT_MODE = "discard_partial_items"  # the one mode there is


class Interrupt(msgspec.Struct, frozen=True):
    """`response.interrupt`."""

    response_id: str
    mode: str = INTERRUPT_MODE


class _Control(msgspec.Struct, frozen=True):
    response_id: str | None = None
    previous_response_id: str | None = None
    input: Any = None


_decoder = msgspec.json.Decoder(_Control)
_interrupt_decoder = msgspec.json.Decoder(Interrupt)


def decode_interrupt(message: bytes) -> Interrupt:
    """A `response.interrupt`; raises the ApiError that names a field."""
    return decode_as(_interrupt_decoder, message)


def interrupt_failed(response_id: str, code: str, message: str) -> bytes:
    """The answer to an interrupt that reaches no response."""
    return json_bytes(
        {
            "type": "response.interrupt.failed",
            "sequence_number": 0,
            "response_id": response_id,
            "error": _error(code, message),
        }
    )


def decline(kind: str, message: bytes) -> bytes:
    """The `.failed` event for a control event that is not served. Raises the ApiError that names a field."""
    control = decode_as(_decoder, message)
    event: dict[str, Any] = {"type": f"{kind}.failed", "sequence_number": 0}
    if kind == "response.steer":
        event["steer"] = {"previous_response_id": control.previous_response_id, "input": control.input}
        event["error"] = _error("steering_not_supported", "This server does not steer running responses yet.")
    else:
        event["response_id"] = control.response_id
        event["input"] = control.input
        event["error"] = _error("response_not_found", "This server does not inject into running responses.")
    return json_bytes(event)


def _error(code: str, message: str) -> dict[str, str]:
    return {"type": "invalid_request_error", "code": code, "message": message}
