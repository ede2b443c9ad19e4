"""How one model family writes a conversation as tokens, and how its output is read back as items."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from hotloop.protocol.items import Item
from hotloop.seams.engine import Constraint, TokenLogprob
from hotloop.seams.prompt import CallRules, PromptContext

# What a format remembers between extends of one chain; only the format looks inside. Immutable.
RenderState = object

ItemKind = Literal["message", "reasoning", "function_call", "custom_tool_call"]


class Extension(msgspec.Struct, frozen=True):
    """Tokens to append after the first `keep` tokens of the chain; `keep` below its length is a rewind.

    `checkpoints` are chain lengths (from the chain's start) at which an item ends. A rewind names its `reason`.
    """

    keep: int
    tokens: "array[int]"
    state: RenderState
    checkpoints: tuple[int, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Fallback:
    """The family rewrites history here: render in full. `reason` is a short stable name that is counted."""

    reason: str


# --- what a parser reports: one item is open at a time ---


class ItemOpened(msgspec.Struct, frozen=True):
    """An item begins. `name` is the tool's, for calls; `phase` a message's, where the family tells phases apart."""

    kind: ItemKind
    name: str = ""
    phase: str | None = None


class ItemDelta(msgspec.Struct, frozen=True):
    """The next piece of the open item's text, arguments or input. Never empty, never half a character."""

    text: str
    logprobs: Sequence[TokenLogprob] = ()


class ItemClosed(msgspec.Struct, frozen=True):
    """The open item is over; incomplete if the output stopped inside it."""

    complete: bool = True


ParsedEvent = ItemOpened | ItemDelta | ItemClosed


class Parser(Protocol):
    """Reads one response's sampled ids. Any split of the ids into feeds gives the same items and texts."""

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        """What these ids add. Stop tokens add nothing."""
        ...

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        """The output is over: everything held back is delivered, the open item is closed.

        `complete` is False if the output was cut (token limit, abort); an item then open closes incomplete.
        """
        ...

    @property
    def reasoning_tokens(self) -> int:
        """Sampled ids so far that belong to reasoning."""
        ...


class Format(Protocol):
    """One model family. Stateless; everything about a chain is in its `RenderState`."""

    @property
    def name(self) -> str:
        """Short name of the family, such as `chatml`."""
        ...

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Sampling any of these ends the output."""
        ...

    def begin(self, context: PromptContext) -> Extension:
        """The start of a chain: instructions and tools, without any item. `keep` is 0."""
        ...

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        """What to append for `new_items` to a chain of `length` tokens. Never sees the log: its cost is that of the items."""
        ...

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """What makes the model write its answer now. Goes to the engine, never into the log by itself."""
        ...

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """What the log gets for the model's own output: the sampled ids verbatim, framed as the family frames them.

        The result begins with the generation prompt and the sampled ids whenever the family's history does, so that the
        engine's KV stays valid.
        """
        ...

    def parser(self, context: PromptContext) -> Parser:
        """A parser for one response."""
        ...

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """The grammar for `rules`, or None if anything may be written. Raises InvalidRequest if the family cannot."""
        ...

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample to say `items` (its own output), stop token last; `parse` gives them back."""
        ...
