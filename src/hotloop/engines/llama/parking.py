"""KV of chains that nobody decodes, as copies in the host's own memory.

    tokens  [ piece | piece | piece | not copied ]     pieces follow each other without gaps, from the chain's start
              └── a piece's memory may be another chain's too, where both begin alike

A copy stays valid while the chain's tokens up to its end do. So a chain that is decoded on and parked again only copies
what is new, and a rewind only makes the last piece shorter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PIECE_TOKENS = 256  # copied at one time: 0.5 ms of a small model, 10 ms of one with 128 kB of KV per token


class CopyableCache(Protocol):
    """What is needed of a llama context."""

    def save(self, sequence: int, start: int, end: int) -> NDArray[np.uint8] | None: ...
    def load(self, sequence: int, start: int, end: int, data: NDArray[np.uint8]) -> bool: ...


class Copy:
    """Memory of one piece, freed when no chain uses it."""

    __slots__ = ("data", "users")

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data
        self.users = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """KV of the tokens from `start` to `end` of a chain; what its copy holds beyond `end` does not count."""

    copy: Copy
    start: int
    end: int


class KvCopies:
    """The copies of all chains, at most `max_bytes` together. 0: there are none."""

    def __init__(self, cache: CopyableCache, *, max_bytes: int) -> None:
        self._cache = cache
        self._max_bytes = max_bytes
        self._bytes_per_token = 0  # learnt with the first copy
        self.size_bytes = 0
        self.count = 0

    @property
    def is_on(self) -> bool:
        """Chains can be copied at all."""
        return self._max_bytes > 0

    def save_next(self, pieces: list[Piece], sequence: int, held: int, make_room: Callable[[], bool]) -> bool:
        """Copy one more piece of the first `held` tokens of a sequence. `make_room` frees other copies, if it can.

        False: there is no memory for it; nothing was changed.
        """
        start = pieces[-1].end if pieces else 0
        if pieces and start - pieces[-1].start < PIECE_TOKENS:  # else every turn would leave a piece of its own
            start = pieces[-1].start
        end = min(start + PIECE_TOKENS, held)
        while not self._fits((end - start) * self._bytes_per_token):
            if not make_room():
                return False
        data = self._cache.save(sequence, start, end)
        if data is None:
            return False
        self._bytes_per_token = data.nbytes // (end - start)
        while not self._fits(data.nbytes):  # a few bytes more than expected
            if not make_room():
                return False
        self.cut(pieces, start)
        pieces.append(Piece(Copy(data), start, end))
        self.size_bytes += data.nbytes
        self.count += 1
        return True

    def load(self, piece: Piece, sequence: int, start: int) -> bool:
        """Bring what a piece holds from `start` on back behind the tokens of a sequence. False: the cache has no room."""
        return self._cache.load(sequence, start, piece.end, piece.copy.data)

    def cut(self, pieces: list[Piece], length: int) -> None:
        """Keep the first `length` tokens."""
        while pieces and pieces[-1].start >= length:
            self._let_go(pieces.pop().copy)
        if pieces and pieces[-1].end > length:
            pieces[-1] = Piece(pieces[-1].copy, pieces[-1].start, length)

    def adopt(self, pieces: list[Piece], others: list[Piece], length: int) -> None:
        """Let a chain use another one's copies of their first `length` tokens, instead of those it has."""
        taken = [Piece(piece.copy, piece.start, min(piece.end, length)) for piece in others if piece.start < length]
        for piece in taken:
            piece.copy.users += 1
        self.cut(pieces, 0)
        pieces.extend(taken)

    def _fits(self, size_bytes: int) -> bool:
        return self.size_bytes + size_bytes <= self._max_bytes

    def _let_go(self, copy: Copy) -> None:
        copy.users -= 1
        if copy.users == 0:
            self.size_bytes -= copy.data.nbytes
            self.count -= 1
