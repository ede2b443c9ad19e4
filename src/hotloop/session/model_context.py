"""What follows from `instructions`, `tools` and render options, computed once per distinct text (docs/design.md §2).

Agents resend the same tools with every turn (17 kB in the case of Codex): a hit costs one hash and one comparison. One
memory for all of it, bounded in bytes: the decoded tools and their echo, the rendered preamble, the grammars.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec

_V = TypeVar("_V")
ENTRY_OVERHEAD_BYTES = 512


class ContextKey(msgspec.Struct, frozen=True):
    """Everything a model context depends on. `tools` is the raw JSON text."""

    model: str
    instructions: str | None
    tools: bytes
    reasoning_effort: str | None
    keep_reasoning: bool
    added_tools: tuple[bytes, ...] = ()  # `tools` arrays that items of the chain brought
    # Label and tools of each server that `tools` names and that was listed; None: `tools` is as the client sent it
    listed: tuple[tuple[str, bytes], ...] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the texts in the key."""
        return len(self.tools) + len(self.instructions or "") + sum(map(len, self.added_tools)) + self._listed_bytes

    @property
    def _listed_bytes(self) -> int:
        return sum(len(tools) for _, tools in self.listed or ())

    def digest(self) -> bytes:
        """16 bytes that are equal for equal keys only (BLAKE2b)."""
        parts = (self.model, self.instructions, self.reasoning_effort, str(self.keep_reasoning))
        state = hashlib.blake2b(digest_size=16)
        for part in parts:
            encoded = b"-" if part is None else part.encode("utf-8", "surrogatepass")
            state.update(len(encoded).to_bytes(8, "big"))
            state.update(encoded)  # by itself: joined it would be copied
            state.update(b"n" if part is None else b"s")
        state.update(self.tools)
        for tools in self.added_tools:
            state.update(b"\xff" + tools)  # no byte of JSON text
        for label, tools in self.listed or ():
            state.update(b"\xfe" + label.encode() + b"\xff" + tools)
        return state.digest()


class ContextCache:
    """The least recently used goes first, whatever it is; bounded in bytes. The newest stays even if it alone is over.

    Of 0 bytes it keeps nothing.
    """

    def __init__(self, max_bytes: int = 64 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.total_bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    def get(self, key: Hashable, make: Callable[[], _V], size_of: Callable[[_V], int]) -> _V:
        """The value for `key`, made if it is new. What `make` raises is not remembered."""
        found = self._values.get(key)
        if found is not None:
            self.hits += 1
            self._values.move_to_end(key)
            return cast(_V, found[0])  # a key says of what kind its value is
        self.misses += 1
        value = make()
        if not self._max_bytes:
            return value
        size = size_of(value) + ENTRY_OVERHEAD_BYTES
        self._values[key] = (value, size)
        self.total_bytes += size
        while self.total_bytes > self._max_bytes and len(self._values) > 1:
            _, (_, old) = self._values.popitem(last=False)
            self.total_bytes -= old
        return value

    def shelf(self, digest: bytes) -> "ContextShelf":
        """The part of the memory that belongs to the context of that digest."""
        return ContextShelf(self, digest)


@dataclass(frozen=True, slots=True)
class ContextShelf:
    """Where whoever works with a context keeps what follows from it."""

    cache: ContextCache
    digest: bytes

    def holds(self, name: Hashable) -> bool:
        """Something is kept under `name`."""
        return (self.digest, name) in self.cache

    def get(self, name: Hashable, make: Callable[[], _V], size_of: Callable[[_V], int]) -> _V:
        """What was kept under `name`, made if it is new."""
        return self.cache.get((self.digest, name), make, size_of)
