"""What an item says, as far as families agree."""

import json

from hotloop.formats.writing.tool_text import custom_arguments
from hotloop.protocol.items import CallItem, CustomToolCall, Item, Reasoning, text_of

_JSON = json.JSONEncoder(ensure_ascii=False)  # `json.dumps` would make one for every text


def json_text(text: str) -> str:
    """The text as a JSON string, as templates write it with `tojson`."""
    return _JSON.encode(text)


def reasoning_text(item: Reasoning) -> str:
    """The raw reasoning, or its summary where only that is left."""
    return text_of(item.content or item.summary)


def call_arguments(call: CallItem) -> str:
    """The arguments as they stand; a custom tool's text as the argument `input`; `{}` where nothing is said of any."""
    if isinstance(call, CustomToolCall):
        return custom_arguments(call.input)
    return call.arguments if call.arguments.strip() else "{}"


def not_sampled(item: Item) -> ValueError:
    """Says that an item can be no part of an output."""
    return ValueError(f"a model does not write items of type {type(item).__name__}")
