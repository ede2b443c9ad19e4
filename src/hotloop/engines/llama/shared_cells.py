"""Which cells of a KV cache several sequences see, so that it is known how many cells are in use.

    a  [ c0 c1 c2 | c3 c4 ]        sequences that share cells share them from their start, up to where one was cut off
    b  [ c0 c1 c2 | c5 ]           or went on by itself

llama.cpp does not say it.
"""

from collections.abc import Sequence

import numpy as np


class SharedCells:
    """How many cells each two of so many sequences have in common."""

    def __init__(self, sequences: int) -> None:
        self._common = np.zeros((sequences, sequences), np.int32)  # symmetric; nothing with itself

    def share(self, source: int, target: int, end: int) -> None:
        """`target`, which saw none, sees the first `end` cells of `source`."""
        common = np.minimum(self._common[source], end)
        common[source], common[target] = end, 0
        self._put(target, common)

    def cut(self, sequence: int, length: int) -> None:
        """Only its first `length` cells are still the sequence's."""
        self._put(sequence, np.minimum(self._common[sequence], length))

    def seen_by_others(self, sequence: int) -> int:
        """How many cells of a sequence, from its start, another one sees too."""
        return int(self._common[sequence].max())

    def seen_by(self, others: Sequence[int], sequence: int) -> int:
        """The same, where only these others count."""
        return int(self._common[sequence, others].max()) if others else 0

    def _put(self, sequence: int, common: "np.ndarray[tuple[int], np.dtype[np.int32]]") -> None:
        self._common[sequence] = common
        self._common[:, sequence] = common
