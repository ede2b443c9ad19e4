"""Refuses what a family that takes text only cannot express."""

from collections.abc import Sequence

from hotloop.errors import UnsupportedValue
from hotloop.protocol.items import (
    ContentPart,
    CustomToolCallOutput,
    FunctionCallOutput,
    InputAudio,
    InputFile,
    InputImage,
    InputVideo,
    Item,
    Message,
    ResultPart,
)


def refuse_unsupported(items: Sequence[Item]) -> None:
    """Raises UnsupportedValue for the first content part that is no text."""
    for index, item in enumerate(items):
        content: str | Sequence[ContentPart] | Sequence[ResultPart]
        match item:
            case FunctionCallOutput() | CustomToolCallOutput():
                field, content = "output", item.output
            case Message():
                field, content = "content", item.content
            case _:
                continue
        if isinstance(content, str):
            continue
        for place, part in enumerate(content):
            if isinstance(part, InputImage | InputFile | InputAudio | InputVideo):
                raise UnsupportedValue("This model takes text only.", param=f"input[{index}].{field}[{place}]")
