"""A message of a WebSocket as far as it is read before the connection's state counts: its kind, its lane, its create."""

import msgspec

from hotloop.errors import ApiError, MissingParameter
from hotloop.protocol.request import (
    ResponseCreate,
    check_socket_create,
    decode_socket_create,
    event_head,
    lane_of,
    whole_create,
)

CREATE = "response.create"


class ClientEvent(msgspec.Struct, frozen=True):
    """`error` is what refuses the message; `request` is there for a create that is not refused."""

    kind: str = ""
    lane: str | None = None
    request: ResponseCreate | None = None
    error: ApiError | None = None


def read_event(message: bytes) -> ClientEvent:
    """Read a message. Never raises."""
    kind, lane = "", None
    try:
        request = whole_create(message)
        if request is not None:
            kind, lane = CREATE, None if request.stream_id is None else lane_of(request.stream_id)
            check_socket_create(request)
        else:
            head = event_head(message)
            kind = head.type
            if kind != CREATE:
                return ClientEvent(kind)
            lane = lane_of(head.stream_id)
            request = decode_socket_create(message)
        if not request.model:
            raise MissingParameter("model")
    except ApiError as error:
        return ClientEvent(kind, lane, error=error)
    return ClientEvent(kind, lane, request)
