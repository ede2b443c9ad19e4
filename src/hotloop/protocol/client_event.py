"""A message of a WebSocket as far as it is read before the connection's state counts: its kind, its lane, what it asks."""

import msgspec

from hotloop.errors import ApiError, InvalidEvent, MissingParameter
from hotloop.protocol.control import Injection, Interrupt, Reply, decode_injection, decode_interrupt
from hotloop.protocol.request import (
    MAX_CHOICE_BYTES,
    ResponseCreate,
    check_choice,
    check_socket_create,
    decode_socket_create,
    event_head,
    lane_of,
    whole_create,
)
from hotloop.protocol.steering import Steer, decode_steer

CREATE = "response.create"

Control = Steer | Interrupt | Injection | Reply


class ClientEvent(msgspec.Struct, frozen=True):
    """`error` is what refuses the message; `request` is there for a create that is not refused, `control` for what acts on
    responses."""

    kind: str = ""
    lane: str | None = None
    request: ResponseCreate | None = None
    error: ApiError | None = None
    control: Control | None = None


def read_event(message: bytes) -> ClientEvent:
    """Read a message. Never raises."""
    kind, lane = "", None
    try:
        request = whole_create(message)
        if request is not None:
            kind, lane = CREATE, None if request.stream_id is None else lane_of(request.stream_id)
            if len(message) > MAX_CHOICE_BYTES:
                check_choice(request)
            check_socket_create(request)
        else:
            head = event_head(message)
            kind = head.type
            if kind != CREATE:
                return ClientEvent(kind, control=_control(kind, message))
            lane = lane_of(head.stream_id)
            request = decode_socket_create(message)
        if not request.model:
            raise MissingParameter("model")
    except ApiError as error:
        return ClientEvent(kind, lane, error=error)
    return ClientEvent(kind, lane, request)


def _control(kind: str, message: bytes) -> Control | None:
    match kind:
        case "response.steer":
            return decode_steer(message)
        case "response.interrupt":
            return decode_interrupt(message)
        case "response.inject":
            return decode_injection(message)
        case "response.processed":  # docs/protocol.md §2: some Codex versions acknowledge
            return None
        case _:
            raise InvalidEvent(f"Unknown client event type '{kind[:100]}'.", param="type")
