"""What a turn asks of a model, apart from its items: the part that formats, engines and models all read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from hotloop.protocol.items import Item
from hotloop.protocol.tools import Tool
from hotloop.session.item_log import ItemLog
from hotloop.session.model_context import ContextShelf


@dataclass(frozen=True, slots=True)
class PromptContext:
    """What stands in front of every item: a change of it is a new chain."""

    instructions: str | None = None
    tools: tuple[Tool, ...] = ()
    # where each of them stands in the request, such as `tools[3]`, for errors; empty: in the same places of `tools`
    tool_places: tuple[str, ...] = field(default=(), compare=False)
    reasoning_effort: str | None = None  # "none" switches thinking off where the family can
    keep_reasoning: bool = False  # reasoning.context all_turns: never strip old reasoning
    digest: bytes = b""  # equal for equal contexts; set by the model context cache, so that comparing costs nothing
    shelf: ContextShelf | None = field(default=None, compare=False, repr=False)  # for what follows from the context

    def same_as(self, other: "PromptContext") -> bool:
        """The two render alike."""
        if self.digest and other.digest:
            return self.digest == other.digest
        return self == other

    def place_of_tool(self, index: int) -> str:
        """Path of the field that a tool came from."""
        return self.tool_places[index] if self.tool_places else f"tools[{index}]"


class CallRules(msgspec.Struct, frozen=True):
    """What the model may write this turn.

    `choice` is `auto`, `none`, `required`, or `named` for exactly the one tool in `allowed`; `allowed` limits the tools by
    name (None: all offered). `text_schema` is a JSON schema (raw) the final text must fit, `b"{}"` for any JSON object.
    """

    choice: str = "auto"
    allowed: frozenset[str] | None = None
    parallel: bool = True
    text_schema: bytes | None = None


class TurnView(msgspec.Struct, frozen=True):
    """The turn as items, beside its tokens. Only engines that are no models read it (the scripted one)."""

    history: ItemLog
    new_items: Sequence[Item]
    context: PromptContext
    rules: CallRules
