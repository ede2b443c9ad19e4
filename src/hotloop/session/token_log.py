"""The rendered prompt and sampled ids of every chain, stored once however many chains share them.

    segment A  [ t0 t1 t2 … t9 ]                chain 1 = (A, 10)
                        └─ segment B [ u0 u1 ]  chain 2 = (B, 2): 6 tokens of A, then B

A view is (segment, length). A segment only ever grows, so a view stays true for ever. Appending writes in place when the
view ends where its segment ends, else it opens a segment that points at (parent, offset). Nothing truncates: a rewind is
a shorter view. A segment lives as long as a view, or a segment behind it, needs it. 4 bytes a token.
"""

from array import array
from collections.abc import Sequence

import msgspec

BYTES_PER_TOKEN = 4
SEGMENT_OVERHEAD_BYTES = 224  # the objects around the ids; CPython 3.11: 224


class LogMeter:
    """What the segments that are alive hold, over all chains of one model. Exact at any moment."""

    __slots__ = ("segments", "tokens")

    def __init__(self) -> None:
        self.segments = 0
        self.tokens = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of all of it."""
        return self.tokens * BYTES_PER_TOKEN + self.segments * SEGMENT_OVERHEAD_BYTES


class Segment:
    """An append-only run of token ids that continues `parent` after its first `parent_length` tokens.

    `jump` is an ancestor so chosen (skew-binary numbers, Myers 1983) that any ancestor is found in a logarithmic number
    of steps, however often the chain was forked.
    """

    __slots__ = ("depth", "end", "ids", "jump", "meter", "parent", "parent_length")

    def __init__(self, meter: LogMeter, parent: "Segment | None" = None, parent_length: int = 0) -> None:
        self.ids: array[int] = array("I")
        self.meter = meter
        meter.segments += 1
        assert (parent is None) == (parent_length == 0)
        self.parent = parent
        self.parent_length = parent_length  # tokens of the whole chain that lie before this segment
        self.end = parent_length  # length of the longest chain that ends in this segment
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.jump: Segment | None = _jump_behind(parent)

    def __del__(self) -> None:
        self.meter.segments -= 1
        self.meter.tokens -= len(self.ids)

    def continued(self, length: int) -> "Segment":
        """An empty segment behind the first `length` tokens of the chain."""
        return Segment(self.meter, self if length else None, length)


def _jump_behind(parent: Segment | None) -> Segment | None:
    if parent is None or parent.jump is None or parent.jump.jump is None:
        return parent
    is_even = parent.depth - parent.jump.depth == parent.jump.depth - parent.jump.jump.depth
    return parent.jump.jump if is_even else parent


class TokenView(msgspec.Struct, frozen=True, eq=False):
    """The first `length` tokens of a chain. Immutable, two words big, never copies the log.

    `length` lies between the `parent_length` and the `end` of `segment`.
    """

    segment: Segment
    length: int

    @classmethod
    def of(cls, ids: Sequence[int], meter: LogMeter | None = None) -> "TokenView":
        """A chain of its own holding `ids`."""
        return cls(Segment(meter or LogMeter()), 0).append(ids)

    def __len__(self) -> int:
        return self.length

    def append(self, ids: Sequence[int]) -> "TokenView":
        """The view with `ids` behind it. In place where the segment ends here, else in a segment of its own."""
        count = len(ids)
        if not count:
            return self
        segment = self.segment
        if self.length != segment.end:
            segment = segment.continued(self.length)
        segment.ids.extend(ids)
        segment.end = end = segment.end + count
        segment.meter.tokens += count
        return TokenView(segment, end)

    def head(self, length: int) -> "TokenView":
        """The first `length` tokens: a rewind. Costs the logarithm of the number of segments."""
        if length == self.length:
            return self
        assert 0 <= length < self.length
        segment = self.segment
        while length <= segment.parent_length and segment.parent is not None:
            jump = segment.jump
            segment = jump if jump is not None and length <= jump.parent_length else segment.parent
        return TokenView(segment, length)

    def tokens(self, start: int = 0) -> "array[int]":
        """A copy of the tokens from `start` on: what an engine has not got yet. Costs what is copied."""
        segment: Segment | None = self.segment
        end, before = self.length, self.segment.parent_length
        if start >= before:
            return self.segment.ids[start - before : end - before]
        spans: list[tuple[Segment, int, int]] = []
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
