"""What a client sends: `response.create` and the body of `POST /v1/responses` (docs/protocol.md §2).

One decoder for both transports. Parts whose cost is paid elsewhere stay raw: `input` item by item, `tools` as one byte
string that the model context recognises. Unknown fields are ignored. Every refusal names its field.
"""

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hotloop.errors import (
    ApiError,
    InvalidEvent,
    InvalidRequest,
    InvalidStreamId,
    InvalidType,
    MissingParameter,
    UnsupportedParameter,
)
from hotloop.protocol.decoding import check_utf8, decode_as
from hotloop.protocol.items import (
    STRUCT_BY_TYPE,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    UnpairedOutput,
)
from hotloop.protocol.items import Reasoning as ReasoningItem
from hotloop.protocol.json_value import from_json
from hotloop.protocol.typed_calls import decode_special
from hotloop.protocol.unknown_parts import with_unknown_parts
from hotloop.protocol.wire import json_bytes

MAX_INPUT_CHARS = 10_485_760  # Open Responses 2026-04-24: longest text field
MAX_INPUT_ITEMS = 65_536  # ours: more fit no model's context, and every one of them has to be looked at
MAX_CHOICE_BYTES = 2**20  # ours, of `tool_choice`: the names of all tools there may be are a fifth of it
COMPACT_SHARE = 0.8  # of the context, where a compaction is asked for without a threshold
_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}\Z")

_FEW = Meta(max_length=1024)  # ours, of settings: nothing asks for as many

Metadata = dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """How much the model thinks and what of it is shown."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None  # its deprecated name
    context: Literal["auto", "current_turn", "all_turns"] | None = None


class TextPlain(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """Free text."""


class TextJsonObject(msgspec.Struct, frozen=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class TextJsonSchema(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that fits `schema`."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z0-9_-]+$")]
    schema: msgspec.Raw
    strict: bool | None = None
    description: str | None = None


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """Form of the final text."""

    format: TextPlain | TextJsonObject | TextJsonSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the event stream; obfuscation is never added."""

    include_obfuscation: bool | None = None


class PromptCacheOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Only `prewarm` has an effect here: it makes the request a warm-up."""

    prewarm: bool | None = None


class ContextManagement(msgspec.Struct, frozen=True, kw_only=True):
    """Only `compaction` is known; any other type has no effect."""

    type: str
    compact_threshold: Annotated[int, Meta(ge=1)] | None = None


class MultiAgent(msgspec.Struct, frozen=True, kw_only=True):
    """Not served; recognised so that asking for it is refused."""

    enabled: bool = False


class ConversationRef(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation, by its id."""

    id: str


class ResponseCreate(msgspec.Struct, frozen=True, kw_only=True):
    """One turn as asked for. Absent and null mean the protocol's default."""

    model: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"[]")
    previous_response_id: str | None = None
    conversation: str | ConversationRef | None = None
    instructions: Annotated[str, Meta(max_length=MAX_INPUT_CHARS)] | None = None
    tools: msgspec.Raw = msgspec.Raw(b"[]")
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    reasoning: Reasoning | None = None
    text: Text | None = None
    include: Annotated[list[str], _FEW] | None = None
    store: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    context_management: Annotated[list[ContextManagement], _FEW] | None = None
    metadata: Metadata | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    service_tier: str | None = None
    safety_identifier: Annotated[str, Meta(max_length=128)] | None = None
    user: str | None = None
    prompt: Any = None
    multi_agent: MultiAgent | None = None
    background: bool | None = None
    generate: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stream_id: Any = None
    seed: Seed | None = None

    @property
    def stores(self) -> bool:
        """The response outlives its connection."""
        return self.store is not False

    @property
    def conversation_id(self) -> str | None:
        """The conversation the turn belongs to."""
        return self.conversation.id if isinstance(self.conversation, ConversationRef) else self.conversation

    @property
    def is_warm_up(self) -> bool:
        """Nothing is sampled: docs/protocol.md §6."""
        return self.generate is False or bool(self.prompt_cache_options and self.prompt_cache_options.prewarm)

    @property
    def wants_logprobs(self) -> bool:
        """Log-probabilities of the text were asked for."""
        return "message.output_text.logprobs" in (self.include or ())

    def compact_threshold(self, context_tokens: int) -> int | None:
        """Prompt tokens from which on the context is compacted; None where that is not asked for."""
        for entry in self.context_management or ():
            if entry.type == "compaction":
                return entry.compact_threshold or int(context_tokens * COMPACT_SHARE)
        return None

    @property
    def seals_reasoning(self) -> bool:
        """Reasoning leaves sealed as well: it was asked for, or nobody else keeps it (docs/protocol.md §4.5)."""
        return not self.stores or "reasoning.encrypted_content" in (self.include or ())


