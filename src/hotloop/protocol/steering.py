"""What `response.steer` asks for and what is answered (docs/protocol.md §9.1): the rules that need no connection."""

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
    input: msgspec.Raw  # as the client sent it
    problem: str = ""  # why it is not valid
    id: str = ""

    @property
    def size_bytes(self) -> int:
        """What holding it costs."""
        return memoryview(self.input).nbytes

    @property
    def messages(self) -> bytes:
        """The input as items, comma-separated JSON. Of one that is valid."""
        text = bytes(self.input)
        if text.startswith(b'"'):
            return b'{"type":"message","role":"user","content":%b}' % text
        return text[1:-1].strip()


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


_decoder = msgspec.json.Decoder(_SteerEvent)
_input_decoder: msgspec.json.Decoder[str | list[_SteerMessage]] = msgspec.json.Decoder(_SteerInput)


def decode_steer(message: bytes) -> Steer:
    """A `response.steer`. What is wrong with its fields is in `problem`: it is told by the event's own failure."""
    check_utf8(message)  # the input is given back as it is
    event = decode_as(_decoder, message)
    target = event.previous_response_id
    if not isinstance(target, str):
        return Steer("", event.input, "'previous_response_id' must be a string.")
    try:
        decode_as(_input_decoder, event.input, "input")
    except InvalidJson:
        raise
    except ApiError as error:
        return Steer(target, event.input, str(error))
    return Steer(target, event.input)


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
    raw = b"[" + b",".join(steer.messages for steer in steers) + b"]"
    return msgspec.structs.replace(request, input=msgspec.Raw(raw), previous_response_id=response_id)


def with_steers(request: ResponseCreate, steers: Sequence[Steer]) -> ResponseCreate:
    """The client's own continuation with the steers before its input. An input of a wrong type is left to be refused."""
    own = bytes(request.input).strip()
    if own.startswith(b'"'):
        own = b'[{"type":"message","role":"user","content":' + own + b"}]"
    if not own.startswith(b"[") and own != b"null":
        return request
    rest = own[1:-1].strip() if own != b"null" else b""
    pieces = [steer.messages for steer in steers] + ([rest] if rest else [])
    return msgspec.structs.replace(request, input=msgspec.Raw(b"[" + b",".join(pieces) + b"]"))


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
    named: dict[str, Any] = {"id": steer.id} if steer.id else {}
    named |= {"previous_response_id": steer.target, "input": steer.input}
    message = steer.problem if code == "invalid_input" else _MESSAGES[code]
    error = {"type": "invalid_request_error", "code": code, "message": message}
    return b',"steer":%b,"error":%b' % (json_bytes(named), json_bytes(error))


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
