"""The prefix index against a plain list of what was entered: any order of entering, finding and pushing out."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from tests.support.model_states import CountedState

from hotloop.protocol.items import Item, Message
from hotloop.session.canonical import item_digest
from hotloop.session.item_log import ItemLog
from hotloop.session.prefix_index import (
    POINT_OVERHEAD_BYTES,
    HistoryPoint,
    IndexLimits,
    PrefixIndex,
    extend_history,
    history_start,
)
from hotloop.session.principal import Tenant

TENANTS = (Tenant("a"), Tenant("b"))
CONTEXTS = (b"x", b"y")
WORDS = ("one", "two")
STEP = st.tuples(
    st.sampled_from(["enter", "enter", "find", "cool"]),
    st.sampled_from(TENANTS),
    st.sampled_from(CONTEXTS),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=5),
    st.integers(0, 4),  # how much of the history is the point that the turn continued
    st.booleans(),
)
LIMITS = st.builds(
    IndexLimits,
    bytes_per_tenant=st.integers(0, 12).map(lambda points: points * POINT_OVERHEAD_BYTES),
    bytes_total=st.integers(0, 16).map(lambda points: points * POINT_OVERHEAD_BYTES),
    warm=st.integers(1, 3),
)
ROOMY = IndexLimits(warm=100)

Step = tuple[str, Tenant, bytes, list[str], int, bool]


@dataclass
class Scene:
    """An index and what was entered into it, by the plain history."""

    index: PrefixIndex
    entered: dict[tuple[Tenant, bytes, tuple[str, ...]], CountedState]
    states: list[CountedState]

    def play(self, step: Step) -> None:
        kind, tenant, context, words, behind, warm = step
        places = history(tenant, words)
        if kind == "find":
            self.find(tenant, context, words)
        elif kind == "cool":
            self.index.cool(context, places[-1])
        else:
            state = CountedState()
            if not warm:
                state.release_kv()
            self.states.append(state)
            parent = words[: min(behind, len(words) - 1)]
            point = HistoryPoint(ItemLog(items(words)), {}, state, 100 * len(words))
            self.index.enter(
                tenant,
                context,
                places[-1],
                point,
                behind=[history_start(tenant), *history(tenant, parent)][-1],
                warm=warm,
            )
            self.entered[tenant, context, tuple(words)] = state

    def find(self, tenant: Tenant, context: bytes, words: list[str]) -> int:
        match = self.index.find(tenant, context, history(tenant, words))
        if match is None:
            return 0
        assert list(match.point.items) == items(words[: match.length]), "another history was found"
        assert (tenant, context, tuple(words[: match.length])) in self.entered, "a foreign history was found"
        match.point.model_state.release()
        return match.length

    def check_accounts(self, limits: IndexLimits) -> None:
        index = self.index
        remembered = [node for nodes in index._nodes.values() for node in nodes.values()]
        needed = set(remembered)
        for node in remembered:
            before = node.parent
            while before is not None:
                needed.add(before)
                before = before.parent
        assert index.total_bytes == sum(node.size for node in needed)
        for tenant in TENANTS:
            assert index.tenant_bytes(tenant) == sum(node.size for node in needed if node.tenant == tenant)
        assert len(index) == len(remembered) == sum(index._contexts.values())
        assert index.warm_chains <= limits.warm
        assert sum(state.holders for state in self.states) == len(remembered)
        assert sum(state.kv_holders for state in self.states) == index.warm_chains
        over = index.total_bytes > limits.bytes_total
        assert not over or len(remembered) == 1, "over its bound with something left to give"


def items(words: Sequence[str]) -> list[Item]:
    return [Message(role="user", content=word) for word in words]


def history(tenant: Tenant, words: Sequence[str]) -> list[bytes]:
    return extend_history(history_start(tenant), map(item_digest, items(words)))


@given(st.lists(STEP, max_size=40), LIMITS)
def test_what_is_found_was_entered_and_every_byte_and_share_is_accounted(
    steps: list[Step], limits: IndexLimits
) -> None:
    scene = Scene(PrefixIndex(limits), {}, [])
    for step in steps:
        scene.play(step)
        scene.check_accounts(limits)
    scene.index.clear()
    assert (scene.index.total_bytes, len(scene.index), scene.index.warm_chains) == (0, 0, 0)
    assert scene.index._bytes == {} == scene.index._contexts
    assert all((state.holders, state.kv_holders) == (0, 0) for state in scene.states)


@given(st.lists(STEP, max_size=30), STEP)
def test_with_room_for_all_the_longest_beginning_that_was_entered_is_found(steps: list[Step], asked: Step) -> None:
    scene = Scene(PrefixIndex(ROOMY), {}, [])
    for step in steps:
        scene.play(step)
    _, tenant, context, words, _, _ = asked
    lengths = [
        length for length in range(1, len(words) + 1) if (tenant, context, tuple(words[:length])) in scene.entered
    ]
    assert scene.find(tenant, context, words) == max(lengths, default=0)
    elsewhere = any(
        (tenant, other, tuple(words[:length])) in scene.entered for other in CONTEXTS for length in range(1, 6)
    )
    assert scene.index.is_known_elsewhere(history(tenant, words)) == elsewhere
