"""A KV cache with the rules of llama.cpp's unified one and a "model" that is a pure function of the tokens before.

Each cell holds one position and is seen by a set of sequences. Decoding checks what llama.cpp checks: positions go on
where their sequence ends, and there is a free cell for each. The logits of an entry depend on every token its sequence
holds up to it, so a wrong keep, rewind, share or eviction changes what is sampled.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOCABULARY_SIZE = 50


@dataclass(eq=False, slots=True)
class Cell:
    token: int
    users: int = 1  # sequences that see it


def next_token(tokens: Sequence[int]) -> int:
    """What the model says after `tokens`."""
    return zlib.crc32(np.array(tokens, np.int32).tobytes()) % VOCABULARY_SIZE


def continuation(prompt: Sequence[int], count: int) -> list[int]:
    """Greedy output of the model alone."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class FakeContext:
    """See above. `decoded` counts tokens."""

    def __init__(self, cells: int, batch: int = 512, *, can_rewind: bool = True) -> None:
        self.tokens = np.zeros(batch, np.int32)
        self.positions = np.zeros(batch, np.int32)
        self.sequences = np.zeros(batch, np.int32)
        self.wants_logits = np.zeros(batch, np.int8)
        self.decoded = 0
        self._room = cells
        self._can_rewind = can_rewind
        self._sequences: defaultdict[int, list[Cell]] = defaultdict(list)
        self._used = 0
        self._answers: dict[int, int] = {}

    def held(self, sequence: int) -> list[int]:
        """Tokens of a sequence, in order."""
        return [cell.token for cell in self._sequences[sequence]]

    def decode(self, count: int) -> bool:
        assert 0 < count <= len(self.tokens)
        if self._used + count > self._room:
            return False
        self._answers = {}
        for index in range(count):
            sequence, position = int(self.sequences[index]), int(self.positions[index])
            cells = self._sequences[sequence]
            assert position == len(cells), f"position {position} after {len(cells)} tokens"
            cells.append(Cell(int(self.tokens[index])))
            if self.wants_logits[index]:
                self._answers[index] = next_token(self.held(sequence))
        self._used += count
        self.decoded += count
        return True

    def logits(self, index: int) -> NDArray[np.float32]:
        logits = np.zeros(VOCABULARY_SIZE, np.float32)
        logits[self._answers[index]] = 1.0
        return logits

    def remove(self, sequence: int, start: int) -> bool:
        cells = self._sequences[sequence]
        if 0 < start < len(cells) and not self._can_rewind:
            return False
        for cell in cells[start:]:
            cell.users -= 1
            self._used -= cell.users == 0
        del cells[start:]
        return True

    def share(self, source: int, target: int, end: int) -> None:
        cells = self._sequences[source][:end]
        assert not self._sequences[target], "the target sequence is in use"
        assert self._can_rewind or end == len(self._sequences[source]), "a recurrent state is shared whole"
        for cell in cells:
            cell.users += 1
        self._sequences[target] = cells
