"""What one family writes its own way, beside what DeepSeek and Kimi do alike (`format`).

An answer is reasoning, text and calls in that order, at most one of the first two; it is one message. Every other item is a
message of its own. Items are grouped by that rule alone, so every split into turns gives the same messages. A `Dialect` says
how the pieces are spelled; what it has to know of the chain so far is the `Tail`.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, get_args

import msgspec

from hotloop.formats.bases.answer import Phase, joins
from hotloop.formats.bases.answers.parser import CallsReader
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.writing.item_text import reasoning_text as raw_reasoning
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    Item,
    Message,
    Reasoning,
    text_of,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

Role = Literal["user", "system"]
After = Literal["start", "question", "answer", "outputs"]  # what a chain ends with
AFTER: tuple[After, ...] = get_args(After)
MarkIds = Callable[[str], int | None]  # a marker's control token, if the vocabulary has one

# When a template leaves reasoning out: of all that stands before a question; of all up to an answer without calls, once a
# question follows; of all up to the first such answer, and of none that comes later; not at all.
Forgets = Literal["at_questions", "at_answers", "at_first_answer", "never"]


class Tail(msgspec.Struct, frozen=True):
    """What a chain ends with, as far as the spelling of what follows depends on it."""

    after: After = "start"
    phase: Phase = ""  # of the last message; "" if nothing can join it
    closing: int = 0  # tokens that close it: taken back when an item joins
    outputs_begun: bool = False  # the opening of tool outputs stands already
    calls: int = 0  # calls so far
    waiting: tuple[str, ...] = ()  # what the family calls the calls without an output, oldest first


class Dialect(Protocol):
    """One family, or one version of it. Stateless. `thinks` says whether the model reasons in this context."""

    @property
    def name(self) -> str:
        """Short name of the family."""
        ...

    @property
    def required(self) -> tuple[str, ...]:
        """Control tokens that a vocabulary must have; the first of them ends an answer."""
        ...

    @property
    def stops(self) -> tuple[str, ...]:
        """Other control tokens that end an output, where the vocabulary has them."""
        ...

    @property
    def marks(self) -> tuple[str, ...]:
        """What the parser reads as markers."""
        ...

    @property
    def header_marks(self) -> tuple[str, str]:
        """The markers around what names a call."""
        ...

    @property
    def opens_think(self) -> bool:
        """The generation prompt opens the think block, if the model thinks."""
        ...

    @property
    def think_lines(self) -> bool:
        """Line ends around reasoning belong to the think block."""
        ...

    @property
    def separator(self) -> str:
        """White space between an answer's text and its calls."""
        ...

    def forgets(self, context: PromptContext) -> "Forgets":
        """When reasoning is left out."""
        ...

    def is_question(self, item: Item) -> bool:
        """The user asks something new."""
        ...

    def thinks(self, context: PromptContext) -> bool:
        """The model reasons."""
        ...

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        """Everything in front of the first item."""
        ...

    def write_message(self, writer: TokenWriter, tail: Tail, role: Role, text: str) -> None:
        """A whole message of the user or the developer."""
        ...

    def write_head(self, writer: TokenWriter, tail: Tail, reasoning: str, *, thinks: bool, shown: bool) -> None:
        """The head of an answer and its think block. `shown`: reasoning is not left out here."""
        ...

    def write_call(self, writer: TokenWriter, tail: Tail, name: str, arguments: str, *, is_first: bool) -> Tail:
        """A call, with the opening of the calls if it is the first."""
        ...

    def write_calls_end(self, writer: TokenWriter) -> None:
        """The end of the calls."""
        ...

    def write_end(self, writer: TokenWriter) -> None:
        """The end of an answer."""
        ...

    def write_output(self, writer: TokenWriter, tail: Tail, text: str) -> Tail:
        """A tool's output; `tail.phase` says whether outputs are open."""
        ...

    def write_outputs_end(self, writer: TokenWriter) -> None:
        """The end of a row of outputs."""
        ...

    def write_prompt(self, writer: TokenWriter, after: After, *, thinks: bool) -> None:
        """The generation prompt."""
        ...

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        """What the model samples for its reasoning, behind the generation prompt; for none, too."""
        ...

    def write_thought_end(self, writer: TokenWriter) -> None:
        """Closes a think block that was cut off."""
        ...

    def encoding_tail(self, items: Sequence[Item]) -> Tail:
        """What stands before `items` that a model would sample, as far as they tell."""
        ...

    def sampled_calls(self, tail: Tail, names: Sequence[str], headers: Sequence[str]) -> Tail:
        """The tail behind calls of the model; `headers` is how it named them, if that could be read."""
        ...

    def calls_reader(self, stream: ItemStream) -> CallsReader:
        """Reads the calls of one answer."""
        ...

    def constraint(self, ids: MarkIds, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See `Format.constraint`."""
        ...


def reasoning_text(item: Reasoning, *, lines: bool) -> str:
    """The reasoning. `lines`: line ends around it are not part of it."""
    text = raw_reasoning(item)
    return text.strip("\n") if lines else text


def is_rendered(item: Item, *, thinks: bool, lines: bool) -> bool:
    """The item leaves something in the text: sealed reasoning and empty messages of the assistant do not."""
    match item:
        case Reasoning():
            return thinks and bool(reasoning_text(item, lines=lines).strip())
        case Message(role="assistant"):
            return bool(text_of(item.content))
        case _:
            return True


def last_question(items: Sequence[Item], dialect: Dialect) -> int:
    """Where the last question stands; -1 if there is none."""
    return max((index for index, item in enumerate(items) if dialect.is_question(item)), default=-1)


def answers_without_calls(items: Sequence[Item], dialect: Dialect) -> list[int]:
    """Where the answers without calls end that have a question somewhere behind them. The model reasons."""
    ends: list[int] = []
    phase: Phase = ""
    last = -1
    for index, item in enumerate(items[: last_question(items, dialect) + 1]):
        if not is_rendered(item, thinks=True, lines=dialect.think_lines):
            continue
        if phase in ("thought", "text") and not joins(phase, item):
            ends.append(last)
        match item:
            case Reasoning():
                phase = "thought"
            case Message(role="assistant"):
                phase = "text"
            case FunctionCall() | CustomToolCall():
                phase = "calls"
            case _:
                phase = ""
        last = index
    return ends
