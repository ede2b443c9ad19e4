"""What one family of chat templates writes its own way, beside what all of them do alike (`format`).

A conversation is a row of messages. An assistant message holds reasoning, text and calls in that order, at most one of the
first two; consecutive tool outputs share a message. Items are grouped by that rule alone, so every split into turns gives
the same messages. A `Dialect` says how each piece is spelled.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from hotloop.formats.bases.answer import Phase
from hotloop.formats.parsing.call_syntax import CallSyntax
from hotloop.formats.writing.item_text import reasoning_text as raw_reasoning
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.protocol.items import (
    Item,
    Message,
    Reasoning,
    text_of,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

RESPONSE = "<tool_response>"
RESPONSE_END = "</tool_response>"


class Dialect(Protocol):
    """One family, or one version of it. Stateless.

    `off` says that the request switched thinking off. `after` is what the open message holds in front of the piece.
    """

    @property
    def name(self) -> str:
        """Short name of the family."""
        ...

    @property
    def required(self) -> tuple[str, ...]:
        """Control tokens that a vocabulary must have."""
        ...

    @property
    def stops(self) -> tuple[str, ...]:
        """Control tokens that end an output, as far as the vocabulary has them."""
        ...

    @property
    def thinks(self) -> bool:
        """The model reasons in think blocks; otherwise reasoning is left out and `<think>` is text."""
        ...

    @property
    def opens_think(self) -> bool:
        """The generation prompt opens the think block, unless thinking is off."""
        ...

    @property
    def strips(self) -> bool:
        """The template trims white space around texts and reasoning."""
        ...

    @property
    def calls(self) -> CallSyntax:
        """How calls are spelled."""
        ...

    def constraint(
        self, context: PromptContext, rules: CallRules, marks: Mapping[str, int], *, off: bool
    ) -> Constraint | None:
        """See `Format.constraint`. `marks`: ids of the markers that the vocabulary has as control tokens."""
        ...

    def is_verbatim(self, *, off: bool) -> bool:
        """Texts of messages and outputs stand in the prompt as they were given, whatever they are; or so, but trimmed."""
        ...

    @property
    def trims(self) -> bool:
        """White space around those texts is trimmed."""
        ...

    def is_query(self, item: Item) -> bool:
        """The user asks something new: what was reasoned before may go."""
        ...

    def is_rewritten(self, *, off: bool, thought: bool) -> bool:
        """The template writes an answer in another way once the user asks something new. `thought`: it holds reasoning."""
        ...

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        """Everything in front of the first item."""
        ...

    def write_message(self, writer: TokenWriter, role: Literal["user", "system"], text: str, *, off: bool) -> None:
        """A message of the user or the developer, without its end."""
        ...

    def write_assistant(self, writer: TokenWriter, reasoning: str, *, shown: bool, off: bool) -> bool:
        """The head of an assistant message and its think block; whether there is one.

        `shown`: reasoning is not left out here.
        """
        ...

    def write_text(self, writer: TokenWriter, text: str, *, behind_block: bool) -> None:
        """The assistant's text. `behind_block`: a think block stands right before it."""
        ...

    def write_call(self, writer: TokenWriter, name: str, arguments: str, after: Phase) -> None:
        """A call and what separates it from what stands before it."""
        ...

    def write_output(self, writer: TokenWriter, text: str, after: Phase) -> None:
        """A tool's output; with the head of a message if there is none open (`after` is "")."""
        ...

    def write_end(self, writer: TokenWriter) -> None:
        """The end of every message; may be nothing."""
        ...

    def write_prompt(self, writer: TokenWriter, *, off: bool) -> None:
        """The generation prompt."""
        ...

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        """What the model itself samples for its reasoning, behind the generation prompt."""
        ...

    def write_thought_end(self, writer: TokenWriter) -> None:
        """Closes a think block that was cut off."""
        ...

    def stop_after(self, items: Sequence[Item]) -> str:
        """The stop token the model samples behind `items`."""
        ...


def answer_text(item: Message, *, strips: bool) -> str:
    """The text of an assistant message."""
    text = text_of(item.content)
    return text.strip() if strips else text


def reasoning_text(item: Reasoning, *, strips: bool = False) -> str:
    """The reasoning without line ends, or any white space, around it."""
    return raw_reasoning(item).strip(None if strips else "\n")


def is_rendered(item: Item, dialect: Dialect) -> bool:
    """The item leaves something in the text: sealed reasoning and empty assistant messages do not."""
    match item:
        case Reasoning():
            return dialect.thinks and bool(reasoning_text(item, strips=dialect.strips))
        case Message(role="assistant"):
            return bool(answer_text(item, strips=dialect.strips))
        case _:
            return True


def is_question(item: Item, *, strips: bool = False) -> bool:
    """The user asks something new. A text in tool response tags is a tool's answer, as in Qwen's own templates."""
    if not (isinstance(item, Message) and item.role == "user"):
        return False
    text = text_of(item.content)
    if strips:
        text = text.strip()
    return not (text.startswith(RESPONSE) and text.endswith(RESPONSE_END))
