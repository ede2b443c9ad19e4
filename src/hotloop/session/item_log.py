"""The items of a chain, oldest first, stored once however many chains share them.

Each turn adds a node that points at the turns before it. A node that is still short is written anew with what is added, so
that a chain of many small turns is a chain of few nodes; nothing else is copied when a chain grows or forks.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from hotloop.protocol.items import Item

NODE_ITEMS = 32  # spreads a node's own 170 bytes over its items; copying that many places costs 0.1 µs


class ItemLog:
    """An immutable list of items; `extended` shares everything with the list it extends."""

    __slots__ = ("_length", "_new", "_parent")

    def __init__(self, new: Sequence[Item] = (), parent: "ItemLog | None" = None) -> None:
        self._new = tuple(new)
        self._parent = parent
        self._length: int = len(self._new) if parent is None else len(self._new) + parent._length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Item]:
        nodes: list[ItemLog] = []
        node: ItemLog | None = self
        while node is not None:
            nodes.append(node)
            node = node._parent
        for node in reversed(nodes):
            yield from node._new

    def newest_first(self) -> Iterator[Item]:
        """The items backwards, without touching more of the chain than is asked for."""
        node: ItemLog | None = self
        while node is not None:
            yield from reversed(node._new)
            node = node._parent

    def last(self, count: int) -> list[Item]:
        """The last `count` items, oldest first. Costs what they cost."""
        return list(islice(self.newest_first(), count))[::-1]

    def extended(self, new: Sequence[Item]) -> "ItemLog":
        """This list with `new` behind it. Costs what `new` costs, and at most a node's worth of places."""
        if not new:
            return self
        count = len(new)
        log = ItemLog.__new__(ItemLog)  # once or twice a turn: `__init__` would be half of what it costs
        if len(self._new) + count <= NODE_ITEMS:
            log._new, log._parent = (*self._new, *new), self._parent
        else:
            log._new, log._parent = tuple(new), self
        log._length = self._length + count
        return log
