import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hotloop.engines.llama.parking import PIECE_TOKENS, KvCopies, Piece

BYTES_PER_TOKEN = 4


class Positions:
    """A cache whose KV is the position itself."""

    def __init__(self) -> None:
        self.saved = 0
        self.loaded: list[int] = []

    def save(self, sequence: int, start: int, end: int) -> NDArray[np.uint8] | None:
        self.saved += end - start
        return np.arange(start, end, dtype=np.int32).view(np.uint8)

    def load(self, sequence: int, start: int, end: int, data: NDArray[np.uint8]) -> bool:
        self.loaded += [position for position in data.view(np.int32).tolist() if start <= position < end]
        return True


def no_room() -> bool:
    return False


def copy_all(copies: KvCopies, pieces: list[Piece], held: int) -> bool:
    while not pieces or pieces[-1].end < held:
        if not copies.save_next(pieces, 0, held, no_room):
            return False
    return True


def in_memory(chains: list[list[Piece]]) -> int:
    return sum({id(piece.copy): piece.copy.data.nbytes for pieces in chains for piece in pieces}.values())


def test_a_chain_that_grows_copies_what_is_new_and_leaves_few_pieces() -> None:
    cache = Positions()
    copies = KvCopies(cache, max_bytes=1 << 20)
    pieces: list[Piece] = []
    for held in range(50, 5_050, 50):
        assert copy_all(copies, pieces, held)
    assert len(pieces) == -(-5_000 // PIECE_TOKENS)
    assert cache.saved < 5_000 + 100 * PIECE_TOKENS
    assert copies.size_bytes == in_memory([pieces]) == 5_000 * BYTES_PER_TOKEN


def test_without_memory_nothing_is_copied_and_nothing_changes() -> None:
    copies = KvCopies(Positions(), max_bytes=300 * BYTES_PER_TOKEN)
    pieces: list[Piece] = []
    assert not copy_all(copies, pieces, 600)
    assert pieces[-1].end == PIECE_TOKENS
    assert copies.size_bytes == PIECE_TOKENS * BYTES_PER_TOKEN


def test_memory_is_made_by_letting_others_go() -> None:
    copies = KvCopies(Positions(), max_bytes=300 * BYTES_PER_TOKEN)
    old: list[Piece] = []
    new: list[Piece] = []
    assert copy_all(copies, old, PIECE_TOKENS)

    def forget_old() -> bool:
        had_some = bool(old)
        copies.cut(old, 0)
        return had_some

    assert copies.save_next(new, 1, PIECE_TOKENS, forget_old)
    assert (old, new[-1].end) == ([], PIECE_TOKENS)


def test_memory_is_made_also_for_the_few_bytes_that_a_piece_has_beside_its_tokens() -> None:
    class WithHeader(Positions):
        def save(self, sequence: int, start: int, end: int) -> NDArray[np.uint8] | None:
            return np.zeros(80 + BYTES_PER_TOKEN * (end - start), np.uint8)

    copies = KvCopies(WithHeader(), max_bytes=80 + BYTES_PER_TOKEN * PIECE_TOKENS + 100)
    old: list[Piece] = []
    new: list[Piece] = []
    assert copies.save_next(old, 0, PIECE_TOKENS, no_room)

    def forget_old() -> bool:
        had_some = bool(old)
        copies.cut(old, 0)
        return had_some

    assert copies.save_next(new, 1, 20, forget_old)  # 80 bytes by what is known, 160 in fact
    assert (old, new[-1].end) == ([], 20)


@given(
    held=st.integers(1, 1500),
    steps=st.lists(st.tuples(st.sampled_from(["cut", "adopt", "grow"]), st.integers(0, 3), st.integers(0, 1500))),
)
def test_memory_is_counted_once_and_each_chain_loads_its_own_tokens(
    held: int, steps: list[tuple[str, int, int]]
) -> None:
    cache = Positions()
    copies = KvCopies(cache, max_bytes=1 << 24)
    chains: list[list[Piece]] = [[] for _ in range(4)]
    assert copy_all(copies, chains[0], held)
    for kind, number, length in steps:
        pieces = chains[number]
        if kind == "cut":
            copies.cut(pieces, length)
        elif kind == "adopt":
            copies.adopt(pieces, list(chains[(number + 1) % 4]), length)
        else:
            copy_all(copies, pieces, (pieces[-1].end if pieces else 0) + length + 1)
        assert copies.size_bytes == in_memory(chains)
    for pieces in chains:
        cache.loaded.clear()
        for piece in pieces:
            copies.load(piece, 0, piece.start)
        assert cache.loaded == list(range(pieces[-1].end if pieces else 0))
