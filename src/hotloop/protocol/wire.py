"""JSON pieces as bytes, and the error envelopes of both transports (docs/protocol.md §10)."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.json_value import to_json

json_bytes: Final[Callable[[Any], bytes]] = msgspec.json.Encoder(enc_hook=to_json).encode  # a value as compact JSON


def error_body(error: ApiError) -> bytes:
    """Body of an HTTP error."""
    return json_bytes({"error": _error_fields(error)})


def error_event(error: ApiError, stream_id: str | None = None) -> bytes:
    """The WebSocket `error` event. Always carries `status`: clients ignore one without it."""
    fields = _error_fields(error)
    if error.retry_after_s is not None:
        fields["headers"] = {"retry-after": f"{error.retry_after_s:g}"}
    event: dict[str, Any] = {"type": "error", "status": error.status, "error": fields}
    if stream_id is not None:
        event["stream_id"] = stream_id
    return json_bytes(event)


def sse_error_event(error: ApiError, sequence_number: int) -> bytes:
    """The `error` event of an HTTP stream: the fields of both documented forms at once (docs/protocol.md §10.3)."""
    fields = _error_fields(error)
    if error.retry_after_s is not None:
        fields["headers"] = {"retry-after": f"{error.retry_after_s:g}"}
    flat = {"code": error.code, "message": error.message, "param": error.param}
    return json_bytes({"type": "error", "sequence_number": sequence_number, **flat, "error": fields})


def _error_fields(error: ApiError) -> dict[str, Any]:
    return {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
