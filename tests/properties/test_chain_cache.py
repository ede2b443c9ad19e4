"""The chain cache against a list: visibility, bytes, bounds, and every model state let go exactly once."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support.model_states import CountedState

from hotloop.session.chain import TurnState
from hotloop.session.chain_cache import ENTRY_OVERHEAD_BYTES, CacheLimits, ChainCache, Pin
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal, Tenant

LIMITS = CacheLimits(
    entries_per_connection=3,
    bytes_per_tenant=5 * ENTRY_OVERHEAD_BYTES + 500,
    bytes_total=8 * ENTRY_OVERHEAD_BYTES + 800,
)
# A connection belongs to one tenant.
CONNECTIONS = {1: "mine", 2: "mine", 3: "theirs"}
LANES = (None, "a", "b")


@dataclass
class Entry:
    """What the naive model knows of one response."""

    name: str
    tenant: str
    owner: int | None
    lane: str | None
    size: int
    kept: CountedState
    pins: list[Pin] = field(default_factory=list)


class ChainCacheAgainstAList(RuleBasedStateMachine):
    """Entries in order of use, oldest first; everything ever put is in `ever`."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = ChainCache(LIMITS)
        self.entries: list[Entry] = []
        self.ever: list[Entry] = []
        self.latest: dict[tuple[int, str | None], str] = {}

    def _principal(self, tenant: str) -> Principal:
        return Principal(Tenant(tenant))

    def _drop(self, entry: Entry) -> str:
        self.entries.remove(entry)
        if entry.owner is not None and self.latest.get((entry.owner, entry.lane)) == entry.name:
            del self.latest[entry.owner, entry.lane]
        return entry.name

    @rule(
        connection=st.sampled_from(list(CONNECTIONS)),
        lane=st.sampled_from(LANES),
        stores=st.booleans(),
        size=st.integers(0, 900),
    )
    def put(self, connection: int, lane: str | None, stores: bool, size: int) -> None:
        tenant = CONNECTIONS[connection]
        owner = None if stores else connection
        new = Entry(f"r{len(self.ever)}", tenant, owner, lane, size + ENTRY_OVERHEAD_BYTES, CountedState())
        self.ever.append(new)
        self.entries.append(new)
        state = TurnState(new.name, "m", ItemLog(), {}, new.kept, size)
        forgotten = self.cache.put(self._principal(tenant), state, owner=owner, lane=lane)
        assert forgotten == self._expected_evictions(new)

    def _expected_evictions(self, new: Entry) -> list[str]:
        forgotten: list[str] = []
        if new.owner is not None:
            self.latest[new.owner, new.lane] = new.name
            owned = [entry for entry in self.entries if entry.owner == new.owner]
            if len(owned) > LIMITS.entries_per_connection:
                old = [entry for entry in owned if entry.name not in self.latest.values()]
                forgotten.append(self._drop((old or [entry for entry in owned if entry is not new])[0]))
        while sum(entry.size for entry in self.entries if entry.tenant == new.tenant) > LIMITS.bytes_per_tenant:
            oldest = next(entry for entry in self.entries if entry.tenant == new.tenant)
            if oldest is new:
                break
            forgotten.append(self._drop(oldest))
        while sum(entry.size for entry in self.entries) > LIMITS.bytes_total and self.entries[0] is not new:
            forgotten.append(self._drop(self.entries[0]))
        return forgotten

    @rule(
        number=st.integers(0, 30),
        connection=st.sampled_from([*CONNECTIONS, None]),
        tenant=st.sampled_from(["mine", "theirs"]),
    )
    def find(self, number: int, connection: int | None, tenant: str) -> None:
        name = f"r{number}"
        pin = self.cache.find(self._principal(tenant), connection, name)
        entry = next((entry for entry in self.entries if entry.name == name), None)
        visible = entry is not None and entry.tenant == tenant and entry.owner in (None, connection)
        assert (pin is not None) == visible
        if pin is not None and entry is not None:
            assert pin.state.response_id == name
            entry.pins.append(pin)
            self.entries.remove(entry)
            self.entries.append(entry)  # used last

    @rule(number=st.integers(0, 30), twice=st.booleans())
    def release_a_pin(self, number: int, twice: bool) -> None:
        held = [entry for entry in self.ever if entry.pins]
        if held:
            pin = held[number % len(held)].pins.pop()
            pin.release()
            if twice:
                pin.release()

    @rule(
        number=st.integers(0, 30),
        connection=st.sampled_from([*CONNECTIONS, None]),
        tenant=st.sampled_from(["mine", "theirs"]),
    )
    def evict(self, number: int, connection: int | None, tenant: str) -> None:
        name = f"r{number}"
        entry = next((entry for entry in self.entries if entry.name == name), None)
        visible = entry is not None and entry.tenant == tenant and entry.owner in (None, connection)
        assert self.cache.evict(self._principal(tenant), connection, name) == visible
        if visible and entry is not None:
            self._drop(entry)

    @rule(connection=st.sampled_from(list(CONNECTIONS)))
    def drop_connection(self, connection: int) -> None:
        self.cache.drop_connection(connection)
        for entry in [entry for entry in self.entries if entry.owner == connection]:
            self._drop(entry)

    @invariant()
    def bytes_are_those_of_the_entries(self) -> None:
        assert len(self.cache) == len(self.entries)
        assert self.cache.total_bytes == sum(entry.size for entry in self.entries)
        for tenant in ("mine", "theirs"):
            expected = sum(entry.size for entry in self.entries if entry.tenant == tenant)
            assert self.cache.tenant_bytes(Tenant(tenant)) == expected

    @invariant()
    def a_model_state_is_released_once_when_nobody_can_reach_it(self) -> None:
        for entry in self.ever:
            is_reachable = entry in self.entries or bool(entry.pins)
            assert entry.kept.released == (0 if is_reachable else 1), entry.name

    def teardown(self) -> None:
        for entry in self.ever:
            while entry.pins:
                entry.pins.pop().release()
        for connection in CONNECTIONS:
            self.drop_connection(connection)
        self.a_model_state_is_released_once_when_nobody_can_reach_it()


ChainCacheAgainstAList.TestCase.settings = settings(stateful_step_count=20)
TestChainCacheAgainstAList = ChainCacheAgainstAList.TestCase
