"""How far the used cells of a KV cache reach, and when it pays to clear it of those that nobody needs.

    cells  [ running | hole | idle | hole | running ]  never used
           └───────────────── top ─────────────────┘

llama.cpp's attention visits every cell up to the last used one, for every token decoded. It fills holes first, or nearly
so, and does not say where anything lies: how many cells are used is exact here, how far they reach an estimate, which is
exact whenever the cache was empty.
"""

# Copying a cell out and in again takes as long as visiting it 43 to 78 times, with 2.6 as with 37 kB of KV per token
# (docs/measurements.md).
MOVE_COST = 64
MIN_USELESS = 256  # llama.cpp rounds the range up to this


class CellRange:
    """See above."""

    def __init__(self) -> None:
        self.top = 0
        self.holes = 0
        self._visits = 0  # of useless cells, since they were last cleared

    @property
    def used(self) -> int:
        """Cells in use."""
        return self.top - self.holes

    def add(self, cells: int) -> None:
        """Cells are taken."""
        filled = min(cells, self.holes)
        self.holes -= filled
        self.top += cells - filled

    def free(self, cells: int) -> None:
        """Cells are given back."""
        self.holes = min(self.holes + cells, self.top)

    def reset(self) -> None:
        """No cell is in use."""
        self.top = self.holes = self._visits = 0

    def visited(self, tokens: int, idle: int) -> bool:
        """So many tokens were decoded while `idle` cells were not needed.

        True: visits of these and of holes have cost what moving all others costs. The count begins anew.
        """
        useless = self.holes + idle
        if useless < MIN_USELESS:
            return False
        self._visits += tokens * useless
        is_enough = self._visits >= MOVE_COST * max(self.top - useless, MIN_USELESS)
        if is_enough:
            self._visits = 0
        return is_enough
