"""A chain grown by hand, and outputs read from their text, for unit tests of formats."""

from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.protocol.items import Item, Message, OutputText, Reasoning, ReasoningText
from hotloop.seams.format import Extension, Format, ItemClosed, ItemDelta, ItemOpened, ParsedEvent, RenderState
from hotloop.seams.prompt import PromptContext


class GrowingChain:
    """A chain of one format. `reason` is why the last step rewound."""

    def __init__(self, format: Format, tokenizer: ToyTokenizer, context: PromptContext | None = None) -> None:
        self._format = format
        self._tokenizer = tokenizer
        start = format.begin(context or PromptContext())
        self.tokens = start.tokens[:]
        self.state: RenderState = start.state
        self.reason: str | None = None

    def give(self, *items: Item) -> "GrowingChain":
        """New items of the client's."""
        extension = self._format.extend(self.state, len(self.tokens), items)
        assert isinstance(extension, Extension)
        return self._apply(extension)

    def sample(self, text: str, *output: Item) -> "GrowingChain":
        """What the model wrote, and the items that it is."""
        sampled = ids_of(self._tokenizer, text)
        return self._apply(self._format.commit(self.state, len(self.tokens), sampled, output))

    def _apply(self, extension: Extension) -> "GrowingChain":
        self.tokens = self.tokens[: extension.keep] + extension.tokens
        self.state, self.reason = extension.state, extension.reason
        return self

    @property
    def text(self) -> str:
        """The chain."""
        return self._tokenizer.decode(self.tokens)

    @property
    def prompt(self) -> str:
        """The generation prompt."""
        return self._tokenizer.decode(self._format.generation_prompt(self.state))


def ids_of(tokenizer: ToyTokenizer, text: str) -> list[int]:
    """`text` with every spelled control token as that token."""
    out: list[int] = []
    while text:
        hits = [(at, mark) for mark in tokenizer.special_ids if (at := text.find(mark)) >= 0]
        at, mark = min(hits, default=(len(text), ""))
        out += tokenizer.encode(text[:at])
        if mark:
            out.append(tokenizer.special_ids[mark])
        text = text[at + len(mark) :]
    return out


def read(
    format: Format,
    tokenizer: ToyTokenizer,
    text: str,
    context: PromptContext | None = None,
    *,
    complete: bool = True,
) -> list[ParsedEvent]:
    """The events of an output, read token by token, with neighbouring deltas put together."""
    parser = format.parser(context or PromptContext())
    events = [event for token in ids_of(tokenizer, text) for event in parser.feed([token], None)]
    merged: list[ParsedEvent] = []
    for event in [*events, *parser.finish(complete=complete)]:
        if isinstance(event, ItemDelta) and merged and isinstance(merged[-1], ItemDelta):
            merged[-1] = ItemDelta(merged[-1].text + event.text)
        else:
            merged.append(event)
    return merged


def call_events(name: str, arguments: str) -> list[ParsedEvent]:
    """A whole function call."""
    return [ItemOpened("function_call", name), ItemDelta(arguments), ItemClosed()]


def message_events(text: str) -> list[ParsedEvent]:
    """A whole message."""
    return [ItemOpened("message"), ItemDelta(text), ItemClosed()]


def thought(text: str) -> Reasoning:
    """Reasoning of the model."""
    return Reasoning(content=[ReasoningText(text=text)])


def said(text: str) -> Message:
    """A message of the model."""
    return Message(role="assistant", content=[OutputText(text=text)])
