"""The rendered text of a chain, in the pieces it grew by, each with the tokens it became.

A renderer that can only render in full uses it to prove that history still reads the same: the new text must begin with the
old. Pieces are shared by every chain that goes on from them; nothing is copied when a chain grows or forks.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the chain: behind so many characters of its text and so many of its tokens."""

    characters: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class TextLog:
    """One piece and everything before it. `places` are points inside the piece that can be gone back to, `end` the last."""

    parent: "TextLog | None"
    piece: str
    places: tuple[Place, ...]
    end: Place

    def proven(self, text: str) -> "tuple[TextLog | None, Place]":
        """The longest stretch of this log that `text` begins with and that ends at a place, and that place."""
        nodes: list[TextLog] = []
        node: TextLog | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        proven: TextLog | None = None
        at = 0
        for node in reversed(nodes):
            if not text.startswith(node.piece, at):
                return _cut(node, proven, text, at)
            proven = node
            at = node.end.characters
        return proven, Place() if proven is None else proven.end

    def text_from(self, characters: int) -> str:
        """What stands behind so many characters."""
        pieces: list[str] = []
        node: TextLog | None = self
        while node is not None and node.end.characters > characters:
            start = node.end.characters - len(node.piece)
            pieces.append(node.piece[max(characters - start, 0) :])
            node = node.parent
        return "".join(reversed(pieces))


def _cut(node: TextLog, proven: TextLog | None, text: str, at: int) -> tuple[TextLog | None, Place]:
    """The part of `node` that `text` still has."""
    same = _common(node.piece, text, at)
    places = tuple(place for place in node.places if place.characters <= at + same)
    if not places:
        return proven, Place() if proven is None else proven.end
    return TextLog(node.parent, node.piece[: places[-1].characters - at], places, places[-1]), places[-1]


def _common(piece: str, text: str, at: int) -> int:
    """How many characters of `piece` stand at `at` in `text`."""
    low, high = 0, len(piece)
    while low < high:  # the longest prefix by halving: comparing is a memcmp
        middle = (low + high + 1) // 2
        if text.startswith(piece[:middle], at):
            low = middle
        else:
            high = middle - 1
    return low
