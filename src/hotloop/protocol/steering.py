"""What `response.steer` asks for and what is answered (docs/protocol.md §9.1): the rules that need no connection."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hotloop.errors import ApiError, InvalidJson
from hotloop.protocol.decoding import check_utf8, decode_as
from hotloop.protocol.hosted_items import APPROVAL_REQUEST, APPROVAL_RESPONSE, id_in
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    HostedItem,
    InputFile,
    InputImage,
    InputText,
    Item,
    OwedItem,
    TypedCall,
)
from hotloop.protocol.request import MAX_INPUT_CHARS, ResponseCreate
from hotloop.protocol.wire import json_bytes

SteerError = Literal[
    "response_not_found",
    "invalid_input",
    "steering_not_supported",
    "too_many_pending_steers",
    "response_already_completed",
    "response_not_active",
    "successor_creation_failed",
]

_MESSAGES: dict[SteerError, str] = {
    "response_not_found": "No response with this id is available on this connection.",
    "invalid_input": "Steering takes a string or a non-empty array of user messages.",
    "steering_not_supported": "This response cannot be steered: a warm-up, a conversation, or one with context_management.",
    "too_many_pending_steers": "Too much steering input is pending on this connection.",
    "response_already_completed": "The response is completed; send its continuation as a response.create.",
    "response_not_active": "The response is no longer accepting steering input.",
    "successor_creation_failed": "The response that would have taken the input could not be created.",
}


class Steer(msgspec.Struct, frozen=True):
    """One submission. `id` is empty until it was accepted."""

    target: str  # the response it steers
    input: msgspec.Raw  # as the client sent it: a part of its message, not a copy
    size_bytes: int  # of that message
    problem: str = ""  # why it is not valid
    id: str = ""

    @property
    def messages(self) -> list[bytes | memoryview]:
        """The input as items, comma-separated JSON, in pieces. Of one that is valid."""
        return _items_in(memoryview(self.input))


class _SteerMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["message"] = "message"
    role: Literal["user"]
    content: (
        Annotated[str, Meta(max_length=MAX_INPUT_CHARS)]
        | Annotated[list[InputText | InputImage | InputFile], Meta(min_length=1)]
    )


_SteerInput = Annotated[str, Meta(max_length=MAX_INPUT_CHARS)] | Annotated[list[_SteerMessage], Meta(min_length=1)]


class _SteerEvent(msgspec.Struct, frozen=True):
    previous_response_id: Any = None
    input: msgspec.Raw = msgspec.Raw(b"null")


_BLANK = re.compile(rb"[ \t\r\n]*")
_decoder = msgspec.json.Decoder(_SteerEvent)
_input_decoder: msgspec.json.Decoder[str | list[_SteerMessage]] = msgspec.json.Decoder(_SteerInput)


def decode_steer(message: bytes) -> Steer:
    """A `response.steer`. What is wrong with its fields is in `problem`: it is told by the event's own failure."""
    check_utf8(message)  # the input is given back as it is
    event = decode_as(_decoder, message)
    target = event.previous_response_id
    size = len(message)
    if not isinstance(target, str):
        return Steer("", event.input, size, "'previous_response_id' must be a string.")
    try:
        decode_as(_input_decoder, event.input, "input")
    except InvalidJson:
        raise
    except ApiError as error:
        return Steer(target, event.input, size, str(error))
    return Steer(target, event.input, size)


def may_stop_after(output: Sequence[Item]) -> bool:
    """Whether a response may end here for a steer. With a call in it the client owes an output: it runs to its end."""
    return not any(
        isinstance(item, FunctionCall | CustomToolCall)
        or (isinstance(item, HostedItem) and item.kind == APPROVAL_REQUEST)
        for item in output
    )


def is_steerable(request: ResponseCreate) -> bool:
    """Whether the response to this request takes steering."""
    return not (request.is_warm_up or request.conversation is not None or request.context_management)


def successor_of(request: ResponseCreate, response_id: str, steers: Sequence[Steer]) -> ResponseCreate:
    """The request of the response that the server starts by itself: settings as before, the steers for input."""
    return msgspec.structs.replace(request, input=_joined(steers), previous_response_id=response_id)


def with_steers(request: ResponseCreate, steers: Sequence[Steer]) -> ResponseCreate:
    """The client's own continuation with the steers before its input. An input of a wrong type is left to be refused."""
    own = memoryview(request.input)
    first = bytes(own[:1])
    if first not in (b"[", b'"', b"n"):
        return request
    rest = [] if first == b"n" else _items_in(own)
    return msgspec.structs.replace(request, input=_joined(steers, rest))


def _items_in(text: memoryview) -> list[bytes | memoryview]:
    """The items of an input, comma-separated, in pieces; nothing if there are none."""
    if bytes(text[:1]) == b'"':
        return [b'{"type":"message","role":"user","content":', text, b"}"]
    inside = text[1:-1]
    blank = _BLANK.match(inside)
    return [] if blank is not None and blank.end() == len(inside) else [inside]


def _joined(steers: Sequence[Steer], rest: Sequence[bytes | memoryview] = ()) -> msgspec.Raw:
    """One input of the steers and what comes behind them: copied once, it may be long."""
    pieces: list[bytes | memoryview] = []
    for messages in (*(steer.messages for steer in steers), rest):
        if messages:
            pieces += (b"," if pieces else b"[", *messages)
    return msgspec.Raw(b"".join((*pieces, b"]")))


def accepted_fields(steer: Steer) -> bytes:
    """Fields of `response.steer.accepted`, after the common ones."""
    return b',"steer":' + json_bytes({"id": steer.id, "previous_response_id": steer.target})


def pending_fields(steer: Steer, calls: Sequence[OwedItem]) -> bytes:
    """Fields of `response.steer.pending`: what the client owes before the steer can be applied."""
    named = {"id": steer.id, "previous_response_id": steer.target}
    stubs = [_stub(call) for call in calls]
    return b',"steer":%b,"reason":"waiting_for_required_input","required_input":%b' % (
        json_bytes(named),
        json_bytes(stubs),
    )


def failed_fields(steer: Steer, code: SteerError) -> bytes:
    """Fields of `response.steer.failed`: the input goes back."""
    named = (
        {"id": steer.id, "previous_response_id": steer.target} if steer.id else {"previous_response_id": steer.target}
    )
    message = steer.problem if code == "invalid_input" else _MESSAGES[code]
    error = {"type": "invalid_request_error", "code": code, "message": message}
    head, behind = json_bytes(named)[:-1], json_bytes(error)
    return b"".join((b',"steer":', head, b',"input":', memoryview(steer.input), b'},"error":', behind))


def _stub(call: OwedItem) -> dict[str, str]:
    if isinstance(call, HostedItem):
        return {"type": APPROVAL_RESPONSE, "approval_request_id": id_in(call)}
    if isinstance(call, TypedCall):
        if call.kind == "tool_search":
            return {"type": "tool_search_output", "call_id": call.call_id, "execution": "client"}
        return {"type": f"{call.kind}_call_output", "call_id": call.call_id}
    if isinstance(call, FunctionCall):
        return {"type": "function_call_output", "call_id": call.call_id, "name": call.name}
    return {"type": "custom_tool_call_output", "call_id": call.call_id}
