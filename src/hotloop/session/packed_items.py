"""Items that take long to read, as who has read them hands them on: nothing of their JSON is decoded a second time.

What costs is not the length of a text but what stands in it: five million `{}` in a field that is only carried. Packed it is a
string of bytes, and whatever is asked of the item later (`ItemFacts`) stands beside it.
"""

from typing import Any

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.hosted_items import error_text, listed_tools, read_call, read_request, read_response
from hotloop.protocol.item_view import id_of
from hotloop.protocol.items import (
    CustomToolCallOutput,
    FunctionCallOutput,
    HostedItem,
    Item,
    ItemFacts,
    ItemReference,
    OpaqueItem,
    RawItem,
    SealedItem,
    SettingItem,
    TypedCall,
    TypedCallOutput,
    UnpairedOutput,
    opaque_text,
)
from hotloop.protocol.json_value import EMPTY_ARRAY, JsonArray, JsonText, JsonValue
from hotloop.protocol.request import with_call_id
from hotloop.protocol.typed_calls import tools_in
from hotloop.session.canonical import item_digest
from hotloop.session.chain_settings import listing_refusal, update_in

LONG_BYTES = 64 * 1024  # of what is only carried: building it takes a millisecond and a half
_ERROR = "Error: "


# A decoder knows the members of a union, not their subclasses.
_AnyItem = Item | RawItem | SettingItem | UnpairedOutput | HostedItem | SealedItem


class _Packed(msgspec.Struct, array_like=True):
    item: _AnyItem
    has_raw: bool  # its JSON is the text it was read from, and left out


def pack_long(item: Item, raw: msgspec.Raw | bytes) -> bytes | None:
    """The item as bytes, for `unpacked`; None if reading `raw`, its text, takes no longer. It may be read only once more."""
    size = memoryview(raw).nbytes
    if size < LONG_BYTES or isinstance(item, ItemReference):
        return None
    carried = 0

    def packed_value(value: JsonValue | JsonText) -> tuple[bytes | str | None, ...]:
        nonlocal carried
        carried += len(value.text)
        if isinstance(value, JsonText):
            is_canonical = value.canonical == _wrapped(value.text)
            return value.text, value.shown, None if is_canonical else value.canonical
        canonical = value.canonical
        return (value.text,) if canonical is value.text else (value.text, canonical)

    item_digest(item)  # what is carried knows its canonical form from now on
    known = _with_facts(item)
    has_raw = isinstance(known, RawItem) and known.raw == bytes(raw)
    if has_raw:
        known = msgspec.structs.replace(known, raw=b"")
    text = msgspec.msgpack.Encoder(enc_hook=packed_value).encode(_Packed(known, has_raw))
    is_long = isinstance(item, RawItem) or carried >= LONG_BYTES or size - len(text) >= LONG_BYTES
    return text if is_long else None


def unpacked(packed: bytes | memoryview, raw: msgspec.Raw | bytes) -> Item:
    """The item again; `raw` is the text it was read from."""
    found = _decoder.decode(packed)
    return msgspec.structs.replace(found.item, raw=bytes(raw)) if found.has_raw else found.item


def _wrapped(text: str) -> bytes:
    """The canonical form of JSON that is written canonically already."""
    return b"[%b]" % text.encode()


def _unpacked_value(kind: type, value: Any) -> Any:
    if kind is JsonText:
        text, shown, canonical = value
        return JsonText(text, shown, _wrapped(text) if canonical is None else canonical)
    text, canonical = value if len(value) == 2 else (*value, value[0])
    return EMPTY_ARRAY if text == EMPTY_ARRAY.text and kind is JsonArray else kind(text, canonical)


_decoder = msgspec.msgpack.Decoder(_Packed, dec_hook=_unpacked_value)


def _with_facts(item: Item) -> Item:
    if isinstance(item, OpaqueItem):
        return msgspec.structs.replace(item, facts=_facts_of(item))
    if isinstance(item, TypedCall | TypedCallOutput):
        return msgspec.structs.replace(item, facts=ItemFacts(digest=item_digest(item), tools=tools_in(item)))
    return item


def _facts_of(item: OpaqueItem) -> ItemFacts:
    listed = listed_tools(item)
    label, tools = listed or ("", tools_in(item))
    call = read_call(item)
    if call is not None and isinstance(call.error, dict):
        call = msgspec.structs.replace(call, error=error_text(call.error).removeprefix(_ERROR))
    return ItemFacts(
        digest=item_digest(item),
        id=id_of(item),
        shown="" if isinstance(item, SettingItem | SealedItem) else opaque_text(item),
        tools=tools,
        label=label,
        refusal=None if listed is None else listing_refusal(listed[1]),
        update=update_in(item) if isinstance(item, SettingItem) else None,
        output=_output_of(item) if isinstance(item, UnpairedOutput) else None,
        call=call,
        request=read_request(item),
        response=read_response(item),
    )


def _output_of(item: UnpairedOutput) -> FunctionCallOutput | CustomToolCallOutput | None:
    """None if it is wrong: that is said where its call is known."""
    try:
        found = with_call_id(item, "", "")
    except ApiError:
        return None
    assert isinstance(found, FunctionCallOutput | CustomToolCallOutput)
    return found
