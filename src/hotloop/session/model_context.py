"""What follows from `instructions`, `tools` and render options, computed once per distinct text (docs/design.md §2).

Agents resend the same tools with every turn (17 kB in the case of Codex): a hit costs one hash and one comparison.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class ContextKey:
    """Everything a model context depends on. `tools` is the raw JSON text."""

    model: str
    instructions: str | None
    tools: bytes
    reasoning_effort: str | None
    keep_reasoning: bool

    @property
    def size_bytes(self) -> int:
        """Bytes of the texts in the key."""
        return len(self.tools) + len(self.instructions or "")

    def digest(self) -> bytes:
        """16 bytes that are equal for equal keys only (BLAKE2b)."""
        parts = (self.model, self.instructions, self.reasoning_effort, str(self.keep_reasoning))
        state = hashlib.blake2b(digest_size=16)
        for part in parts:
            encoded = b"-" if part is None else part.encode("utf-8", "surrogatepass")
            state.update(len(encoded).to_bytes(8, "big") + encoded + (b"n" if part is None else b"s"))
        state.update(self.tools)
        return state.digest()


class ContextCache(Generic[_V]):
    """Least recently used contexts, bounded in bytes of their keys times `copies` (the key, its parts and the echo)."""

    def __init__(self, max_bytes: int = 64 * 2**20, copies: int = 4) -> None:
        self._max_bytes = max_bytes
        self._copies = copies
        self._bytes = 0
        self._values: OrderedDict[ContextKey, _V] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, key: ContextKey, make: Callable[[ContextKey], _V]) -> _V:
        """The value for `key`, made by `make` if it is new. What `make` raises is not remembered."""
        value = self._values.get(key)
        if value is not None:
            self.hits += 1
            self._values.move_to_end(key)
            return value
        self.misses += 1
        value = make(key)
        self._values[key] = value
        self._bytes += key.size_bytes * self._copies
        while self._bytes > self._max_bytes and len(self._values) > 1:
            old, _ = self._values.popitem(last=False)
            self._bytes -= old.size_bytes * self._copies
        return value