class _SocketCreate(ResponseCreate, frozen=True, kw_only=True, tag_field="type", tag="response.create"):
    """The same with its type."""


class _Untyped(msgspec.Struct, tag_field="type", tag=""):
    """Makes the type obligatory: among several structs the tag must be there."""


class EventHead(msgspec.Struct, frozen=True):
    """What says where a client event belongs, read before the rest is judged."""

    type: str
    stream_id: Any = None


class _ItemHead(msgspec.Struct, frozen=True):
    type: str | None = None
    role: Any = None
    id: Any = None
    call_id: Any = None

    @property
    def kind(self) -> str:
        """The SDK's types let a message and an item reference leave their type out."""
        return self.type or ("item_reference" if self.role is None and self.id is not None else "message")


_create_decoder = msgspec.json.Decoder(ResponseCreate)
_socket_create_decoder = msgspec.json.Decoder(_SocketCreate | _Untyped)
_event_head_decoder = msgspec.json.Decoder(EventHead)
_head_decoder = msgspec.json.Decoder(_ItemHead)
_text_decoder = msgspec.json.Decoder(str)
_items_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_plain_item_decoder = msgspec.json.Decoder(
    Message | FunctionCall | FunctionCallOutput | CustomToolCall | CustomToolCallOutput | ReasoningItem | ItemReference,
    dec_hook=from_json,
)
_item_decoders = {kind: msgspec.json.Decoder(struct, dec_hook=from_json) for kind, struct in STRUCT_BY_TYPE.items()}


def event_head(message: bytes) -> EventHead:
    """Type and lane of a client event; raises InvalidJson or InvalidEvent."""
    try:
        return decode_as(_event_head_decoder, message)
    except (InvalidType, MissingParameter):
        raise InvalidEvent("A client event is a JSON object with a string 'type'.", param="type") from None


def whole_create(message: bytes) -> ResponseCreate | None:
    """A valid `response.create` message, decoded at once; None for any other client event and for an invalid one."""
    if not message.isascii():
        return None
    try:
        event = _socket_create_decoder.decode(message)
    except (msgspec.DecodeError, RecursionError):
        return None
    return event if isinstance(event, ResponseCreate) else None


def decode_create(message: bytes) -> ResponseCreate:
    """A `response.create` message or POST body; raises the ApiError that names what is wrong."""
    check_utf8(message)  # raw parts are spliced into events; the decoder does not look inside them
    request = decode_as(_create_decoder, message)
    if len(message) > MAX_CHOICE_BYTES:
        check_choice(request)
    _refuse_unserved(request)
    return request


def decode_socket_create(message: bytes) -> ResponseCreate:
    """A `response.create` message; what only HTTP serves is refused (docs/protocol.md §2.1)."""
    check_utf8(message)  # raw parts are spliced into events; the decoder does not look inside them
    request = decode_as(_create_decoder, message)
    if len(message) > MAX_CHOICE_BYTES:
        check_choice(request)
    check_socket_create(request)
    return request


def check_choice(request: ResponseCreate) -> None:
    """Refuse a `tool_choice` that would have to be read by whoever looks at it. For long messages."""
    choice = request.tool_choice
    if isinstance(choice, dict) and len(json_bytes(choice)) > MAX_CHOICE_BYTES:
        raise InvalidRequest(f"'tool_choice' is longer than {MAX_CHOICE_BYTES} bytes.", param="tool_choice")


def check_socket_create(request: ResponseCreate) -> None:
    """Refuse what only HTTP serves, and what nobody does."""
    if (
        request.conversation is None
        and request.prompt is None
        and request.multi_agent is None
        and not request.background
        and not request.metadata
    ):
        return
    _refuse_unserved(request)
    if request.background:
        raise UnsupportedParameter("Background responses are served over HTTP only.", param="background")


