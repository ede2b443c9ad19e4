from typing import Any

from hotloop.errors import (
    ApiError,
    ConnectionLimitReached,
    Overloaded,
    RateLimited,
    ServerFault,
    StreamLimitReached,
)
from hotloop.protocol.actions import (
    Action,
    BindParent,
    CloseConnection,
    EvictResponse,
    InterruptTurn,
    Lane,
    SendError,
    SendEvent,
    StartTurn,
)
from hotloop.protocol.connection import RESPONSES_REMEMBERED, Connection, Limits, TurnEnd
from hotloop.protocol.control import Interrupt
from hotloop.protocol.request import ResponseCreate
from hotloop.protocol.response import ResponseEnding

OK = TurnEnd()  # of a turn that the test gave no response
COMPLETED = TurnEnd(None, ResponseEnding("completed", None, (), 3))
FAILED = TurnEnd(ServerFault("It broke."))


def create(parent: str | None = None) -> ResponseCreate:
    return ResponseCreate(model="m", previous_response_id=parent)


def make(**limits: Any) -> Connection[str]:
    return Connection(Limits(**limits))


def receive(connection: Connection[str], lane: Lane = None, parent: str | None = None) -> list[Action[str]]:
    return connection.receive(create(parent), lane, parent or "unbound")


def started(actions: list[Action[str]]) -> list[int]:
    return [action.turn for action in actions if isinstance(action, StartTurn)]


def refusal(actions: list[Action[str]]) -> tuple[type[ApiError], Lane]:
    (action,) = actions
    assert isinstance(action, SendError)
    return type(action.error), action.lane


def evicted(actions: list[Action[str]]) -> list[str]:
    return [action.response_id for action in actions if isinstance(action, EvictResponse)]


def finished_turn(connection: Connection[str], response_id: str, lane: Lane = None) -> None:
    """A turn on `lane` that made `response_id`."""
    (turn,) = started(receive(connection, lane))
    connection.created(turn, response_id)
    connection.turn_over(turn, COMPLETED)


def test_an_idle_connection_starts_at_once_with_what_was_bound() -> None:
    connection = make()
    (action,) = receive(connection, "a", "resp_1")
    assert isinstance(action, StartTurn)
    assert (action.lane, action.bound, action.request.previous_response_id) == ("a", "resp_1", "resp_1")
    assert (connection.running, connection.waiting) == (1, 0)


def test_a_busy_lane_holds_the_next_until_its_turn_is_over() -> None:
    connection = make()
    (first,) = started(receive(connection))
    assert receive(connection) == []
    assert connection.waiting == 1
    (second,) = started(connection.turn_over(first, OK))
    assert second != first


def test_lanes_run_side_by_side_up_to_the_limit() -> None:
    connection = make(running=2)
    assert started(receive(connection, "a"))
    assert started(receive(connection, "b"))
    assert receive(connection, "c") == []


def test_what_waits_for_a_place_starts_in_arrival_order() -> None:
    connection = make(running=1)
    (turn,) = started(receive(connection, "a"))
    for lane in ("b", "a", "c"):
        receive(connection, lane)
    lanes: list[Lane] = []
    for _ in range(3):
        (action,) = connection.turn_over(turn, OK)
        assert isinstance(action, StartTurn)
        lanes.append(action.lane)
        turn = action.turn
    assert lanes == ["b", "a", "c"]


def test_one_request_too_many_waiting_is_refused_and_evicts_nothing() -> None:
    connection = make(waiting=1)
    receive(connection)
    receive(connection)
    assert refusal(receive(connection, None, "resp_1")) == (RateLimited, None)
    assert connection.waiting == 1


def test_a_full_queue_of_one_lane_does_not_refuse_a_lane_that_is_free() -> None:
    connection = make(waiting=1)
    receive(connection, "a")
    receive(connection, "a")
    assert started(receive(connection, "b"))


def test_the_lane_over_the_limit_is_refused_by_name_and_known_ones_go_on() -> None:
    connection = make(lanes=1)
    finished_turn(connection, "resp_1", "a")
    assert refusal(receive(connection, "b")) == (StreamLimitReached, "b")
    assert started(receive(connection, "a"))
    assert started(receive(connection, None))  # the default lane does not count


def test_a_lane_that_was_refused_uses_up_no_name() -> None:
    connection = make(lanes=1, waiting=0, running=1)
    receive(connection, None)
    assert refusal(receive(connection, "a"))[0] is RateLimited
    connection.turn_over(0, OK)
    assert started(receive(connection, "b"))


def test_a_failed_continuation_evicts_its_parent_on_its_own_lane() -> None:
    connection = make()
    finished_turn(connection, "resp_1")
    (turn,) = started(receive(connection, None, "resp_1"))
    assert evicted(connection.turn_over(turn, FAILED)) == ["resp_1"]


def test_a_failed_fork_to_another_lane_leaves_the_parent() -> None:
    connection = make()
    finished_turn(connection, "resp_1", "a")
    (turn,) = started(receive(connection, "b", "resp_1"))
    assert evicted(connection.turn_over(turn, FAILED)) == []


