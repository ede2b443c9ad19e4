"""Answers to the client events that act on a running response (docs/protocol.md §9). None of them is served yet.

Each has a `.failed` event of its own. An `error` event instead would read as the end of the turn that runs on the lane.
"""

from typing import Any

import msgspec

from hotloop.protocol.decoding import decode_as
from hotloop.protocol.wire import json_bytes


class _Control(msgspec.Struct, frozen=True):
    response_id: str | None = None
    previous_response_id: str | None = None
    input: Any = None


_decoder = msgspec.json.Decoder(_Control)

CONTROL_EVENTS = frozenset({"response.steer", "response.interrupt", "response.inject"})


def decline(kind: str, message: bytes) -> bytes:
    """The `.failed` event for one of `CONTROL_EVENTS`. Raises the ApiError that names a field of the wrong type."""
    control = decode_as(_decoder, message)
    event: dict[str, Any] = {"type": f"{kind}.failed"}
    match kind:
        case "response.steer":
            event["steer"] = {"previous_response_id": control.previous_response_id, "input": control.input}
            event["error"] = _error("steering_not_supported", "This server does not steer running responses yet.")
        case "response.interrupt":
            event["response_id"] = control.response_id
            event["error"] = _error("interrupt_not_supported", "This server does not interrupt responses yet.")
        case _:
            event["response_id"] = control.response_id
            event["input"] = control.input
            event["error"] = _error("response_not_found", "This server does not inject into running responses.")
    return json_bytes(event)


def _error(code: str, message: str) -> dict[str, str]:
    return {"type": "invalid_request_error", "code": code, "message": message}
