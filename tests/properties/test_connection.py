"""The connection core under any interleaving: one turn per lane, first in first out, nothing lost, nothing twice.

The machine carries out what the core says and keeps its own books, of requests, responses and steers.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotloop.errors import ConnectionLimitReached, Overloaded, RateLimited, ServerFault, StreamLimitReached
from hotloop.protocol.actions import (
    Action,
    BindParent,
    CloseConnection,
    EvictResponse,
    InterruptTurn,
    Lane,
    Say,
    SendError,
    SendEvent,
    StartTurn,
    SteerTurn,
)
from hotloop.protocol.connection import Connection, Limits, TurnEnd
from hotloop.protocol.control import Interrupt
from hotloop.protocol.items import FunctionCall
from hotloop.protocol.request import ResponseCreate, decode_create
from hotloop.protocol.response import ResponseEnding
from hotloop.protocol.steering import decode_steer

LIMITS = Limits(running=3, waiting=4, lanes=4, steers=3, held_bytes=2000)
LANES: tuple[Lane, ...] = (None, "a", "b", "c", "d", "e")
SIZE = 100  # of every create; the bound in bytes is never the one that bites
CALL = FunctionCall(call_id="call_1", name="run", arguments="{}", status="completed")
ENDS = {
    "completed": ResponseEnding("completed", None, (), 10),
    "calls": ResponseEnding("completed", None, (CALL,), 10),
    "steered": ResponseEnding("incomplete", "steered", (), 10),
    "interrupted": ResponseEnding("incomplete", "interrupted", (), 10),
    "failed": ResponseEnding("failed", None, (), 10),
}


@dataclass
class Asked:
    """One request: where it was asked for and what became of it. `number` is None for one the core made."""

    number: int | None
    lane: Lane
    parent: str | None
    turn: int | None = None
    response: str = ""
    is_over: bool = False
    is_refused: bool = False
    needs_bind: bool = False  # it was asked for while its parent ran
    is_bound: bool = False
    carries: list[str] = field(default_factory=list[str])  # steers in its input

    @property
    def runs(self) -> bool:
        return self.turn is not None and not self.is_over

    @property
    def waits(self) -> bool:
        return self.turn is None and not self.is_refused


class ConnectionUnderAnyInterleaving(RuleBasedStateMachine):
    """The rules are what clients and turns can do."""

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection[int] = Connection(LIMITS)
        self.asked: list[Asked] = []
        self.names: set[str] = set()
        self.responses: dict[str, Asked] = {}
        self.steers: dict[str, str] = {}  # id → pending, carried, committed or returned
        self.sizes: dict[str, int] = {}
        self.numbers: dict[str, int] = {}  # of ended responses: the next event's
        self.refuses = False
        self.closes: list[int] = []

    # --- carrying out ---

    def _carry_out(self, actions: list[Action[int]], receiving: Asked | None = None) -> list[Action[int]]:
        """Returns what is left to judge: refusals, evictions and stops."""
        left: list[Action[int]] = []
        for action in actions:
            match action:
                case StartTurn():
                    self._start(action)
                case BindParent():
                    for number in action.waiting:
                        asked = self._numbered(number)
                        assert asked.waits
                        assert asked.parent == action.response_id
                        asked.is_bound = True
                case Say():
                    self._tell(action.kind.decode(), json.loads(b"{" + action.fields[1:] + b"}"))
                    assert self._running_turn(action.turn).response
                case SendEvent():
                    event = json.loads(action.event)
                    self._check_number(event)
                    self._tell(event["type"], event)
                case CloseConnection():
                    self.closes.append(action.code)
                case SendError():
                    if receiving is not None:
                        assert action.lane == receiving.lane
                        receiving.is_refused = True
                    left.append(action)
                case EvictResponse() | InterruptTurn() | SteerTurn():
                    left.append(action)
        return left

    def _numbered(self, number: int) -> Asked:
        return next(asked for asked in self.asked if asked.number == number)

    def _running_turn(self, turn: int) -> Asked:
        return next(asked for asked in self.asked if asked.turn == turn and asked.runs)

    def _check_number(self, event: dict[str, Any]) -> None:
        target = event["steer"]["previous_response_id"] if "steer" in event else event["response_id"]
        if target in self.numbers:
            assert event["sequence_number"] == self.numbers[target], "a gap in an ended response's numbers"
            self.numbers[target] += 1
            assert event.get("stream_id") == self.responses[target].lane
        else:
            assert event["sequence_number"] == 0

    def _tell(self, kind: str, event: dict[str, Any]) -> None:
        steer_id = event.get("steer", {}).get("id")
        if kind == "response.steer.accepted":
            assert steer_id is not None and steer_id not in self.steers
            self.steers[steer_id] = "pending"
        elif kind == "response.steer.failed" and steer_id is not None:
            assert self.steers[steer_id] in ("pending", "carried"), "returned and applied"
            assert event["steer"]["input"] == steer_id
            self.steers[steer_id] = "returned"
        elif kind == "response.steer.pending":
            assert steer_id is not None and self.steers[steer_id] == "pending"

    def _start(self, action: StartTurn[int]) -> None:
        if action.bound is None:
            parent = action.request.previous_response_id
            assert parent is not None
            assert self.responses[parent].is_over
            assert self.responses[parent].lane == action.lane
            asked = Asked(None, action.lane, parent)
            self.asked.append(asked)
        else:
            asked = self._numbered(action.bound)
            assert asked.waits, "started twice"
            assert asked is self._first_ready(), "not the first that could start"
            assert action.lane == asked.lane
            assert asked.is_bound or not asked.needs_bind, "its parent ended and was not pinned for it"
        asked.turn = action.turn
        asked.carries = re.findall(r"steer_\d+", bytes(action.request.input).decode())
        assert asked.carries or asked.number is not None, "a successor without input"
        for steer_id in asked.carries:
            assert self.steers[steer_id] == "pending", "applied twice"
            self.steers[steer_id] = "carried"

    def _first_ready(self) -> Asked | None:
        behind = {each.lane for each in self.asked if each.runs}
        for asked in self.asked:
            if not asked.waits:
                continue
            if asked.lane not in behind and not self._names_running(asked.parent):
                return asked
            behind.add(asked.lane)
        return None

    def _names_running(self, parent: str | None) -> bool:
        asked = self.responses.get(parent or "")
        return asked is not None and asked.runs

    # --- what can happen ---

    @rule(lane=st.sampled_from(LANES), parent=st.sampled_from([None, "stranger", *(f"resp_{n}" for n in range(8))]))
    def create(self, lane: Lane, parent: str | None) -> None:
        asked = Asked(len(self.asked), lane, parent, needs_bind=self._names_running(parent))
        waiting = sum(each.waits for each in self.asked)
        must_wait = (
            sum(each.runs for each in self.asked) >= LIMITS.running
            or any((each.runs or each.waits) and each.lane == lane for each in self.asked)
            or self._names_running(parent)
        )
        is_new = lane is not None and lane not in self.names
        self.asked.append(asked)
        left = self._carry_out(self.connection.receive(create(parent), lane, len(self.asked) - 1, SIZE), asked)
        if self.refuses:
            expected: tuple[type[Exception], ...] = (ConnectionLimitReached, Overloaded)
        elif is_new and len(self.names) >= LIMITS.lanes:
            expected = (StreamLimitReached,)
        elif must_wait and waiting >= LIMITS.waiting:
            expected = (RateLimited,)
        else:
            assert left == []
            if lane is not None:
                self.names.add(lane)
            assert asked.runs == (not must_wait)
            return
        (refusal,) = left
        assert isinstance(refusal, SendError)
        assert isinstance(refusal.error, expected)

    @precondition(lambda self: any(asked.runs and not asked.response for asked in self.asked))
    @rule(choice=st.integers(0, 100))
    def created(self, choice: int) -> None:
        fresh = [asked for asked in self.asked if asked.runs and not asked.response]
        asked = fresh[choice % len(fresh)]
        assert asked.turn is not None
        asked.response = f"resp_{len(self.responses)}"
        self.responses[asked.response] = asked
        for steer_id in asked.carries:
            self.steers[steer_id] = "committed"
        left = self._carry_out(self.connection.created(asked.turn, asked.response))
        assert left in ([], [SteerTurn(asked.turn)])

    @precondition(lambda self: any(asked.runs for asked in self.asked))
    @rule(choice=st.integers(0, 100), how=st.sampled_from(sorted(ENDS)))
    def turn_over(self, choice: int, how: str) -> None:
        running = [asked for asked in self.asked if asked.runs]
        asked = running[choice % len(running)]
        assert asked.turn is not None
        asked.is_over = True
        if asked.response:
            end = TurnEnd(ServerFault("It broke.") if how == "failed" else None, ENDS[how])
            self.numbers[asked.response] = ENDS[how].next_sequence
        else:
            end = TurnEnd(ServerFault("Refused."))
        actions = self.connection.turn_over(asked.turn, end)
        left = self._carry_out(actions)
        is_refused = not asked.response
        told = [action for action in left if isinstance(action, SendError) and not self._is_farewell(action)]
        assert len(told) == (is_refused and asked.number is not None), "every create is answered, nothing else is"
        evicted = [action.response_id for action in left if isinstance(action, EvictResponse)]
        is_asked = asked.number is not None or bool(asked.response)
        is_same_lane = asked.parent is not None and self._lane_of(asked.parent, asked.lane) == asked.lane
        assert evicted == ([asked.parent] if end.error is not None and is_same_lane and is_asked else [])
        if is_refused:
            assert all(self.steers[steer_id] == "returned" for steer_id in asked.carries), "a steer was lost"

    def _is_farewell(self, action: SendError) -> bool:
        return isinstance(action.error, ConnectionLimitReached)

    def _lane_of(self, response: str, default: Lane) -> Lane:
        asked = self.responses.get(response)
        return default if asked is None else asked.lane

    @rule(response=st.sampled_from(["stranger", *(f"resp_{n}" for n in range(8))]))
    def steer(self, response: str) -> None:
        steer_id = f"steer_{len(self.sizes)}"
        steer = decode_steer(json.dumps({"previous_response_id": response, "input": steer_id}).encode())
        self.sizes[steer_id] = steer.size_bytes
        left = self._carry_out(self.connection.steer(steer, steer_id))
        asked = self.responses.get(response)
        stops = [action.turn for action in left if isinstance(action, SteerTurn)]
        if asked is not None and asked.runs and steer_id in self.steers:
            assert stops == [asked.turn]
        else:
            assert stops == []
        if asked is None or self.refuses:
            assert steer_id not in self.steers

    @rule(response=st.sampled_from(["stranger", *(f"resp_{n}" for n in range(8))]))
    def interrupt(self, response: str) -> None:
        left = self._carry_out(self.connection.interrupt(Interrupt(response)))
        asked = self.responses.get(response)
        assert left == (
            [InterruptTurn(asked.turn)] if asked is not None and asked.runs and asked.turn is not None else []
        )

    @rule(by_age=st.booleans())
    def wind_down(self, by_age: bool) -> None:
        actions = self.connection.lifetime_over() if by_age else self.connection.drain()
        self.refuses = True
        assert all(isinstance(action, SendError) for action in self._carry_out(actions))

    # --- what always holds ---

    @invariant()
    def one_turn_per_lane_and_no_more_than_allowed(self) -> None:
        lanes = [asked.lane for asked in self.asked if asked.runs]
        assert len(lanes) == len(set(lanes)) == self.connection.running <= LIMITS.running
        assert self.connection.waiting == sum(asked.waits for asked in self.asked) <= LIMITS.waiting

    @invariant()
    def first_in_first_out_within_a_lane(self) -> None:
        for lane in LANES:
            started = [
                asked.turn
                for asked in self.asked
                if asked.lane == lane and asked.turn is not None and asked.number is not None
            ]
            assert started == sorted(started)

    @invariant()
    def nothing_waits_that_could_run(self) -> None:
        if self.connection.running < LIMITS.running:
            assert self._first_ready() is None

    @invariant()
    def what_is_held_is_accounted(self) -> None:
        pending = [steer_id for steer_id, state in self.steers.items() if state == "pending"]
        assert self.connection.pending_steers == len(pending) <= LIMITS.steers
        waiting = sum(asked.waits for asked in self.asked)
        assert self.connection.held_bytes == waiting * SIZE + sum(self.sizes[steer_id] for steer_id in pending)

    @invariant()
    def it_closes_once_exactly_when_it_winds_down_and_all_is_done(self) -> None:
        is_done = not any(asked.runs or asked.waits for asked in self.asked)
        assert len(self.closes) == (self.refuses and is_done)

    def teardown(self) -> None:
        while any(asked.runs for asked in self.asked):
            self.turn_over(0, "completed")
        assert all(asked.is_refused or asked.is_over for asked in self.asked), "a create was lost"
        held = {steer_id for steer_id, state in self.steers.items() if state not in ("committed", "returned")}
        assert len(held) == self.connection.pending_steers, "a steer is neither in a response nor returned nor owed"


def create(parent: str | None) -> ResponseCreate:
    return decode_create(json.dumps({"model": "m", "previous_response_id": parent, "input": "x"}).encode())


ConnectionUnderAnyInterleaving.TestCase.settings = settings(stateful_step_count=25)
TestConnectionUnderAnyInterleaving = ConnectionUnderAnyInterleaving.TestCase
