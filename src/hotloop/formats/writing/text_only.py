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
        match item:
            case Message():
                _refuse_parts(item.content, f"input[{index}].content")
            case FunctionCallOutput() | CustomToolCallOutput():
                _refuse_parts(item.output, f"input[{index}].output")
            case _:
                pass


def _refuse_parts(content: str | list[ContentPart] | list[ResultPart], param: str) -> None:
    if isinstance(content, str):
        return
    for index, part in enumerate(content):
        if isinstance(part, InputImage | InputFile | InputAudio | InputVideo):
            raise UnsupportedValue("This model takes text only.", param=f"{param}[{index}]")
