"""What the findings of `bench load` say of windows made up beforehand."""

import pytest

from hotloop.bench.answers import Answer
from hotloop.bench.goals import judge
from hotloop.bench.load import GOALS, Arm, Taken, findings_of, is_good, percentile, window_of
from hotloop.bench.stalls import CREATE, stall
from hotloop.bench.streams import Heard

ARM = Arm(2, 100)


def answer(first_delta_s: float, completed_s: float) -> Answer:
    return Answer("resp_1", 0.001, first_delta_s, completed_s, 50, 100, 90, 100)


def test_a_window_counts_tokens_by_the_deltas_that_carry_them_and_the_turns_that_were_good() -> None:
    heard = [
        Heard(50, [0.01] * 49, [answer(0.02, 1.02)]),
        Heard(20, [0.03, 0.01], [answer(0.5, 1.5)]),  # too late
    ]
    window = window_of(ARM, 0.07, 1.0, 10**8, heard)
    assert window.tokens == 140, "two tokens to a delta"
    assert window.good == 1
    assert window.gaps[-1] == 0.03


@pytest.mark.parametrize(("first", "completed", "good"), [(0.05, 1.05, True), (0.2, 1.2, False), (0.05, 2.05, False)])
def test_a_turn_is_good_if_it_begins_in_time_and_keeps_the_pace(first: float, completed: float, good: bool) -> None:
    assert is_good(answer(first, completed), 100) is good


def test_a_percentile_is_a_value_that_was_seen() -> None:
    ordered = [float(number) for number in range(100)]
    assert [percentile(ordered, share) for share in (0.5, 0.95, 0.99)] == [50, 95, 99]
    assert percentile([], 0.5) == 0


def test_a_stall_may_be_half_as_long_again_as_the_idle_gap_and_five_milliseconds() -> None:
    assert stall([(0.020, 0.035)] * 3).median == pytest.approx(1.5)


def test_every_goal_has_a_verdict() -> None:
    window = window_of(ARM, 0.07, 1.0, 10**8, [Heard(50, [0.01], [answer(0.02, 1.02)])])
    findings = findings_of(Taken({ARM: [window] * 3}, {CREATE: [(0.02, 0.03)] * 3}, [20_000.0] * 3))
    verdicts = judge(GOALS, findings.figures, findings.skipped)
    assert [(verdict.goal.name, verdict.outcome) for verdict in verdicts] == [
        ("idle_connection", "ok"),
        ("stall_64", "ok"),
    ]
    assert findings.table.rows[0][0] == "2 × 100 tokens/s"
    assert "Simulated" in findings.notes[0]
    assert any(f"30.0 ms while {CREATE} arrives" in note for note in findings.notes)
