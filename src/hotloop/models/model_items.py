"""Items as formats see them: what is left when all that only the wire tells apart is gone."""

import base64
import binascii
from collections.abc import Sequence

import msgspec

from hotloop.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputText,
    Item,
    Message,
    ResultPart,
    SettingItem,
)
from hotloop.protocol.offer import flat_name

_TEXT_TYPES = (
    "text/",
    "application/json",
    "application/xml",
    "application/yaml",
    "application/toml",
    "application/x-sh",
)


def for_model(items: Sequence[Item]) -> Sequence[Item]:
    """The items without those that say nothing, calls by the names that were offered, text files as their text."""
    return [_as_seen(item) for item in items if not isinstance(item, SettingItem)]


def _as_seen(item: Item) -> Item:
    match item:
        case FunctionCall() | CustomToolCall():
            if item.namespace is None:
                return item
            return msgspec.structs.replace(item, name=flat_name(item.name, item.namespace))
        case Message(content=list() as content):
            return msgspec.structs.replace(item, content=_parts(content)) if _has_files(content) else item
        case FunctionCallOutput(output=list() as output) | CustomToolCallOutput(output=list() as output):
            return msgspec.structs.replace(item, output=_parts(output)) if _has_files(output) else item
        case _:
            return item


def _has_files(parts: "list[ContentPart] | list[ResultPart]") -> bool:
    return any(isinstance(part, InputFile) for part in parts)


def _parts(parts: "list[ContentPart] | list[ResultPart]") -> "list[ContentPart | ResultPart]":
    return [_file_text(part) if isinstance(part, InputFile) else part for part in parts]


def _file_text(part: InputFile) -> InputFile | InputText:
    """The text of a file that is one and came inline; any other is left for the format to refuse."""
    head, comma, data = (part.file_data or "").partition(",")
    kind, *options = head.removeprefix("data:").split(";")
    if not comma or not head.startswith("data:") or not kind.startswith(_TEXT_TYPES) or options[-1:] != ["base64"]:
        return part
    try:
        text = base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return part
    return InputText(text=f"[{part.filename or 'file'}]\n{text}")
