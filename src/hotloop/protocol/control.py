"""The client events that act on a running response (docs/protocol.md §9), and the answers that are no response's own.

Each has a `.failed` event. An `error` event instead would read as the end of the turn that runs on the lane. Steering has a
file of its own.
"""

from typing import Any

import msgspec

from hotloop.errors import ApiError, InvalidJson
from hotloop.protocol.decoding import check_utf8, decode_as
from hotloop.protocol.wire import json_bytes

INTERRUPT_MODE = "discard_partial_items"  # the one mode there is


class Interrupt(msgspec.Struct, frozen=True):
    """`response.interrupt`."""

    response_id: str
    mode: str = INTERRUPT_MODE


class Injection(msgspec.Struct, frozen=True):
    """`response.inject`."""

    response_id: Any = None
    input: msgspec.Raw = msgspec.Raw(b"null")


class Reply(msgspec.Struct, frozen=True):
    """All that is to be said to an event: what is wrong with it."""

    event: bytes


_interrupt_decoder = msgspec.json.Decoder(Interrupt)
_injection_decoder = msgspec.json.Decoder(Injection)


def decode_interrupt(message: bytes) -> Interrupt | Reply:
    """A `response.interrupt`, or what is wrong with it. Raises InvalidJson."""
    try:
        return decode_as(_interrupt_decoder, message)
    except InvalidJson:
        raise
    except ApiError as error:
        return Reply(interrupt_failed("", error.code, error.message))


def interrupt_failed(response_id: str, code: str, message: str) -> bytes:
    """The answer to an interrupt that reaches no response."""
    fields = b',"response_id":%b,"error":%b' % (json_bytes(response_id), _error(code, message))
    return numbered_event(b"response.interrupt.failed", 0, None, fields)


def decode_injection(message: bytes) -> Injection:
    """A `response.inject`. Raises InvalidJson."""
    check_utf8(message)  # the input is given back as it is
    return decode_as(_injection_decoder, message)


def decline_injection(injection: Injection) -> bytes:
    """The answer to `response.inject`: it belongs to multi-agent responses, which are not served."""
    target = injection.response_id if isinstance(injection.response_id, str) else ""
    error = _error("response_not_found", "This server does not inject into running responses.")
    fields = b"".join(
        (b',"response_id":', json_bytes(target), b',"input":', memoryview(injection.input), b',"error":', error)
    )
    return numbered_event(b"response.inject.failed", 0, None, fields)


def numbered_event(kind: bytes, number: int, stream_id: str | None, fields: bytes) -> bytes:
    """An event that no running response makes. `fields` begins with a comma."""
    lane = b"" if stream_id is None else b',"stream_id":' + json_bytes(stream_id)
    head = b'{"type":"%b","sequence_number":%d%b' % (kind, number, lane)
    return b"".join((head, fields, b"}"))  # the fields may be long


def _error(code: str, message: str) -> bytes:
    return json_bytes({"type": "invalid_request_error", "code": code, "message": message})
