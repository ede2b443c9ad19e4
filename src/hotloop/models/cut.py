"""Where the first items of an output end among the ids that were sampled for it.

Asked only when a response was cut between two items: a step of the engine can hold the end of one and the beginning of
the next. The output is read again, id by id.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent, Parser

_MARKER_TOKENS = 16  # most ids that a marker between two items is spelled with


@dataclass(slots=True)
class _Read:
    """An item as the parser reports it."""

    kind: str
    name: str
    text: str = ""
    is_whole: bool = False


def length_of_items(make_parser: Callable[[], Parser], sampled: "array[int]", count: int) -> int | None:
    """How many of `sampled` say the first `count` items and nothing else; None if no number does.

    The mark that ends the last of them counts, one that begins the next does not.
    """
    if count == 0:
        return 0
    parser, events, closed = make_parser(), list[ParsedEvent](), 0
    end = len(sampled)
    for index, token in enumerate(sampled):
        found = parser.feed((token,), None)
        events += found
        closed += sum(isinstance(event, ItemClosed) for event in found)
        if closed >= count:
            end = index + 1
            break
    else:
        events += parser.finish(complete=True)
    wanted = _items(events)[:count]
    if len(wanted) < count:
        return None
    for length in range(end, max(end - _MARKER_TOKENS, 0) - 1, -1):
        if _said_by(make_parser(), sampled[:length]) == wanted:
            return length
    return None


def _said_by(parser: Parser, ids: Sequence[int]) -> list[_Read]:
    return _items([*parser.feed(ids, None), *parser.finish(complete=True)])


def _items(events: Iterable[ParsedEvent]) -> list[_Read]:
    items: list[_Read] = []
    for event in events:
        match event:
            case ItemOpened():
                items.append(_Read(event.kind, event.name))
            case ItemDelta():
                items[-1].text += event.text
            case ItemClosed():
                items[-1].is_whole = event.complete
    return items