def put_tools(request: ResponseCreate, tools: msgspec.Raw) -> None:
    """Let a request that was just decoded hold another object of the same text; nobody else may have seen it yet."""
    msgspec.structs.force_setattr(request, "tools", tools)


def put_input(request: ResponseCreate, text: msgspec.Raw) -> None:
    """Give the input to a request that was decoded without it; nobody else may have seen it yet."""
    msgspec.structs.force_setattr(request, "input", text)


def lane_of(stream_id: Any) -> str | None:
    """The named lane, or None for the default one. Raises InvalidStreamId."""
    if stream_id is None:
        return None
    if not isinstance(stream_id, str) or not _STREAM_ID.match(stream_id):
        raise InvalidStreamId
    return stream_id


def text_message(text: bytes) -> bytes:
    """The item that a string stands for, given as its JSON."""
    return b'{"type":"message","role":"user","content":[{"type":"input_text","text":%b}]}' % text


def split_input(raw: msgspec.Raw, param: str = "input") -> list[msgspec.Raw]:
    """The new items of a turn, each still raw. A string is one user message; null is none."""
    first = bytes(memoryview(raw)[:1])
    if first == b"[":
        items = decode_as(_items_decoder, raw, param)
        if len(items) > MAX_INPUT_ITEMS:
            raise InvalidRequest(f"'{param}' holds more than {MAX_INPUT_ITEMS} items.", param=param)
        return items
    if first == b"n":
        return []
    if first != b'"':
        raise InvalidType(f"'{param}' must be a string or an array of items.", param=param)
    text = decode_as(_text_decoder, raw, param)
    if len(text) > MAX_INPUT_CHARS:
        raise InvalidRequest(f"'{param}' is longer than {MAX_INPUT_CHARS} characters.", param=param)
    return [msgspec.Raw(text_message(bytes(raw)))]


def decode_input(raw: msgspec.Raw, param: str = "input") -> list[Item]:
    """The new items of a turn."""
    return [decode_item(item, f"{param}[{index}]") for index, item in enumerate(split_input(raw, param))]


def decode_item(raw: msgspec.Raw | bytes, param: str) -> Item:
    """One item. A type that is not interpreted here is carried whole, and so is a content part of such a type."""
    try:
        item: Item = _plain_item_decoder.decode(raw)
        return item
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_any(raw, param)


def _decode_any(raw: msgspec.Raw | bytes, param: str) -> Item:
    """An item that names no type, is of one that is read in its own way, or is wrong; right for every other, too."""
    head = decode_as(_head_decoder, raw, param)
    kind = head.kind
    decoder = _item_decoders.get(kind)
    if decoder is None:
        return decode_special(kind, bytes(raw), param)
    if head.call_id is None and kind in _OUTPUTS:
        return UnpairedOutput(kind, bytes(raw))
    try:
        return decode_as(decoder, raw, param)  # type: ignore[return-value]  # the table holds decoders of Item's members
    except ApiError:
        known = with_unknown_parts(kind, bytes(raw))
        if known is None:
            raise
        return decode_as(decoder, known, param)  # type: ignore[return-value]


def with_call_id(output: UnpairedOutput, call_id: str, param: str) -> Item:
    """An output that names no call, as the answer to this one. Raises the ApiError that says what else is wrong with it."""
    fields = _members_decoder.decode(output.raw)
    return decode_item(json_bytes({**fields, "call_id": call_id}), param)


def check_metadata(metadata: Metadata | None) -> None:
    """At most 16 pairs (docs/protocol.md §2.1); the lengths are the type's."""
    if len(metadata or ()) > 16:
        raise InvalidRequest("'metadata' holds at most 16 pairs.", param="metadata")


def _refuse_unserved(request: ResponseCreate) -> None:
    if request.conversation is not None and request.previous_response_id is not None:
        raise InvalidRequest("Give either 'conversation' or 'previous_response_id', not both.", param="conversation")
    if request.prompt is not None:
        raise UnsupportedParameter("Stored prompts are not served here.", param="prompt")
    if request.multi_agent is not None and request.multi_agent.enabled:
        raise UnsupportedParameter("Multi-agent responses are not served here.", param="multi_agent")
    if request.background and not request.stores:
        raise InvalidRequest("A background response must be stored: give 'store': true.", param="background")
    check_metadata(request.metadata)
