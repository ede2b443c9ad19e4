"""Reads a whole output with a format and says what came of it."""

from tests.support.grammars import Grammars
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.seams.format import Format, ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.prompt import PromptContext


def read(
    format: Format,
    tokenizer: ToyTokenizer,
    text: str,
    context: PromptContext,
    *,
    spelled: bool = False,
    complete: bool = True,
) -> list[tuple[str, str]]:
    """The items in `text` as (kind or kind:name, text); `!` marks incomplete ones. `spelled`: no control tokens in it."""
    ids = list(tokenizer.encode(text)) if spelled else ids_of(tokenizer, text)
    parser = format.parser(context)
    events = [event for token in ids for event in parser.feed([token], None)]
    return items([*events, *parser.finish(complete=complete)])


def ids_of(tokenizer: ToyTokenizer, text: str) -> list[int]:
    """`text` with every spelled control token as that token."""
    return Grammars(tokenizer, next(iter(tokenizer.special_ids))).ids(text)


def items(events: list[ParsedEvent]) -> list[tuple[str, str]]:
    """What the events add up to."""
    found: list[tuple[str, str]] = []
    for event in events:
        match event:
            case ItemOpened(kind, name):
                found.append((f"{kind}:{name}" if name else kind, ""))
            case ItemDelta(text):
                found[-1] = (found[-1][0], found[-1][1] + text)
            case ItemClosed(complete):
                found[-1] = found[-1] if complete else ("!" + found[-1][0], found[-1][1])
    return found
