"""Content parts of types that nothing here knows: kept, and shown to the model as their JSON, rather than refused."""

from typing import get_args

import msgspec

from hotloop.protocol.items import (
    ContentPart,
    CustomToolCallOutput,
    FunctionCallOutput,
    HostedItem,
    Item,
    Message,
    OpaqueItem,
    Part,
    ReasoningText,
    ResultPart,
    SettingItem,
    UnknownPart,
)
from hotloop.protocol.json_value import JsonText
from hotloop.protocol.wire import json_bytes


def _tags(union: object) -> frozenset[str]:
    return frozenset(str(part.__struct_config__.tag) for part in get_args(union))


# By item type: where its parts stand, and which types of them are read.
_PARTS: dict[str, tuple[str, frozenset[str]]] = {
    "message": ("content", _tags(ContentPart)),
    "function_call_output": ("output", _tags(ResultPart)),
    "custom_tool_call_output": ("output", _tags(ResultPart)),
    "reasoning": ("content", frozenset(("reasoning_text",))),
}


class _PartHead(msgspec.Struct, frozen=True):
    type: str


_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_head_decoder = msgspec.json.Decoder(_PartHead)


def with_unknown_parts(kind: str, raw: bytes) -> bytes | None:
    """The item's JSON with each part of an unknown type wrapped as one that is known, and without a null `type`.

    None where nothing is to be changed: what is wrong with the item is something else.
    """
    name, known = _PARTS.get(kind, ("", frozenset[str]()))
    try:
        fields = _fields_decoder.decode(raw)
        parts = _list_decoder.decode(fields[name]) if bytes(fields.get(name, b""))[:1] == b"[" else []
        wrapped = [_wrapped(part, kind, known) for part in parts]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_untyped = bytes(fields.get("type", b"")) == b"null"
    if not is_untyped and all(new is old for new, old in zip(wrapped, parts, strict=True)):
        return None
    return json_bytes({**fields, **({name: wrapped} if parts else {}), "type": kind})


def _wrapped(part: msgspec.Raw, kind: str, known: frozenset[str]) -> msgspec.Raw | Part:
    if _head_decoder.decode(part).type in known:
        return part
    text = bytes(part).decode()
    return ReasoningText(text=_text_of_thought(part, text)) if kind == "reasoning" else UnknownPart(json=JsonText(text))


class _Thought(msgspec.Struct, frozen=True):
    text: str | None = None


_thought_decoder = msgspec.json.Decoder(_Thought)


def _text_of_thought(part: msgspec.Raw, otherwise: str) -> str:
    """Some clients send raw reasoning as plain `text` parts."""
    found = _thought_decoder.decode(part).text
    return otherwise if found is None else found


def is_shown_as_json(item: Item) -> bool:
    """The item, or a part of it, is of a type that a model can only be shown the JSON of."""
    match item:
        case Message(content=list() as content):
            return any(isinstance(part, UnknownPart) for part in content)
        case FunctionCallOutput(output=list() as output) | CustomToolCallOutput(output=list() as output):
            return any(isinstance(part, UnknownPart) for part in output)
        case _:
            return isinstance(item, OpaqueItem) and not isinstance(item, SettingItem | HostedItem)
