"""The shape of an answer in nearly every family: reasoning, text and calls in that order, and how think blocks are marked."""

from typing import Literal

from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    Reasoning,
)

THINK = "<think>"
THINK_END = "</think>"

# What the message under construction holds so far; "" between messages.
Phase = Literal["", "outputs", "thought", "text", "calls"]


def joins(phase: Phase, item: Item) -> bool:
    """The item continues the message that is at `phase`."""
    match item:
        case FunctionCallOutput() | CustomToolCallOutput():
            return phase == "outputs"
        case FunctionCall() | CustomToolCall():
            return phase in ("thought", "text", "calls")
        case Message(role="assistant"):
            return phase == "thought"
        case _:
            return False


# What an answer holds last behind these items; behind any other, a text.
PHASES: dict[type[Item], Phase] = {Reasoning: "thought", FunctionCall: "calls", CustomToolCall: "calls"}


def phase_after(item: Item) -> Phase:
    """What an answer that ends with `item` holds last."""
    return PHASES.get(type(item), "text")
