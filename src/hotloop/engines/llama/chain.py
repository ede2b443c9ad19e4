"""A chain of the engine host: its tokens, and where their KV is."""

import numpy as np
from numpy.typing import NDArray

from hotloop.engines.llama.parking import Piece


class TokenBuffer:
    """A growing array of token ids."""

    def __init__(self, ids: NDArray[np.int32]) -> None:
        self._ids = ids.copy()
        self._length = len(ids)

    def __len__(self) -> int:
        return self._length

    def append(self, token: int) -> None:
        """Add one token."""
        self._reserve(self._length + 1)
        self._ids[self._length] = token
        self._length += 1

    def extend(self, ids: NDArray[np.int32]) -> None:
        """Add tokens."""
        self._reserve(self._length + len(ids))
        self._ids[self._length : self._length + len(ids)] = ids
        self._length += len(ids)

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens."""
        assert length <= self._length
        self._length = length

    def view(self, start: int = 0, end: int | None = None) -> NDArray[np.int32]:
        """The tokens from `start` to `end`; valid until the next change."""
        return self._ids[start : self._length if end is None else min(end, self._length)]

    def _reserve(self, size: int) -> None:
        if size > len(self._ids):
            grown = np.empty(max(size, 2 * len(self._ids), 64), np.int32)
            grown[: self._length] = self.view()
            self._ids = grown


class Chain:
    """The tokens of one KV handle, how many of them have KV in the cache, and the copies of KV outside of it."""

    def __init__(self, tenant: str, tokens: NDArray[np.int32]) -> None:
        self.tenant = tenant
        self.tokens = TokenBuffer(tokens)
        self.held = 0
        self.sequence: int | None = None
        self.pieces: list[Piece] = []
        self.restored = 0  # tokens whose KV came back from copies when it last got a sequence
        self.is_idle = False  # its handle is closed
        self.is_lost = False  # evicted: its next generate needs the full prompt
        self.is_running = False
        self.last_used = 0
        self.unused_since = 0  # in tokens decoded by all chains

    @property
    def copied(self) -> int:
        """How many tokens, from the start, have a copy of their KV."""
        return self.pieces[-1].end if self.pieces else 0

    @property
    def not_copied(self) -> int:
        """How many tokens have KV in the cache only."""
        return max(self.held - self.copied, 0)

    @property
    def kept(self) -> int:
        """How many tokens, from the start, have KV, in the cache or outside of it."""
        return max(self.held, self.copied)

    def lacks(self, wanted: int) -> int:
        """How many of the first `wanted` tokens have a copy of their KV, but none in the cache."""
        return max(min(self.copied, wanted) - self.held, 0)

    def piece_before(self, length: int) -> int:
        """The start of the copied piece that the token at `length` is in; `length` where it has no copy."""
        return next((piece.start for piece in self.pieces if piece.start <= length < piece.end), length)

    def common_prefix(self, tokens: NDArray[np.int32], limit: int) -> int:
        """How many of `tokens`, from the start, are the first ones of this chain, of which only `limit` count."""
        length = min(limit, len(tokens))
        differing = np.flatnonzero(self.tokens.view(0, length) != tokens[:length])
        return int(differing[0]) if len(differing) else length
