"""The rendered prompt and sampled ids of every chain, stored once however many chains share them.

    segment A  [ t0 t1 t2 … t9 ]                chain 1 = (A, 10)
                        └─ segment B [ u0 u1 ]  chain 2 = (B, 2): 6 tokens of A, then B

A view is (segment, length). A segment only ever grows, so a view stays true for ever. Appending writes in place when the
view ends where its segment ends, else it opens a segment that points at (parent, offset). Nothing truncates: a rewind is
a shorter view. 4 bytes a token.
"""

from array import array
from collections.abc import Sequence

BYTES_PER_TOKEN = 4


class Segment:
    """An append-only run of token ids that continues `parent` after its first `offset` tokens."""

    __slots__ = ("ids", "parent", "parent_length")

    def __init__(self, parent: "Segment | None" = None, parent_length: int = 0) -> None:
        self.ids: array[int] = array("I")
        self.parent = parent
        self.parent_length = parent_length  # tokens of the whole chain that lie before this segment
        assert parent_length == 0 or parent is not None


class TokenView:
    """The first `length` tokens of a chain. Immutable, two words big, never copies the log."""

    __slots__ = ("length", "segment")

    def __init__(self, segment: Segment, length: int) -> None:
        assert segment.parent_length <= length <= segment.parent_length + len(segment.ids)
        self.segment = segment
        self.length = length

    @classmethod
    def of(cls, ids: Sequence[int]) -> "TokenView":
        """A chain of its own holding `ids`."""
        return cls(Segment(), 0).append(ids)

    def __len__(self) -> int:
        return self.length

    def append(self, ids: Sequence[int]) -> "TokenView":
        """The view with `ids` behind it. In place where the segment ends here, else in a segment of its own."""
        if not len(ids):
            return self
        segment = self.segment
        if self.length != segment.parent_length + len(segment.ids):
            segment = Segment(segment, self.length)
        segment.ids.extend(ids)
        return TokenView(segment, self.length + len(ids))

    def head(self, length: int) -> "TokenView":
        """The first `length` tokens: a rewind. Costs one step per segment crossed."""
        assert 0 <= length <= self.length
        segment = self.segment
        while length <= segment.parent_length and segment.parent is not None:
            segment = segment.parent
        return TokenView(segment, length)

    def tokens(self, start: int = 0) -> "array[int]":
        """A copy of the tokens from `start` on: for engines that ask for everything, never per turn."""
        spans: list[tuple[Segment, int, int]] = []
        segment: Segment | None = self.segment
        end = self.length
        while segment is not None and end > start:
            first = max(start, segment.parent_length)
            if end > first:
                spans.append((segment, first - segment.parent_length, end - segment.parent_length))
            end = min(end, segment.parent_length)
            segment = segment.parent
        out = array("I")
        for segment, first, stop in reversed(spans):
            out.extend(segment.ids[first:stop])
        return out
