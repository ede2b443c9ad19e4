"""A KV cache with the rules of llama.cpp's unified one and a "model" that is a pure function of the tokens before.

Each cell holds one position and is seen by a set of sequences. Decoding checks what llama.cpp checks: positions go on
where their sequence ends, and there is a free cell for each. Cells are given out and visited as llama.cpp does it. The
logits of an entry depend on every token its sequence holds up to it, so a wrong keep, rewind, share, copy or eviction
changes what is sampled.
"""

import weakref
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOCABULARY_SIZE = 50  # of what the model says; it may be told more


@dataclass(eq=False, slots=True)
class Cell:
    token: int
    place: int
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
    """See above. `decoded` counts tokens, `visited` the cells that attention went over for them."""

    def __init__(self, cells: int, batch: int = 512, *, can_rewind: bool = True) -> None:
        self.tokens = np.zeros(batch, np.int32)
        self.positions = np.zeros(batch, np.int32)
        self.sequences = np.zeros(batch, np.int32)
        self.wants_logits = np.zeros(batch, np.int8)
        self.vocabulary_size = 100_000
        self.says_nonsense = False
        self.decoded = 0
        self.visited = 0
        self.loaded = 0  # tokens, by `load`
        self.breaks_loads = False
        self._can_rewind = can_rewind
        self._sequences: defaultdict[int, list[Cell]] = defaultdict(list)
        self._is_used = np.zeros(cells, np.bool_)
        self._head = 0
        self._answers: dict[int, int] = {}
        self._copies: list[weakref.ref[NDArray[np.uint8]]] = []

    @property
    def used(self) -> int:
        """Cells in use."""
        return int(self._is_used.sum())

    def copies(self) -> list[int]:
        """Sizes, in bytes, of what `save` gave and somebody still has."""
        return [data.nbytes for copy in self._copies if (data := copy()) is not None]

    @property
    def range(self) -> int:
        """Cells up to the last one in use."""
        used = np.flatnonzero(self._is_used)
        return int(used[-1]) + 1 if len(used) else 0

    def lies_in_order(self) -> bool:
        """The cells of every sequence are in the order of its tokens."""
        places = [[cell.place for cell in cells] for cells in self._sequences.values()]
        return all(of_one == sorted(of_one) for of_one in places)

    def held(self, sequence: int) -> list[int]:
        """Tokens of a sequence, in order."""
        return [cell.token for cell in self._sequences[sequence]]

    def decode(self, count: int) -> bool:
        assert 0 < count <= len(self.tokens)
        places = self._take(count)
        if places is None:
            return False
        self._answers = {}
        for index, place in enumerate(places):
            sequence, position = int(self.sequences[index]), int(self.positions[index])
            cells = self._sequences[sequence]
            assert position == len(cells), f"position {position} after {len(cells)} tokens"
            assert 0 <= self.tokens[index] < self.vocabulary_size, "a token that is none"
            cells.append(Cell(int(self.tokens[index]), place))
            if self.wants_logits[index]:
                self._answers[index] = next_token(self.held(sequence))
        self.decoded += count
        self.visited += count * self.range
        return True

    def _take(self, count: int) -> list[int] | None:
        """Free places from where the last ones were found, or from the start if enough is free before that."""
        if self.used + count > len(self._is_used):
            return None
        head = 0 if self._head > self.used + 2 * count else self._head
        free = np.flatnonzero(~self._is_used)
        places = [*free[free >= head], *free[free < head]][:count]
        self._is_used[places] = True
        self._head = int(places[-1]) + 1
        return [int(place) for place in places]

    def logits(self, index: int) -> NDArray[np.float32]:
        logits = np.full(VOCABULARY_SIZE, np.nan if self.says_nonsense else 0.0, np.float32)
        logits[self._answers[index]] = 1.0
        return logits

    def can_end(self, sequence: int, end: int) -> bool:
        return self._can_rewind or end in (0, len(self._sequences[sequence]))

    def remove(self, sequence: int, start: int) -> bool:
        cells = self._sequences[sequence]
        if not self.can_end(sequence, start):
            return False
        for cell in cells[start:]:
            cell.users -= 1
            if cell.users == 0:
                self._is_used[cell.place] = False
                self._head = min(self._head, cell.place)
        del cells[start:]
        return True

    def share(self, source: int, target: int, end: int) -> None:
        cells = self._sequences[source][:end]
        assert not self._sequences[target], "the target sequence is in use"
        assert self._can_rewind or end == len(self._sequences[source]), "a recurrent state is shared whole"
        for cell in cells:
            cell.users += 1
        self._sequences[target] = cells

    def save(self, sequence: int, start: int, end: int) -> NDArray[np.uint8] | None:
        assert self._can_rewind, "a recurrent state has no parts"
        tokens = self.held(sequence)[start:end]
        assert len(tokens) == end - start, "more is asked for than is held"
        data = np.array([start, *tokens], np.int32).view(np.uint8)[:]
        self._copies.append(weakref.ref(data))
        return data

    def load(self, sequence: int, start: int, end: int, data: NDArray[np.uint8]) -> bool:
        first, *tokens = data.view(np.int32).tolist()
        places = None if self.breaks_loads else self._take(len(tokens))
        if places is None:
            return False
        cells = self._sequences[sequence]
        assert start == len(cells), f"position {start} after {len(cells)} tokens"
        for position, (token, place) in enumerate(zip(tokens, places, strict=True), first):
            if start <= position < end:
                cells.append(Cell(token, place))
                self.loaded += 1
            else:
                self._is_used[place] = False
        assert len(cells) == end, "the copy holds less than it should"
        return True