def test_a_parent_from_elsewhere_counts_as_the_lanes_own() -> None:
    connection = make()
    (turn,) = started(receive(connection, "b", "resp_stored"))
    assert evicted(connection.turn_over(turn, FAILED)) == ["resp_stored"]


def test_success_and_a_turn_without_a_parent_evict_nothing() -> None:
    connection = make()
    finished_turn(connection, "resp_1")
    (turn,) = started(receive(connection, None, "resp_1"))
    assert evicted(connection.turn_over(turn, OK)) == []
    (turn,) = started(receive(connection))
    assert evicted(connection.turn_over(turn, FAILED)) == []


def test_the_lanes_of_old_responses_are_forgotten() -> None:
    connection = make()
    for number in range(RESPONSES_REMEMBERED + 1):
        finished_turn(connection, f"resp_{number}", "a")
    (turn,) = started(receive(connection, "b", "resp_0"))
    assert evicted(connection.turn_over(turn, FAILED)) == ["resp_0"]
    (turn,) = started(receive(connection, "b", "resp_1"))
    assert evicted(connection.turn_over(turn, FAILED)) == []


def test_the_end_of_the_lifetime_tells_an_idle_client_then_closes() -> None:
    error, close = make(lifetime_s=60.0).lifetime_over()
    assert isinstance(error, SendError)
    assert (type(error.error), error.lane) == (ConnectionLimitReached, None)
    assert close == CloseConnection(1001)


def test_the_end_of_the_lifetime_waits_for_what_runs_and_what_waits() -> None:
    connection = make()
    (first,) = started(receive(connection))
    receive(connection)
    assert connection.lifetime_over() == []
    assert refusal(receive(connection, "a")) == (ConnectionLimitReached, "a")
    (second,) = started(connection.turn_over(first, OK))
    *_, close = connection.turn_over(second, OK)
    assert close == CloseConnection(1001)


def test_a_drain_refuses_new_turns_and_closes_without_an_error_event() -> None:
    connection = make()
    (turn,) = started(receive(connection))
    assert connection.drain() == []
    assert refusal(receive(connection)) == (Overloaded, None)
    assert connection.turn_over(turn, OK) == [CloseConnection(1012)]


def test_the_connection_is_closed_once_and_by_the_first_reason() -> None:
    connection = make()
    assert connection.drain() == [CloseConnection(1012)]
    assert connection.lifetime_over() == []
    assert connection.drain() == []


def test_an_abandoned_connection_starts_nothing_more_and_gives_back_what_was_bound() -> None:
    connection = make()
    (turn,) = started(receive(connection))
    receive(connection, None, "resp_1")
    receive(connection)
    assert connection.abandon() == ["resp_1", "unbound"]
    assert connection.turn_over(turn, OK) == []


def test_a_refused_turn_is_one_error_event_on_its_lane_and_evicts_its_parent() -> None:
    connection = make()
    finished_turn(connection, "resp_1", "a")
    (turn,) = started(receive(connection, "a", "resp_1"))
    error, evict = connection.turn_over(turn, TurnEnd(ServerFault("It broke.")))
    assert isinstance(error, SendError)
    assert (type(error.error), error.lane) == (ServerFault, "a")
    assert evict == EvictResponse("resp_1")


def test_a_create_that_names_a_running_response_waits_for_it_and_holds_its_lane() -> None:
    connection = make()
    (turn,) = started(receive(connection, "a"))
    connection.created(turn, "resp_1")
    assert receive(connection, "b", "resp_1") == []
    assert receive(connection, "b", "resp_0") == [], "it would overtake the one before it"
    assert started(receive(connection, "c")), "other lanes are free"
    bind, start = connection.turn_over(turn, COMPLETED)
    assert bind == BindParent("resp_1", ("resp_1",))
    assert isinstance(start, StartTurn)
    assert start.lane == "b"


def test_requests_that_wait_are_bounded_in_bytes_too() -> None:
    connection = make(held_bytes=100)
    (turn,) = started(connection.receive(create(), None, "x", 1000))  # it does not wait
    assert connection.receive(create(), None, "x", 60) == []
    assert refusal(connection.receive(create(), None, "x", 60)) == (RateLimited, None)
    assert connection.held_bytes == 60
    connection.turn_over(turn, OK)
    assert connection.held_bytes == 0


def test_an_interrupt_reaches_the_running_response_only() -> None:
    connection = make()
    (turn,) = started(receive(connection))
    connection.created(turn, "resp_1")
    assert connection.interrupt(Interrupt("resp_1")) == [InterruptTurn(turn)]
    connection.turn_over(turn, COMPLETED)
    assert connection.interrupt(Interrupt("resp_1")) == [], "it comes late"
    (answer,) = connection.interrupt(Interrupt("resp_gone"))
    assert isinstance(answer, SendEvent)
    assert b"response_not_found" in answer.event


def test_an_abandoned_connection_refuses_what_still_comes() -> None:
    connection = make()
    connection.abandon()
    assert refusal(receive(connection)) == (Overloaded, None)
