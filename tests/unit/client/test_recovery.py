import pytest

from hotloop.client.errors import (
    AgentError,
    CannotConnect,
    ConnectionLost,
    RequestRefused,
    ResponseFailed,
    ResponseIncomplete,
    WebSocketBlocked,
)
from hotloop.client.recovery import Action, FallBack, GiveUp, Recovery, Retry

LOST = ConnectionLost("gone")
BLOCKED = WebSocketBlocked("http://x", "stuck")
ABSENT = CannotConnect("http://x", "refused")


def refused(status: int, code: str = "some_code", wait_s: float | None = None) -> RequestRefused:
    return RequestRefused("no", status=status, code=code, retry_after_s=wait_s)


def recovery(*, delays_s: tuple[float, ...] = (1.0, 2.0), can_fall_back: bool = False, jitter: float = 0.0) -> Recovery:
    made = Recovery(delays_s=delays_s, jitter=lambda: jitter, can_fall_back=can_fall_back)
    made.reached()
    return made


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (LOST, Retry("connection_lost", 1.0, afresh=True)),
        (ABSENT, Retry("cannot_connect", 1.0, afresh=True)),
        (refused(400, "previous_response_not_found"), Retry("previous_response_not_found", 0.0, afresh=True)),
        (
            refused(400, "websocket_connection_limit_reached"),
            Retry("websocket_connection_limit_reached", 0.0, afresh=True),
        ),
        (refused(429), Retry("some_code", 1.0, afresh=False)),
        (refused(429, wait_s=7.0), Retry("some_code", 7.0, afresh=False)),
        (refused(503, wait_s=3.0), Retry("some_code", 3.0, afresh=True)),
        (refused(500), Retry("some_code", 1.0, afresh=True)),
        (ResponseFailed("no", code="engine_timeout"), Retry("engine_timeout", 1.0, afresh=True)),
        (
            ResponseFailed("no", code="rate_limit_exceeded", retry_after_s=4.0),
            Retry("rate_limit_exceeded", 4.0, afresh=True),
        ),
    ],
)
def test_what_may_pass_is_tried_again(error: AgentError, action: Action) -> None:
    assert recovery().decide(error) == action


@pytest.mark.parametrize(
    "error",
    [
        refused(400),
        refused(401),
        refused(404, "model_not_found"),
        refused(429, "insufficient_quota"),
        refused(429, wait_s=3600.0),
        ResponseFailed("no", code="context_length_exceeded"),
        ResponseFailed("no", code="something_new"),
        ResponseIncomplete("content_filter"),
        BLOCKED,
    ],
)
def test_what_will_not_pass_is_shown(error: AgentError) -> None:
    assert recovery().decide(error) == GiveUp(error)


def test_nobody_there_from_the_start_is_shown_at_once() -> None:
    fresh = Recovery(delays_s=(1.0,), jitter=lambda: 0.0, can_fall_back=True)
    assert fresh.decide(ABSENT) == GiveUp(ABSENT)


def test_delays_grow_until_the_budget_is_used_up() -> None:
    budget = recovery()
    assert [budget.decide(LOST) for _ in range(3)] == [
        Retry("connection_lost", 1.0, afresh=True),
        Retry("connection_lost", 2.0, afresh=True),
        GiveUp(LOST),
    ]


def test_a_completed_turn_refills_the_budget() -> None:
    budget = recovery(delays_s=(1.0,))
    budget.decide(LOST)
    budget.completed()
    assert budget.decide(LOST) == Retry("connection_lost", 1.0, afresh=True)


def test_jitter_takes_up_to_a_quarter_off() -> None:
    assert recovery(jitter=1.0).decide(LOST) == Retry("connection_lost", 0.75, afresh=True)


def test_a_blocked_websocket_falls_back_once() -> None:
    budget = recovery(can_fall_back=True)
    assert [budget.decide(BLOCKED) for _ in range(2)] == [FallBack("cannot_connect"), GiveUp(BLOCKED)]


def test_a_used_up_budget_falls_back_with_a_new_budget() -> None:
    budget = recovery(delays_s=(1.0,), can_fall_back=True)
    assert [budget.decide(LOST) for _ in range(4)] == [
        Retry("connection_lost", 1.0, afresh=True),
        FallBack("connection_lost"),
        Retry("connection_lost", 1.0, afresh=True),
        GiveUp(LOST),
    ]


def test_a_used_up_budget_for_server_faults_does_not_fall_back() -> None:
    fault = refused(500)
    assert recovery(delays_s=(), can_fall_back=True).decide(fault) == GiveUp(fault)


def test_a_chain_that_is_always_forgotten_is_no_endless_loop() -> None:
    stale = refused(400, "previous_response_not_found")
    budget = recovery()
    assert [budget.decide(stale) for _ in range(3)][-1] == GiveUp(stale)
