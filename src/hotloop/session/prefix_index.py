"""Finds the longest remembered beginning of a history that a client sends in full (docs/design.md §2).

    H(0) = BLAKE2b(tenant)      H(n) = BLAKE2b(H(n-1), digest of item n)

A point is the place in a chain behind a turn's input or behind its output. It is known by H and by the digest of the context
(model, instructions, tools, render options). Points of one chain share their items and tokens: what a point accounts for
is what it adds to the point it extends, and it is accounted for as long as a later point needs it.

KV is scarce: only the newest point of a chain holds a share of it, and only `warm` chains do; the others keep their tokens.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from hotloop.session.canonical import DIGEST_BYTES
from hotloop.session.chain import ModelState, OpenCalls
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Tenant

POINT_OVERHEAD_BYTES = 2048  # objects around a point, measured: docs/measurements.md, memory of a cached turn


def history_start(tenant: Tenant) -> bytes:
    """H(0): the history without items."""
    return blake2b(tenant.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def extend_place(place: bytes, digest: bytes) -> bytes:
    """H behind one more item."""
    return blake2b(place + digest, digest_size=DIGEST_BYTES).digest()


def extend_history(start: bytes, digests: Iterable[bytes]) -> list[bytes]:
    """H behind each of the items, in order."""
    out: list[bytes] = []
    for digest in digests:
        start = blake2b(start + digest, digest_size=DIGEST_BYTES).digest()
        out.append(start)
    return out


@dataclass(frozen=True, slots=True)
class IndexLimits:
    """Bounds of the index. `warm` is the number of chains that keep a share of the engine's KV."""

    bytes_per_tenant: int = 256 * 2**20
    bytes_total: int = 512 * 2**20
    warm: int = 8


class HistoryPoint(msgspec.Struct, frozen=True):
    """What is known of a history: enough to continue behind it."""

    items: ItemLog
    open_calls: OpenCalls
    model_state: ModelState
    chain_bytes: int  # of the whole chain up to here


class Match(msgspec.Struct, frozen=True):
    """A point that was found. The share of its model state is the finder's: release it."""

    length: int  # how many of the digests given it covers
    point: HistoryPoint


_Place = tuple[bytes, bytes]  # context digest, H


class _Node(msgspec.Struct, eq=False):
    """A point, or the memory of one that later points still need."""

    tenant: Tenant
    place: _Place
    point: HistoryPoint | None
    parent: "_Node | None"
    size: int
    response_id: str
    children: int = 0


