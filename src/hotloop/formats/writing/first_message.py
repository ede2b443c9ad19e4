"""A chain without instructions whose first message is a system or developer message: chat templates take it for them."""

from array import array
from collections.abc import Sequence

import msgspec

from hotloop.protocol.items import Item, Message, text_of
from hotloop.seams.format import Extension, Fallback


def first_instructions(items: Sequence[Item]) -> str | None:
    """The text of a system or developer message in the first place."""
    match items[:1]:
        case [Message(role="system" | "developer", content=content)]:
            return text_of(content)
        case _:
            return None


def after_start(start: Extension, behind: Extension | Fallback) -> Extension | Fallback:
    """The chain written anew: `start`, now with the instructions, and what was written behind it."""
    if isinstance(behind, Fallback):
        return behind
    tokens = start.tokens[: behind.keep] + behind.tokens
    ends = tuple(end for end in start.checkpoints if end <= behind.keep)
    return msgspec.structs.replace(
        behind,
        keep=0,
        tokens=array("I", tokens),
        checkpoints=ends + behind.checkpoints,
        reason="first_message_instructs",
    )
