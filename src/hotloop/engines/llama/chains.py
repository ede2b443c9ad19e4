"""Which chain's tokens are in the KV cache, in which sequence, and whose go first when room is needed.

    tokens  [ t0 … t(held-1) | t(held) … ]     held: have KV in `sequence`; the rest is still to be decoded
    opened ──generate──▶ seated (a sequence is its own) ──evicted──▶ lost
                            └──closed──▶ idle (kept for prefix reuse) ──evicted or taken over──▶ gone

Sequences come from a pool. Cells are shared between sequences, so what evicting one frees is known only afterwards.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# An idle chain whose tail past the common prefix is at most this long is taken over instead of copied: a client that
# sends its whole history each time would else leave one idle copy per turn.
TAKE_OVER_TAIL_TOKENS = 512


class KvCache(Protocol):
    """What is needed of a llama context."""

    def remove(self, sequence: int, start: int) -> bool: ...
    def share(self, source: int, target: int, end: int) -> None: ...


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
    """The tokens of one KV handle and how many of them have KV."""

    def __init__(self, tenant: str, tokens: NDArray[np.int32]) -> None:
        self.tenant = tenant
        self.tokens = TokenBuffer(tokens)
        self.held = 0
        self.sequence: int | None = None
        self.is_idle = False  # its handle is closed
        self.is_lost = False  # evicted: its next generate needs the full prompt
        self.is_running = False
        self.last_used = 0

    def common_prefix(self, tokens: NDArray[np.int32]) -> int:
        """How many of `tokens`, from the start, this chain holds KV for."""
        length = min(self.held, len(tokens))
        differing = np.flatnonzero(self.tokens.view(0, length) != tokens[:length])
        return int(differing[0]) if len(differing) else length


class ChainTable:
    """The seated chains and the free sequences of one KV cache."""

    def __init__(self, cache: KvCache, *, sequences: int, idle_tokens: int, can_rewind: bool = True) -> None:
        self._cache = cache
        self._idle_tokens = idle_tokens
        self._free = list(range(sequences - 1, -1, -1))
        self._seated: dict[int, Chain] = {}
        self._can_rewind = can_rewind
        self._uses = 0

    def __iter__(self) -> Iterator[Chain]:
        return iter(self._seated.values())

    def touch(self, chain: Chain) -> None:
        """The chain is used now: it is the last to be evicted."""
        self._uses += 1
        chain.last_used = self._uses

    def rewind(self, chain: Chain, held: int) -> None:
        """Keep the KV of the first `held` tokens, or none where the memory cannot drop a tail."""
        if chain.sequence is None or held >= chain.held:
            return
        if not self._cache.remove(chain.sequence, held):
            self._cache.remove(chain.sequence, 0)
            held = 0
        chain.held = held

    def seat(self, chain: Chain, wanted: int) -> bool:
        """Give the chain a sequence with as much KV of its first `wanted` tokens as any chain of its tenant holds.

        False: every sequence belongs to a running chain.
        """
        if chain.sequence is not None:
            return True
        prefix = chain.tokens.view(0, wanted)
        source, length = self._longest_prefix(chain, prefix)
        if source is not None and source.is_idle and source.held - length <= TAKE_OVER_TAIL_TOKENS:
            return self._take_over(chain, source, length)
        if source is not None and not self._can_rewind and source.held != length:
            source, length = None, 0
        if not self._free and not self.evict_one(spared=source) and not self.evict_one():
            return False
        if source is not None and source.sequence is None:  # nothing else could be evicted
            source, length = None, 0
        sequence = self._free.pop()
        if source is not None and source.sequence is not None:
            self._cache.share(source.sequence, sequence, length)
        self._sit(chain, sequence, length)
        return True

    def _longest_prefix(self, chain: Chain, prefix: NDArray[np.int32]) -> tuple[Chain | None, int]:
        best: Chain | None = None
        best_length = 0
        for other in self._seated.values():
            if other.tenant == chain.tenant:
                length = other.common_prefix(prefix)
                if length > best_length or (length == best_length > 0 and other.is_idle):
                    best, best_length = other, length
        return best, best_length

    def _take_over(self, chain: Chain, source: Chain, length: int) -> bool:
        self.rewind(source, length)
        sequence, held = self._leave(source), source.held
        self._sit(chain, sequence, held)
        return True

    def _sit(self, chain: Chain, sequence: int, held: int) -> None:
        chain.sequence, chain.held = sequence, held
        self._seated[sequence] = chain
        self.touch(chain)

    def _leave(self, chain: Chain) -> int:
        sequence = chain.sequence
        assert sequence is not None, "the chain has no sequence"
        del self._seated[sequence]
        chain.sequence = None
        return sequence

    def unseat(self, chain: Chain) -> None:
        """Free the chain's sequence and KV; its tokens stay, to be decoded again."""
        sequence = self._leave(chain)
        self._cache.remove(sequence, 0)
        self._free.append(sequence)
        chain.held = 0

    def evict_one(self, spared: Chain | None = None) -> bool:
        """Evict the chain that is missed least: idle ones first, then the least recently used one that does not run.

        A handle that is still open is lost by this. False: there is none but `spared`.
        """
        candidates = [chain for chain in self._seated.values() if not chain.is_running and chain is not spared]
        if not candidates:
            return False
        victim = min(candidates, key=lambda chain: (not chain.is_idle, chain.last_used))
        self.unseat(victim)
        victim.is_lost = True
        victim.tokens.truncate(0)
        return True

    def close(self, chain: Chain) -> None:
        """The handle is gone. What has KV stays for prefix reuse, the newest `idle_tokens` of all idle chains.

        More would only slow the others down: attention visits every cell in use, also those of other sequences.
        """
        chain.is_idle = True
        chain.tokens.truncate(chain.held)
        if chain.sequence is not None and chain.held == 0:
            self.unseat(chain)
        idle = sorted((other for other in self if other.is_idle), key=lambda other: other.last_used)
        excess = sum(other.held for other in idle) - self._idle_tokens
        for other in idle:
            if excess <= 0:
                break
            excess -= other.held
            self.unseat(other)
