"""Items as formats see them: what is left when all that only the wire tells apart is gone."""

from collections.abc import Sequence

import msgspec

from hotloop.protocol.file_parts import readable_parts
from hotloop.protocol.hosted_items import seen_by_model
from hotloop.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    HostedItem,
    InputFile,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    PlainText,
    Reasoning,
    ReasoningText,
    ResultPart,
    SettingItem,
    SummaryText,
    text_of,
)
from hotloop.protocol.offer import flat_name

_TEXT_PARTS = (InputText, OutputText, ReasoningText, SummaryText, PlainText)


def for_model(items: Sequence[Item]) -> Sequence[Item]:
    """The items without those that say nothing, calls by the names that were offered, text files as their text."""
    return items if plain_chars(items) >= 0 else _allas_seen(items)


def chars_in(items: Sequence[Item]) -> int:
    """About how many characters there are to render, files as they came. Nothing is made for it."""
    chars = plain_chars(items)
    return chars if chars >= 0 else sum(map(text_chars, items))


def plain_chars(items: Sequence[Item]) -> int:
    """Characters of items that models see as they are, all of them text; -1 if there are others. Nothing is made for it."""
    total = 0
    for item in items:
        content: str | Sequence[object]
        if type(item) is Message:
            content = item.content
        elif type(item) is FunctionCallOutput or type(item) is CustomToolCallOutput:
            content = item.output
        elif type(item) is FunctionCall and item.namespace is None:
            content = item.arguments
        elif type(item) is CustomToolCall and item.namespace is None:
            content = item.input
        elif type(item) is Reasoning:
            content = item.content or item.summary
        else:
            return -1
        if isinstance(content, str):
            total += len(content)
            continue
        for part in content:
            if not isinstance(part, _TEXT_PARTS):
                return -1
            total += len(part.text)
    return total


def _allas_seen(items: Sequence[Item]) -> list[Item]:
    seen: list[Item] = []
    for item in items:
        if isinstance(item, HostedItem):
            seen += seen_by_model(item)
        elif not isinstance(item, SettingItem):
            seen.append(as_seen(item))
    return seen


def as_seen(item: Item) -> Item:
    """One item as a model sees it."""
    match item:
        case FunctionCall() | CustomToolCall():
            if item.namespace is None:
                return item
            return msgspec.structs.replace(item, name=flat_name(item.name, item.namespace))
        case Message(content=list() as content):
            return msgspec.structs.replace(item, content=readable_parts(content)) if _has_files(content) else item
        case FunctionCallOutput(output=list() as output) | CustomToolCallOutput(output=list() as output):
            return msgspec.structs.replace(item, output=readable_parts(output)) if _has_files(output) else item
        case _:
            return item


def _has_files(parts: "list[ContentPart] | list[ResultPart]") -> bool:
    return any(isinstance(part, InputFile) for part in parts)


def text_chars(item: Item) -> int:
    """About how many characters it is rendered from."""
    match item:
        case Message():
            return len(text_of(item.content)) + _file_chars(item.content)
        case FunctionCallOutput() | CustomToolCallOutput():
            return len(text_of(item.output)) + _file_chars(item.output)
        case FunctionCall():
            return len(item.arguments)
        case CustomToolCall():
            return len(item.input)
        case Reasoning():
            return len(text_of(item.content or item.summary))
        case OpaqueItem():
            return len(item.raw)
        case _:
            return 64


def _file_chars(content: "str | list[ContentPart] | list[ResultPart]") -> int:
    if isinstance(content, str):
        return 0
    return sum(len(part.file_data or "") for part in content if isinstance(part, InputFile))
