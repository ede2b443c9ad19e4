"""JSON pieces as bytes, and the error envelopes of both transports (docs/protocol.md §10)."""

from typing import Any

import msgspec

from hotloop.errors import ApiError

_encode = msgspec.json.encode


def json_bytes(value: Any) -> bytes:
    """`value` as compact JSON."""
    return _encode(value)


def escaped(text: str) -> bytes:
    """`text` as the inside of a JSON string: escapes done, no quotes around it."""
    return _encode(text)[1:-1]


def error_body(error: ApiError) -> bytes:
    """Body of an HTTP error."""
    return _encode({"error": _error_fields(error)})


def error_event(error: ApiError, stream_id: str | None = None) -> bytes:
    """The WebSocket `error` event. Always carries `status`: clients ignore one without it."""
    fields = _error_fields(error)
    if error.retry_after_s is not None:
        fields["headers"] = {"retry-after": f"{error.retry_after_s:g}"}
    event: dict[str, Any] = {"type": "error", "status": error.status, "error": fields}
    if stream_id is not None:
        event["stream_id"] = stream_id
    return _encode(event)


def sse_error_event(error: ApiError, sequence_number: int) -> bytes:
    """The `error` event of an HTTP stream: the fields of both documented forms at once (docs/protocol.md §10.3)."""
    fields = _error_fields(error)
    if error.retry_after_s is not None:
        fields["headers"] = {"retry-after": f"{error.retry_after_s:g}"}
    flat = {"code": error.code, "message": error.message, "param": error.param}
    return _encode({"type": "error", "sequence_number": sequence_number, **flat, "error": fields})


def _error_fields(error: ApiError) -> dict[str, Any]:
    return {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
