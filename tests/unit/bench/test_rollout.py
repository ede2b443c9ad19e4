"""How a rollout's time is split, and what the findings say of splits made up beforehand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.bench.agent import Split, split
from hotloop.bench.answers import Answer, BenchError, Timing
from hotloop.bench.chart import Bars
from hotloop.bench.goals import judge
from hotloop.bench.rollout_plan import COLD, FULL, HOT, HOT_HTTP, QUICK, Key, Plan
from hotloop.bench.rollout_result import GOALS, Taken, findings_of
from hotloop.bench.rollout_work import Texts, inputs
from hotloop.bench.vocabularies import FAST, LIBRARY

PARTS = ("client_s", "network_s", "server_s", "engine_s", "tools_s")


def answer(completed_s: float, committed_s: float, engine_s: float) -> Answer:
    timing = Timing({"admitted": 0.0, "committed": committed_s}, engine_s)
    return Answer("resp_1", 0.001, 0.002, completed_s, 3, 100, 90, 5, timing=timing)


times = st.floats(0, 10)


@given(st.lists(st.tuples(times, times, times), min_size=1, max_size=20), times, times)
def test_the_parts_add_up_to_the_total(
    turns: list[tuple[float, float, float]], client_s: float, tools_s: float
) -> None:
    answers = [answer(a + b + c, b + c, c) for a, b, c in turns]
    elapsed = sum(one.completed_s for one in answers) + client_s
    found = split(elapsed, tools_s, answers)
    assert sum(getattr(found, name) for name in PARTS) == pytest.approx(found.total_s)
    assert all(getattr(found, name) >= -1e-6 for name in PARTS)
    assert found.floor_s(0.5) == pytest.approx(found.engine_s + tools_s + 0.5 * len(turns))


def test_a_server_without_timing_is_an_error() -> None:
    with pytest.raises(BenchError, match="hotloop:timing"):
        split(1.0, 0.0, [Answer("resp_1", 0.1, 0.2, 0.3, 3, 100, 90, 5)])


def rollout(server_s: float) -> Split:
    return Split(
        total_s=5 + server_s,
        client_s=0,
        network_s=0,
        server_s=server_s,
        engine_s=3,
        tools_s=2,
        first_token_s=0.1,
        turns=51,
        prompt_tokens=60_000,
        cached_tokens=59_000,
        output_tokens=5_000,
    )


def taken(plan: Plan) -> Taken:
    splits = {
        Key(series, arm): [rollout(server_s)] * series.rounds
        for series in plan.series
        for arm, server_s in ((HOT, 0.1), (COLD, 5.0), (HOT_HTTP, 1.0))
        if arm != HOT_HTTP or series.with_hot_http
    }
    return Taken(splits, {"loopback": 0.0001, "WAN": 0.04}, {LIBRARY: "some vocabulary"})


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_every_series_has_a_row_per_arm_and_every_goal_a_verdict(plan: Plan) -> None:
    found = findings_of(taken(plan))
    assert len(found.table.rows) == len(taken(plan).splits)
    verdicts = {verdict.goal.name: verdict for verdict in judge(GOALS, found.figures, found.skipped)}
    assert set(verdicts) == {goal.name for goal in GOALS}
    assert found.figures["rollout_total_4000"].median == pytest.approx(100 * (1 - 5.1 / 10))
    assert found.figures["rollout_api_time"].median == pytest.approx(100 * (1 - 0.0949 / 4.9949))
    not_there = {"rollout_total_1000", "rollout_floor"} if plan is QUICK else set[str]()
    assert {name for name, verdict in verdicts.items() if verdict.outcome != "ok"} == not_there
    assert "simulated" in found.notes[0]
    assert any("some vocabulary" in note for note in found.notes)
    (chart,) = found.charts
    assert isinstance(chart, Bars)
    assert len(chart.bars) == sum(key.series.is_claimed for key in taken(plan).splits)


def test_what_is_saved_stands_in_a_table_of_its_own_by_series_beside_the_most_that_can_be() -> None:
    gains, _ = findings_of(taken(FULL)).more
    assert [row[0] for row in gains.rows] == [series.name for series in FULL.series]
    saved, spread, most, *_, share = gains.rows[0][1:]
    assert (saved, spread) == ("49.0", "0.0"), "of 10 s, 5.1 s are left in every round"
    assert most == "49.9", "a server that costs nothing leaves engine, tools and 51 round trips of 0.1 ms"
    assert float(share) == pytest.approx(100 * float(saved) / float(most), abs=0.2)


def test_each_goal_for_the_total_time_stands_beside_what_it_needs_of_the_baseline_on_both_networks() -> None:
    _, needs = findings_of(taken(FULL)).more
    rows = {row[0]: row[1:] for row in needs.rows}
    speeds, networks = ("1000", "4000"), ("loopback", "WAN")
    assert set(rows) == {f"rollout_total_{speed}, {network}" for speed in speeds for network in networks}
    limit, saved, most, must_spend, spends = rows["rollout_total_4000, loopback"]
    assert (limit, saved, most) == ("40", "49.0", "49.9")
    assert float(spends) == pytest.approx((5 - 51 * 0.0001) / 51 * 1e3, abs=0.1)
    floor_s, server_s = 5 + 51 * 0.0001, 51 * float(must_spend) / 1e3
    assert server_s / (floor_s + server_s) == pytest.approx(0.4, abs=0.001), "so much is just enough to save"
    assert len(findings_of(taken(Plan(FULL.series[-1:]))).more) == 1, "no goal, no table"


def test_where_rounds_differ_by_more_than_there_is_to_save_a_note_says_so() -> None:
    (real,) = (series for series in FULL.series if not series.speed)
    costs = {HOT: (0.0, 4.0, 8.0), COLD: (0.1, 0.1, 0.1)}
    splits = {Key(real, arm): [rollout(cost) for cost in costs[arm]] for arm in (HOT, COLD)}
    found = findings_of(Taken(splits, {"loopback": 0.0001}, {FAST: "some vocabulary"}))
    assert found.more[0].rows[0][3] == "1.9"
    assert found.notes[-1].startswith(
        f"{real.name}: no server can save more than 1.9 % here, and the rounds differ by ±"
    )
    assert not any("drowns" in note for note in findings_of(taken(FULL)).notes)


def test_the_full_run_plays_every_speed_length_mix_and_network() -> None:
    played = {(one.speed, one.mix, one.calls) for one in FULL.series if one.network == "loopback"}
    assert played >= {
        (speed, mix, calls) for speed in (1_000, 4_000) for mix in ("interactive", "heavy") for calls in (20, 50, 100)
    }
    assert played >= {(65, "interactive", 20), (65, "interactive", 50), (65, "interactive", 100), (65, "heavy", 50)}
    assert {one.speed for one in FULL.series if one.network == "WAN"} == {65, 1_000, 4_000}
    assert {one.tokenizer for one in FULL.series if one.is_claimed and one.speed == 4_000} == {LIBRARY, FAST}
    assert [one.rounds > 10 for one in FULL.series if not one.speed] == [True], "the real model, whose time varies"


def test_a_text_has_the_tokens_asked_for_and_the_same_ones_every_time() -> None:
    tokenizer = ToyTokenizer()
    assert Texts(tokenizer).output(50) == Texts(tokenizer).output(50)
    assert len(tokenizer.encode(Texts(tokenizer).output(50))) == pytest.approx(50, abs=2)
    first = inputs("interactive", 20, tokenizer)
    assert first == inputs("interactive", 20, tokenizer)
    assert [one.is_tool_output for one in first] == [False] + [True] * 20
