"""The responses a process can continue at once, one cache per process (docs/design.md §2).

A `store: false` response is visible to its connection only and dies with it; a `store: true` one to its whole tenant.
Bounded in entries per connection and in bytes per tenant and process, oldest use first out; the count never costs a lane
its latest response while another can go. Forgetting an entry releases
what its model keeps; whoever still holds the turn state (a queued fork, a running turn) can finish with it.
"""

from collections import OrderedDict
from dataclasses import dataclass

import msgspec

from hotloop.session.chain import TurnState
from hotloop.session.principal import Principal, Tenant

ConnectionId = int
ENTRY_OVERHEAD_BYTES = 2048  # objects around an entry, measured: docs/measurements.md, memory of a cached turn


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """Bounds of the cache."""

    entries_per_connection: int = 64
    bytes_per_tenant: int = 512 * 2**20
    bytes_total: int = 1024 * 2**20


class _Entry(msgspec.Struct, eq=False):
    state: TurnState
    owner: ConnectionId | None  # None: visible to the whole tenant
    size: int
    lane: str | None
    users: int = 1


_Key = tuple[Tenant, str]


class Pin:
    """Keeps a turn state usable although the cache may forget it. Let go with `release`."""

    __slots__ = ("_entry", "state")

    def __init__(self, entry: _Entry) -> None:
        self._entry: _Entry | None = entry
        self.state = entry.state  # the pinned turn state
        entry.users += 1

    def release(self) -> None:
        """Let go. Idempotent."""
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.users -= 1
            if entry.users == 0:
                _let_go(entry)


class ChainCache:
    """Turn states by tenant and response id."""

    def __init__(self, limits: CacheLimits | None = None) -> None:
        self._limits = limits or CacheLimits()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._owned: dict[ConnectionId, OrderedDict[str, Tenant]] = {}
        self._latest: dict[ConnectionId, dict[str | None, str]] = {}  # newest owned response of each lane
        self._bytes: dict[Tenant, int] = {}
        self.total_bytes = 0  # accounted over all tenants
        self.evictions = 0  # entries pushed out by a bound

    def __len__(self) -> int:
        return len(self._entries)

    def tenant_bytes(self, tenant: Tenant) -> int:
        """Bytes accounted for one tenant."""
        return self._bytes.get(tenant, 0)

    def find(self, principal: Principal, connection: ConnectionId | None, response_id: str) -> Pin | None:
        """Pin the response if the caller may continue it from this connection (None: an HTTP request)."""
        key = (principal.tenant, response_id)
        entry = self._entries.get(key)
        if entry is None or (entry.owner is not None and entry.owner != connection):
            return None
        self._entries.move_to_end(key)
        if entry.owner is not None:
            self._owned[entry.owner].move_to_end(response_id)
        return Pin(entry)

    def put(
        self, principal: Principal, state: TurnState, *, owner: ConnectionId | None, lane: str | None = None
    ) -> list[str]:
        """Remember a finished turn; returns the ids forgotten for it. `owner` None makes it visible to the tenant."""
        tenant, limits = principal.tenant, self._limits
        key = (tenant, state.response_id)
        assert key not in self._entries, "response ids are unique"
        size = state.size_bytes + ENTRY_OVERHEAD_BYTES
        self._entries[key] = _Entry(state, owner, size, lane)
        self._bytes[tenant] = tenant_bytes = self._bytes.get(tenant, 0) + size
        self.total_bytes += size
        owned_count = 0
        if owner is not None:
            owned = self._owned.get(owner)
            if owned is None:
                owned, self._latest[owner] = self._owned.setdefault(owner, OrderedDict()), {}
            owned[state.response_id] = tenant
            self._latest[owner][lane] = state.response_id
            owned_count = len(owned)
        if (
            owned_count > limits.entries_per_connection
            or tenant_bytes > limits.bytes_per_tenant
            or self.total_bytes > limits.bytes_total
        ):
            return self._enforce(key, owner)
        return []

    def evict(self, principal: Principal, connection: ConnectionId | None, response_id: str) -> bool:
        """Forget one response, if the caller can see it."""
        entry = self._entries.get((principal.tenant, response_id))
        if entry is None or (entry.owner is not None and entry.owner != connection):
            return False
        self._remove((principal.tenant, response_id))
        return True

    def drop_connection(self, connection: ConnectionId) -> None:
        """The connection is gone: forget what only it could see."""
        self._latest.pop(connection, None)
        for response_id, tenant in self._owned.pop(connection, OrderedDict()).items():
            self._remove((tenant, response_id))

    def _enforce(self, newest: _Key, owner: ConnectionId | None) -> list[str]:
        """Push out the oldest until the bounds hold. The newest stays even if it alone is over: it was just promised."""
        tenant = newest[0]
        forgotten: list[str] = []
        if owner is not None:
            owned = self._owned[owner]
            while len(owned) > self._limits.entries_per_connection:
                forgotten.append(self._push_out((tenant, self._least_missed(owner, newest[1]))))
        while self.tenant_bytes(tenant) > self._limits.bytes_per_tenant:
            oldest = next(key for key in self._entries if key[0] == tenant)
            if oldest == newest:
                break
            forgotten.append(self._push_out(oldest))
        while self.total_bytes > self._limits.bytes_total:
            oldest = next(iter(self._entries))
            if oldest == newest:
                break
            forgotten.append(self._push_out(oldest))
        return forgotten

    def _least_missed(self, owner: ConnectionId, newest: str) -> str:
        """The connection's oldest response that is no lane's latest, else its oldest (docs/protocol.md §5.1)."""
        owned, latest = self._owned[owner], set(self._latest[owner].values())
        superseded = next((response_id for response_id in owned if response_id not in latest), None)
        return superseded or next(response_id for response_id in owned if response_id != newest)

    def _push_out(self, key: _Key) -> str:
        self.evictions += 1
        self._remove(key)
        return key[1]

    def _remove(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self._bytes[key[0]] -= entry.size
        self.total_bytes -= entry.size
        if not self._bytes[key[0]]:
            del self._bytes[key[0]]
        if entry.owner is not None and entry.owner in self._owned:
            self._owned[entry.owner].pop(key[1], None)
            latest = self._latest[entry.owner]
            if latest.get(entry.lane) == key[1]:
                del latest[entry.lane]
            if not self._owned[entry.owner]:
                del self._owned[entry.owner], self._latest[entry.owner]
        entry.users -= 1
        if entry.users == 0:
            _let_go(entry)


def _let_go(entry: _Entry) -> None:
    if entry.state.model_state is not None:
        entry.state.model_state.release()
