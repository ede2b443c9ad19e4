"""Items as the listing endpoints show them: every item has an id, every text is a part (docs/protocol.md §11)."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hotloop.protocol.items import (
    UNKNOWN_PART,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    RawItem,
    Reasoning,
)
from hotloop.protocol.json_value import to_json
from hotloop.protocol.wire import json_bytes

_PREFIX: dict[type, str] = {
    Message: "msg",
    FunctionCall: "fc",
    FunctionCallOutput: "fco",
    CustomToolCall: "ctc",
    CustomToolCallOutput: "ctco",
    Reasoning: "rs",
}


class _Identified(msgspec.Struct):
    id: str | None = None


_id_decoder = msgspec.json.Decoder(_Identified)
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def id_of(item: Item) -> str | None:
    """The item's id, if it has one."""
    if isinstance(item, OpaqueItem):
        if item.facts is not None:
            return item.facts.id
        try:
            return _id_decoder.decode(item.raw).id
        except msgspec.ValidationError:  # an id that is no string names nothing
            return None
    return item.id


def with_ids(items: Sequence[Item], new_id: Callable[[str], str]) -> list[Item]:
    """The same items, each with an id: a fresh one where the client gave none."""
    identified: list[Item] = []
    for item in items:
        prefix = _PREFIX.get(type(item))
        if prefix is None:
            identified.append(item if id_of(item) else _identified(item, new_id))
        else:
            assert not isinstance(item, OpaqueItem)
            identified.append(item if item.id else msgspec.structs.replace(item, id=new_id(prefix)))
    return identified


def with_id(item: Item, new_id: Callable[[str], str]) -> Item:
    """The same item with an id, if it is one of the kinds that do not travel as their own JSON."""
    prefix = _PREFIX.get(type(item))
    if prefix is None:
        return item
    assert not isinstance(item, OpaqueItem)
    return item if item.id else msgspec.structs.replace(item, id=new_id(prefix))


def _identified(item: Item, new_id: Callable[[str], str]) -> Item:
    if isinstance(item, RawItem):
        fresh = new_id("item")
        raw = json_bytes({**_members_decoder.decode(item.raw), "id": fresh})
        if not isinstance(item, OpaqueItem):
            return msgspec.structs.replace(item, id=fresh, raw=raw)
        facts = None if item.facts is None else msgspec.structs.replace(item.facts, id=fresh)
        return msgspec.structs.replace(item, raw=raw, facts=facts)
    return msgspec.structs.replace(item, id=new_id(_PREFIX.get(type(item), "item")))


def shown(item: Item) -> bytes:
    """The item's JSON."""
    if isinstance(item, RawItem):
        return item.raw
    fields: dict[str, Any] = msgspec.to_builtins(item, builtin_types=(msgspec.Raw,), enc_hook=to_json)
    match item:
        case Message():
            fields["content"] = _parts(item)
            fields.setdefault("status", "completed")
        case FunctionCallOutput(output=list()) | CustomToolCallOutput(output=list()):
            fields["output"] = [_as_sent(part) for part in fields["output"]]
            fields.setdefault("status", "completed")
        case Reasoning():
            fields.setdefault("summary", [])
        case _:
            fields.setdefault("status", "completed")
    return json_bytes(fields)


def _parts(message: Message) -> list[dict[str, Any]]:
    """The content as parts, with the members that output text always has."""
    if isinstance(message.content, str):
        kind = "output_text" if message.role == "assistant" else "input_text"
        parts: list[dict[str, Any]] = [{"type": kind, "text": message.content}]
    else:
        parts = [
            _as_sent(part)
            for part in msgspec.to_builtins(message.content, builtin_types=(msgspec.Raw,), enc_hook=to_json)
        ]
    for part in parts:
        if part["type"] == "output_text":
            part.setdefault("annotations", [])
            part["logprobs"] = part.get("logprobs") or []
    return parts


def _as_sent(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a type that nothing here knows, as the client sent it."""
    if part["type"] != UNKNOWN_PART:
        return part
    try:
        found: dict[str, Any] = _members_decoder.decode(part["json"])
    except msgspec.DecodeError:  # a client's own part of that type
        return part
    return found


def item_list(items: Sequence[Item], *, has_more: bool) -> bytes:
    """A list object of items that have ids."""
    first, last = (id_of(items[0]), id_of(items[-1])) if items else (None, None)
    end = b'],"first_id":%b,"last_id":%b,"has_more":%b}' % (
        json_bytes(first),
        json_bytes(last),
        b"true" if has_more else b"false",
    )
    texts = [piece for item in items for piece in (b",", shown(item))]
    return b"".join((b'{"object":"list","data":[', *texts[1:], end))  # copied once: they may be long
