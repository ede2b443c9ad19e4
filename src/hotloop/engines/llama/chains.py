"""Which chain's tokens are in the KV cache, in which sequence, and whose leave it when room is needed or they idle.

    tokens  [ t0 … t(held-1) | t(held) … ]     held: have KV in `sequence`; the rest is still to be decoded

    opened ──generate──▶ seated (a sequence is its own) ──swept out, or evicted──▶ parked (copies of its KV in host memory)
                            ▲                                                        │  │
                            └────────────────────── generate ────────────────────────┘  └──no memory──▶ lost

A chain whose handle is closed stays, seated or parked, for prefix reuse, until it is taken over or evicted. Sequences come
from a pool. Cells are shared between sequences. Idle chains do not stay seated because every token decoded visits all
cells in use, also those of other chains: what one chain costs must not depend on how many others there are. They leave
together, and those that stay are put back one behind the other: were holes left, a chain's next tokens would go to cells
before those of its last ones, and attention adds up in the order of cells, so that the last bits of its output would depend
on who else was there.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hotloop.engines.llama.cell_range import MOVE_COST, CellRange
from hotloop.engines.llama.chain import Chain
from hotloop.engines.llama.messages import KvHeld
from hotloop.engines.llama.parking import PIECE_TOKENS, CopyableCache, KvCopies
from hotloop.engines.llama.shared_cells import SharedCells

# An idle chain whose tail past the common prefix is at most this long is taken over instead of copied: a client that
# sends its whole history each time would else leave one idle copy per turn.
TAKE_OVER_TAIL_TOKENS = 512
# A seated chain costs a visit of its cells for each token that others decode. It is copied when that has cost as much as
# parking it and bringing it back: whatever comes next, no other rule costs less than half as much.
PATIENCE_TOKENS = MOVE_COST
AT_ONCE_TOKENS = 8 * PIECE_TOKENS  # copied before a turn begins, or brought back in one step; more would be felt
MAX_CLOSED = 256  # parked chains of closed handles; each is looked at when a new handle looks for its prefix


class KvCache(CopyableCache, Protocol):
    """What is needed of a llama context."""

    def can_end(self, sequence: int, end: int) -> bool: ...
    def remove(self, sequence: int, start: int) -> bool: ...
    def share(self, source: int, target: int, end: int) -> None: ...


class ChainTable:
    """The seated and parked chains and the free sequences of one KV cache.

    Args:
        idle_tokens: of closed chains, where none can be parked.
        parked_bytes: most memory for copies of KV; 0 parks nothing. Needs a cache that keeps the KV of every token.
    """

    def __init__(self, cache: KvCache, *, sequences: int, idle_tokens: int, parked_bytes: int = 0) -> None:
        self._cache = cache
        self._copies = KvCopies(cache, max_bytes=parked_bytes)
        self._idle_tokens = idle_tokens
        self._free = list(range(sequences - 1, -1, -1))
        self._seated: dict[int, Chain] = {}
        self._parked: dict[Chain, None] = {}  # longest parked first
        self._cells = CellRange()
        self._shared = SharedCells(sequences)
        self._uses = 0
        self._decoded = 0
        self._is_sweep_due = False
        self._ready: list[Chain] = []  # have idled and are copied: they leave with the next sweep
        self._idle_cells = 0  # theirs alone

    def __iter__(self) -> Iterator[Chain]:
        return iter(self._seated.values())

    @property
    def held(self) -> KvHeld:
        """Memory that KV takes, in the cache and outside of it."""
        return KvHeld(self._cells.used, self._copies.size_bytes, self._copies.count)

    def touch(self, chain: Chain) -> None:
        """The chain is used now: it is the last to be evicted."""
        self._uses += 1
        chain.last_used = self._uses
        chain.unused_since = self._decoded

    def truncate(self, chain: Chain, length: int) -> None:
        """Only the first `length` tokens of the chain go on."""
        self.rewind(chain, length)
        self._copies.cut(chain.pieces, length)
        chain.tokens.truncate(length)
        if not chain.pieces:
            self._parked.pop(chain, None)

    def rewind(self, chain: Chain, held: int) -> None:
        """Keep the KV of the first `held` tokens in the cache, or none where the memory cannot drop a tail."""
        if chain.sequence is None or held >= chain.held:
            return
        if not self._cache.remove(chain.sequence, held):
            self._cache.remove(chain.sequence, 0)
            held = 0
        self._give_back(chain.sequence, chain.held, held)
        chain.held = held

    def _give_back(self, sequence: int, held: int, length: int) -> None:
        """A sequence has let go of its cells from `length` on; those that others see stay in use."""
        self._cells.free(max(held - max(length, self._shared.seen_by_others(sequence)), 0))
        self._shared.cut(sequence, length)

    # --- into the cache ---

    def seat(self, chain: Chain, wanted: int) -> bool:
        """Give the chain a sequence with what the cache has of the KV of its first `wanted` tokens; `restore` brings more.

        False: every sequence belongs to a running chain.
        """
        self._parked.pop(chain, None)  # it must not be forgotten for what leaves the cache now
        if not chain.pieces:
            self._adopt(chain, wanted)
        source, length = self._longest_in_cache(chain, wanted)
        if length < min(chain.copied, wanted) and self._can_sweep_now():
            self._sweep()  # first: what comes back then lies in order, and nothing has to be moved later
            source, length = None, 0
        if source is not None and source.sequence is not None and not self._cache.can_end(source.sequence, length):
            source, length = None, 0
        is_taken = source is not None and source.is_idle and source.held - length <= TAKE_OVER_TAIL_TOKENS
        if source is not None and is_taken and length >= min(chain.copied, wanted):
            return self._take_over(chain, source, length)
        if not self._free and not self.evict_one(spared=source) and not self.evict_one():
            self._park(chain)
            return False
        if source is not None and source.sequence is None:  # nothing else could be evicted
            source, length = None, 0
        self._place(chain, wanted, source, length)
        return True

    def _place(self, chain: Chain, wanted: int, source: Chain | None, length: int) -> None:
        """Seat a chain with the first `length` tokens of `source`, in a free sequence."""
        sequence = self._free.pop()
        if length < wanted:  # of a piece that is loaded in part, the rest would leave holes before what is loaded
            length = chain.piece_before(length)
        if source is not None and source.sequence is not None and length:
            self._cache.share(source.sequence, sequence, length)
            self._shared.share(source.sequence, sequence, length)
        self._sit(chain, sequence, length)

    def _adopt(self, chain: Chain, wanted: int) -> None:
        """Begin with the copies of the chain that begins alike for longest, of those that are not all in the cache."""
        coming_back = (other for other in self if other.lacks(other.copied))
        other, length = self._longest_copy(chain, wanted, [*self._parked, *coming_back])
        if other is None:
            return
        self._copies.adopt(chain.pieces, other.pieces, length)
        if other.sequence is None and other.is_idle and other.copied - length <= TAKE_OVER_TAIL_TOKENS:
            self._forget(other)

    def _longest_in_cache(self, chain: Chain, wanted: int) -> tuple[Chain | None, int]:
        """The seated chain that begins like the first `wanted` tokens for longest, and for how long."""
        among = (other for other in self if other is not chain and other.tenant == chain.tenant)
        return _longest_prefix(chain.tokens.view(0, wanted), ((other, other.held) for other in among))

    def _longest_copy(self, chain: Chain, wanted: int, among: Iterable[Chain]) -> tuple[Chain | None, int]:
        """The same, of those whose copies it could use."""
        fitting = (other for other in among if other is not chain and other.tenant == chain.tenant and other.pieces)
        return _longest_prefix(chain.tokens.view(0, wanted), ((other, other.copied) for other in fitting))

    def _take_over(self, chain: Chain, source: Chain, length: int) -> bool:
        self.rewind(source, length)
        sequence, held = self._leave(source), source.held
        self._copies.adopt(chain.pieces, source.pieces, held)
        self._copies.cut(source.pieces, 0)
        self._sit(chain, sequence, held)
        return True

    def _sit(self, chain: Chain, sequence: int, held: int) -> None:
        self._parked.pop(chain, None)
        chain.sequence, chain.held, chain.restored = sequence, held, 0
        self._seated[sequence] = chain
        self.touch(chain)

    def restore(self, chain: Chain, wanted: int, at_most: int) -> int:
        """Bring back what a seated chain `lacks` of its first `wanted` tokens: pieces, until `at_most` tokens are moved.

        Returns how many were, out of the cache to make room, or into it. Fewer than `at_most` while some are lacking: there
        is no room for more.
        """
        assert chain.sequence is not None, "what comes back needs a sequence"
        moved = 0
        for piece in list(chain.pieces):
            if min(piece.end, wanted) <= chain.held:
                continue
            if moved >= at_most:
                break
            while not self._copies.load(piece, chain.sequence, chain.held):
                victim = self._least_missed(chain)
                if victim is None:
                    return moved
                moved += self._copy_some(victim, self._seated_copies(victim), at_most - moved)
                if victim.not_copied and moved >= at_most:
                    return moved
                self.evict(victim)
            size = piece.end - chain.held
            self._cells.add(size)
            chain.restored += size
            chain.held = piece.end
            moved += size
        self.rewind(chain, wanted)  # a piece comes whole
        return moved

    # --- out of it ---

    def _leave(self, chain: Chain) -> int:
        sequence = chain.sequence
        assert sequence is not None, "the chain has no sequence"
        del self._seated[sequence]
        chain.sequence = None
        return sequence

    def unseat(self, chain: Chain) -> None:
        """Free the chain's sequence and cells. Its tokens stay; those without a copy of their KV are to be decoded again."""
        sequence = self._leave(chain)
        self._cache.remove(sequence, 0)
        self._free.append(sequence)
        self._give_back(sequence, chain.held, 0)
        if not self._seated:
            self._cells.reset()
        chain.held = 0
        self._park(chain)

    def _park(self, chain: Chain) -> None:
        if chain.pieces:
            self._parked[chain] = None
            closed = [parked for parked in self._parked if parked.is_idle]
            for parked in closed[: max(len(closed) - MAX_CLOSED, 0)]:
                self._forget(parked)

    def evict_one(self, spared: Chain | None = None) -> bool:
        """Evict the chain that is missed least. False: there is none but `spared`."""
        victim = self._least_missed(spared)
        if victim is not None:
            self.evict(victim)
        return victim is not None

    def _least_missed(self, spared: Chain | None) -> Chain | None:
        """Closed ones first, then the least recently used that does not run."""
        candidates = [chain for chain in self if not chain.is_running and chain is not spared]
        return min(candidates, key=lambda chain: (not chain.is_idle, chain.last_used), default=None)

    def evict(self, chain: Chain) -> None:
        """Take a chain's cells. It is parked, or else lost, open handle or not, or decoded again if it runs."""
        is_copied = self._copy(chain, self._seated_copies(chain))
        self.unseat(chain)
        if not is_copied or not chain.pieces:
            self._forget(chain)

    def discard(self, chain: Chain) -> None:
        """Drop all KV of a seated chain that runs, as it is of no use."""
        self.unseat(chain)
        self._forget(chain)

    def _forget(self, chain: Chain) -> None:
        """Let go of a chain's copies. It is lost by that if it is nowhere else, and nothing waits to decode it again."""
        self._copies.cut(chain.pieces, 0)
        self._parked.pop(chain, None)
        if chain.sequence is None and not chain.is_running:
            chain.is_lost = True
            chain.tokens.truncate(0)

    def _copy(self, chain: Chain, before_parked: Iterable[Chain]) -> bool:
        """Copy all KV of a seated chain. False: there is no memory for it."""
        self._copy_some(chain, before_parked, chain.not_copied)
        return not chain.not_copied

    def _copy_some(self, chain: Chain, before_parked: Iterable[Chain], at_most: int) -> int:
        """Copy pieces of a seated chain until `at_most` tokens are, or there is no memory for more. Returns how many were."""
        before = chain.not_copied
        while chain.not_copied and before - chain.not_copied < at_most and self._copy_more(chain, before_parked):
            pass
        return before - chain.not_copied

    def _copy_more(self, chain: Chain, before_parked: Iterable[Chain]) -> bool:
        """Copy a piece of it. For want of memory the copies of `before_parked` go, then parked chains, closed ones first."""
        assert chain.sequence is not None, "only what is seated has KV to copy"
        if not self._copies.is_on:
            return False
        if not chain.pieces:  # what others have in common with it need not be copied
            other, length = self._longest_copy(chain, chain.held, [*self._seated.values(), *self._parked])
            self._copies.adopt(chain.pieces, [] if other is None else other.pieces, length)
            if chain.copied == chain.held:
                return True
        victims = self._victims(before_parked)

        def make_room() -> bool:
            victim = next(victims, None)
            if victim is not None:
                self._forget(victim)
            return victim is not None

        return self._copies.save_next(chain.pieces, chain.sequence, chain.held, make_room)

    def _victims(self, before_parked: Iterable[Chain]) -> Iterator[Chain]:
        yield from before_parked
        yield from sorted(self._parked, key=lambda chain: (chain.is_running, not chain.is_idle))

    def _seated_copies(self, spared: Chain) -> Iterator[Chain]:
        """Chains whose copies only save copying again, the one that will be parked last first."""
        with_copies = [
            chain for chain in self if chain.pieces and not chain.lacks(chain.copied) and chain is not spared
        ]
        yield from sorted(with_copies, key=lambda chain: -chain.last_used)

    # --- in time ---

    def decoded(self, tokens: int) -> None:
        """So many tokens were decoded, by whichever chains."""
        self._decoded += tokens
        self._cells.add(tokens)

    def tidy(self, tokens: int) -> bool:
        """Behind so many decoded tokens: copy what has idled for long, a piece at a time; sweep.

        True: the cache was emptied. Running chains are to be seated again, one behind the other.
        """
        if not self._copies.is_on:
            return False
        idle = [chain for chain in self._seated.values() if self._has_idled(chain)]
        ready = [chain for chain in idle if not chain.not_copied]
        if ready != self._ready:
            self._ready, self._idle_cells = ready, self._cells_of(ready)
        if self._cells.visited(tokens, self._idle_cells):
            self._is_sweep_due = True
        behind = [chain for chain in idle if chain.not_copied]
        if self._is_sweep_due:  # then little is left to be copied at one time
            behind += [chain for chain in self._seated.values() if chain.not_copied > PIECE_TOKENS]
        if behind:
            cells = min(sum(chain.held for chain in idle), self._cells.used)
            self._catch_up(behind, tokens * cells // (2 * MOVE_COST))  # half of what visits of these cost in this step
        elif self._is_sweep_due:
            self._is_sweep_due = False
            return self._sweep()
        return False

    def _has_idled(self, chain: Chain) -> bool:
        return not chain.is_running and self._decoded - chain.unused_since >= PATIENCE_TOKENS

    def _cells_of(self, leaving: Sequence[Chain]) -> int:
        """Cells that nobody but these seated chains uses."""
        staying = [sequence for sequence, chain in self._seated.items() if chain not in leaving]
        cells = 0
        for chain in leaving:
            assert chain.sequence is not None, "it is seated"
            cells += chain.held - self._shared.seen_by(staying, chain.sequence)
            staying.append(chain.sequence)  # what these have in common counts once
        return cells

    def _catch_up(self, behind: Sequence[Chain], at_most: int) -> None:
        """Copy a piece of these chains, or more, up to `at_most` tokens. Without memory a chain waits for its next turn."""
        left = min(at_most, AT_ONCE_TOKENS)
        for chain in sorted(behind, key=lambda chain: chain.last_used):
            while chain.not_copied:
                if not self._copy_more(chain, self._seated_copies(chain)):
                    self._is_sweep_due = False
                    self.touch(chain)
                    return
                left -= PIECE_TOKENS
                if left < PIECE_TOKENS:
                    return

    def _can_sweep_now(self) -> bool:
        """Nobody runs, and little is to be copied."""
        return all(not chain.is_running for chain in self) and sum(chain.not_copied for chain in self) <= AT_ONCE_TOKENS

    def _sweep(self) -> bool:
        """Empty the cache. False: nothing was done, because a running chain cannot be copied."""
        leaving = [chain for chain in self._seated.values() if self._copy(chain, ())]
        if any(chain.is_running and chain not in leaving for chain in self):
            return False
        for chain in leaving:
            self.unseat(chain)
        return True

    def close(self, chain: Chain) -> None:
        """The handle is gone. What has KV stays for prefix reuse: where nothing can be parked, the newest `idle_tokens`."""
        chain.is_idle = True
        chain.tokens.truncate(chain.kept)
        if chain.sequence is not None and chain.held == 0:
            self.unseat(chain)
        if self._copies.is_on:
            return
        idle = sorted((other for other in self if other.is_idle), key=lambda other: other.last_used)
        excess = sum(other.held for other in idle) - self._idle_tokens
        for other in idle:
            if excess <= 0:
                break
            excess -= other.held
            self.unseat(other)


def _longest_prefix(tokens: NDArray[np.int32], among: Iterable[tuple[Chain, int]]) -> tuple[Chain | None, int]:
    """Which chain begins with most of `tokens`, and with how many, if of each only the number beside it counts."""
    best: Chain | None = None
    best_length = 0
    for other, limit in among:
        length = other.common_prefix(tokens, limit)
        if length > best_length or (length == best_length > 0 and other.is_idle):
            best, best_length = other, length
    return best, best_length