class PrefixIndex:
    """Points of all tenants; no tenant ever finds another's."""

    def __init__(self, limits: IndexLimits | None = None) -> None:
        self._limits = limits or IndexLimits()
        self._nodes: dict[Tenant, OrderedDict[_Place, _Node]] = {}  # least recently used first
        self._contexts: dict[bytes, int] = {}  # H → how many points stand there, over all contexts
        self._warm: OrderedDict[_Place, _Node] = OrderedDict()
        self._of_response: dict[tuple[Tenant, str], list[_Node]] = {}
        self._bytes: dict[Tenant, int] = {}
        self.total_bytes = 0
        self.evictions = 0  # points pushed out by a bound

    def __len__(self) -> int:
        return sum(len(nodes) for nodes in self._nodes.values())

    @property
    def warm_chains(self) -> int:
        """Points that hold a share of KV."""
        return len(self._warm)

    def tenant_bytes(self, tenant: Tenant) -> int:
        """Bytes accounted for one tenant."""
        return self._bytes.get(tenant, 0)

    def find(self, tenant: Tenant, context: bytes, history: Sequence[bytes]) -> Match | None:
        """The point furthest along `history` (H behind each item), in this context."""
        nodes = self._nodes.get(tenant)
        if nodes is None:
            return None
        for length in range(len(history), 0, -1):
            place = (context, history[length - 1])
            node = nodes.get(place)
            if node is not None:
                nodes.move_to_end(place)
                if place in self._warm:
                    self._warm.move_to_end(place)
                point = _point(node)
                shared = HistoryPoint(point.items, point.open_calls, point.model_state.share(), point.chain_bytes)
                return Match(length, shared)
        return None

    def is_known_elsewhere(self, history: Sequence[bytes]) -> bool:
        """A point stands somewhere along `history`, in whatever context."""
        return not self._contexts.keys().isdisjoint(history)

    def known_length(self, history: Sequence[bytes]) -> int:
        """How far along `history` the furthest such point stands; 0 for none."""
        known = self._contexts
        return (
            next((length for length in range(len(history), 0, -1) if history[length - 1] in known), 0) if known else 0
        )

    def enter(
        self,
        tenant: Tenant,
        context: bytes,
        place: bytes,
        point: HistoryPoint,
        *,
        behind: bytes | None,
        warm: bool,
        response_id: str = "",
    ) -> None:
        """Remember `point`, which extends the one at `behind`. The model state is the index's from now on.

        A `warm` point takes over the KV of its chain: the points before it let go of theirs. A place that is already known
        keeps what it has, unless the new point is warm. `response_id` is whose turn made it, for `forget`.
        """
        key = (context, place)
        nodes = self._nodes.get(tenant)
        if nodes is not None:
            known = nodes.get(key)
            if known is not None:
                if not warm:
                    nodes.move_to_end(key)
                    point.model_state.release()
                    return
                self._forget(known)
        # What was forgotten may have been the tenant's last.
        nodes = self._nodes.get(tenant)
        if nodes is None:
            nodes = self._nodes[tenant] = OrderedDict()
        parent = nodes.get((context, behind)) if behind is not None else None
        size = point.chain_bytes
        if parent is not None:
            parent.children += 1
            if parent.point is not None:
                size -= parent.point.chain_bytes
        size = (size if size > 0 else 0) + POINT_OVERHEAD_BYTES
        nodes[key] = node = _Node(tenant, key, point, parent, size, response_id)
        if response_id:
            self._of_response.setdefault((tenant, response_id), []).append(node)
        self._contexts[place] = self._contexts.get(place, 0) + 1
        self._bytes[tenant] = tenant_bytes = self._bytes.get(tenant, 0) + size
        self.total_bytes += size
        if warm:
            self._warm[key] = node
            if len(self._warm) > self._limits.warm:
                self._cool_the_oldest()
        if tenant_bytes > self._limits.bytes_per_tenant or self.total_bytes > self._limits.bytes_total:
            self._enforce(node)

    def cool(self, context: bytes, place: bytes) -> bool:
        """A turn went on from this point and took the KV along, if it had any: returns whether it had."""
        node = self._warm.pop((context, place), None)
        if node is None or node.point is None:
            return False
        node.point.model_state.release_kv()
        return True

    def forget(self, tenant: Tenant, response_id: str) -> None:
        """The response was deleted: forget the points that its turn made. Those behind them are others' own."""
        for node in list(self._of_response.get((tenant, response_id), ())):
            self._forget(node)

    def forget_chain(self, tenant: Tenant, response_id: str) -> None:
        """What the response stands on was deleted too: forget its points and those before them."""
        chain: list[_Node] = []
        for node in self._of_response.get((tenant, response_id), ()):
            before: _Node | None = node
            while before is not None:
                chain.append(before)
                before = before.parent
        for node in chain:
            if node.point is not None:
                self._forget(node)

    def clear(self) -> None:
        """Forget everything."""
        for nodes in list(self._nodes.values()):
            for node in list(nodes.values()):
                self._forget(node)

    def _cool_the_oldest(self) -> None:
        while len(self._warm) > max(1, self._limits.warm):
            _, oldest = self._warm.popitem(last=False)
            _point(oldest).model_state.release_kv()

    def _enforce(self, newest: _Node) -> None:
        """Push out the least recently used until the bounds hold. The newest stays even if it alone is over."""
        while self.tenant_bytes(newest.tenant) > self._limits.bytes_per_tenant:
            if len(self._nodes[newest.tenant]) == 1:
                break
            self._push_out(newest.tenant)
        while self.total_bytes > self._limits.bytes_total:
            able = [tenant for tenant, nodes in self._nodes.items() if len(nodes) > (tenant == newest.tenant)]
            if not able:
                break
            self._push_out(max(able, key=self.tenant_bytes))  # who holds the most gives first

    def _push_out(self, tenant: Tenant) -> None:
        self.evictions += 1
        self._forget(next(iter(self._nodes[tenant].values())))

    def _forget(self, node: _Node) -> None:
        nodes = self._nodes[node.tenant]
        del nodes[node.place]
        if not nodes:
            del self._nodes[node.tenant]
        history = node.place[1]
        self._contexts[history] -= 1
        if not self._contexts[history]:
            del self._contexts[history]
        self._warm.pop(node.place, None)
        self._unname(node)
        _point(node).model_state.release()
        node.point = None
        self._free(node)

    def _unname(self, node: _Node) -> None:
        key = (node.tenant, node.response_id)
        named = self._of_response.get(key)
        if named is not None:
            named.remove(node)
            if not named:
                del self._of_response[key]

    def _free(self, node: _Node | None) -> None:
        """Stop accounting for the node, and for those before it, as far as nothing behind them needs them."""
        while node is not None and node.point is None and not node.children:
            self._bytes[node.tenant] -= node.size
            self.total_bytes -= node.size
            if not self._bytes[node.tenant]:
                del self._bytes[node.tenant]
            parent, node.parent = node.parent, None
            if parent is not None:
                parent.children -= 1
            node = parent


def _point(node: _Node) -> HistoryPoint:
    assert node.point is not None, "the point is forgotten"
    return node.point
