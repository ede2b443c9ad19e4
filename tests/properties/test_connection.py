"""The connection core under any interleaving: one turn per lane, first in first out, nothing lost, nothing twice."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotloop.errors import ConnectionLimitReached, Overloaded, RateLimited, StreamLimitReached
from hotloop.protocol.connection import (
    Action,
    CloseConnection,
    Connection,
    EvictResponse,
    Lane,
    Limits,
    SendError,
    StartTurn,
)
from hotloop.protocol.request import ResponseCreate

LIMITS = Limits(running=3, waiting=4, lanes=4)
LANES: tuple[Lane, ...] = (None, "a", "b", "c", "d", "e")


@dataclass
class Asked:
    """One create: where it was asked for and what became of it."""

    number: int
    lane: Lane
    parent: str | None
    turn: int | None = None
    is_over: bool = False
    is_refused: bool = False

    @property
    def runs(self) -> bool:
        return self.turn is not None and not self.is_over

    @property
    def waits(self) -> bool:
        return self.turn is None and not self.is_refused


class ConnectionUnderAnyInterleaving(RuleBasedStateMachine):
    """Carries out what the core says and keeps its own books."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection[int] = Connection(LIMITS)
        self.asked: list[Asked] = []
        self.names: set[str] = set()
        self.lane_of: dict[str, Lane] = {}
        self.refuses = False
        self.closes: list[int] = []

    def _carry_out(self, actions: list[Action[int]], receiving: Asked | None = None) -> list[str]:
        evicted: list[str] = []
        for action in actions:
            match action:
                case StartTurn():
                    self._start(action)
                case SendError():
                    if receiving is None:
                        assert isinstance(action.error, ConnectionLimitReached)
                        assert action.lane is None
                    else:
                        assert action.lane == receiving.lane
                        receiving.is_refused = True
                case EvictResponse():
                    evicted.append(action.response_id)
                case CloseConnection():
                    self.closes.append(action.code)
                case _:
                    raise AssertionError(f"nobody asked for {action}")
        return evicted

    def _start(self, action: StartTurn[int]) -> None:
        asked = next(asked for asked in self.asked if asked.number == action.parent)
        assert asked.waits, "started twice"
        ready = [
            other
            for other in self.asked
            if other.waits and not any(each.runs and each.lane == other.lane for each in self.asked)
        ]
        assert asked is ready[0], "not the first that could start"
        assert action.lane == asked.lane
        asked.turn = action.turn

    @rule(lane=st.sampled_from(LANES), parent=st.sampled_from([None, "stranger", *(f"resp_{n}" for n in range(8))]))
    def create(self, lane: Lane, parent: str | None) -> None:
        asked = Asked(len(self.asked), lane, parent)
        waiting = sum(each.waits for each in self.asked)
        must_wait = sum(each.runs for each in self.asked) >= LIMITS.running or any(
            each.runs and each.lane == lane for each in self.asked
        )
        is_new = lane is not None and lane not in self.names
        self.asked.append(asked)
        actions = self.connection.receive(ResponseCreate(model="m", previous_response_id=parent), lane, asked.number)
        assert self._carry_out(actions, asked) == [], "a create evicts nothing"
        if self.refuses:
            expected: type[Exception] | None = None if not asked.is_refused else Exception
        elif is_new and len(self.names) >= LIMITS.lanes:
            expected = StreamLimitReached
        elif must_wait and waiting >= LIMITS.waiting:
            expected = RateLimited
        else:
            expected = None
        assert asked.is_refused == (expected is not None)
        if expected is not None:
            (refusal,) = actions
            assert isinstance(refusal, SendError)
            kinds = (ConnectionLimitReached, Overloaded) if self.refuses else (expected,)
            assert isinstance(refusal.error, kinds)
        elif lane is not None:
            self.names.add(lane)
        assert asked.is_refused or asked.runs == (not must_wait)

    @precondition(lambda self: any(asked.runs for asked in self.asked))
    @rule(choice=st.integers(0, 100), failed=st.booleans(), was_created=st.booleans())
    def turn_over(self, choice: int, failed: bool, was_created: bool) -> None:
        running = [asked for asked in self.asked if asked.runs]
        asked = running[choice % len(running)]
        assert asked.turn is not None
        if was_created:
            self.connection.created(asked.turn, f"resp_{asked.number}")
            self.lane_of[f"resp_{asked.number}"] = asked.lane
        asked.is_over = True
        evicted = self._carry_out(self.connection.turn_over(asked.turn, failed=failed))
        is_same_lane = asked.parent is not None and self.lane_of.get(asked.parent, asked.lane) == asked.lane
        assert evicted == ([asked.parent] if failed and is_same_lane else [])

    @rule(by_age=st.booleans())
    def wind_down(self, by_age: bool) -> None:
        actions = self.connection.lifetime_over() if by_age else self.connection.drain()
        self.refuses = True
        assert self._carry_out(actions) == []

    @invariant()
    def one_turn_per_lane_and_no_more_than_allowed(self) -> None:
        lanes = [asked.lane for asked in self.asked if asked.runs]
        assert len(lanes) == len(set(lanes)) == self.connection.running <= LIMITS.running
        assert self.connection.waiting == sum(asked.waits for asked in self.asked) <= LIMITS.waiting

    @invariant()
    def first_in_first_out_within_a_lane(self) -> None:
        for lane in LANES:
            started = [asked.turn for asked in self.asked if asked.lane == lane and asked.turn is not None]
            assert started == sorted(started)

    @invariant()
    def nothing_waits_that_could_run(self) -> None:
        if self.connection.running < LIMITS.running:
            busy = {asked.lane for asked in self.asked if asked.runs}
            assert not [asked for asked in self.asked if asked.waits and asked.lane not in busy]

    @invariant()
    def it_closes_once_exactly_when_it_winds_down_and_all_is_done(self) -> None:
        is_done = not any(asked.runs or asked.waits for asked in self.asked)
        assert len(self.closes) == (self.refuses and is_done)

    def teardown(self) -> None:
        while any(asked.runs for asked in self.asked):
            self.turn_over(0, failed=False, was_created=False)
        assert all(asked.is_refused or asked.is_over for asked in self.asked), "a create was lost"


ConnectionUnderAnyInterleaving.TestCase.settings = settings(stateful_step_count=20)
TestConnectionUnderAnyInterleaving = ConnectionUnderAnyInterleaving.TestCase
