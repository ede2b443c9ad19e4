"""What the findings of `bench turn` say of samples made up beforehand."""

import pytest

from hotloop.bench.arms import Sample
from hotloop.bench.chart import Lines
from hotloop.bench.goals import judge
from hotloop.bench.report import Findings
from hotloop.bench.turn_plan import FULL, HOT, QUICK, RAW, STATELESS, Arm, Plan, Way
from hotloop.bench.turn_result import GOALS, Taken, findings_of
from hotloop.bench.vocabularies import FAST, LIBRARY

PER_TOKEN = {FAST: 1e-7, LIBRARY: 1e-6}


def findings(plan: Plan) -> Findings:
    """A turn that continues costs 0.2 ms whatever its length; another tokenizes all of it."""
    samples = {RAW: [Sample(0.00005, completed_s=0.0001)] * 3}
    for arm in plan.arms():
        cost = 0.0002 if arm.way == HOT else arm.tokens * PER_TOKEN[arm.tokenizer] + 0.0002
        samples[arm] = [Sample(cost, 0.0005, 0.001, 0.002, arm.tokens, arm.tokens, 1, 1)] * 3
    return findings_of(plan, Taken(samples, {LIBRARY: "some vocabulary", FAST: "another"}))


def test_the_full_run_has_every_way_at_every_length_and_a_verdict_for_every_goal() -> None:
    ways = {
        Way(transport, mode, caches)
        for transport in ("websocket", "http")
        for mode in ("previous", "resend")
        for caches in ("on", "off")
    }
    assert {arm for arm in FULL.arms() if (arm.answer, arm.tokenizer) == ("short", FAST)} == {
        Arm(way, FAST, tokens, "short") for way in ways for tokens in (1_000, 20_000, 100_000, 200_000, 1_000_000)
    }
    found = findings(FULL)
    lines = {verdict.goal.name: verdict for verdict in judge(GOALS, found.figures, found.skipped)}
    assert set(lines) == {goal.name for goal in GOALS}
    assert all(verdict.outcome == "ok" for verdict in lines.values())
    assert found.figures["first_delta_raw"].median == 10


def test_resending_is_judged_with_the_tokenizers_library_in_both_arms_and_shown_with_the_fast_encoder() -> None:
    lengths = (1_000, 20_000, 200_000)
    assert {arm for arm in FULL.arms() if arm.tokenizer == LIBRARY} == {
        Arm(way, LIBRARY, tokens, "short") for way in (HOT, STATELESS) for tokens in lengths
    }
    found = findings(FULL)
    lines = {verdict.goal.name: verdict.line() for verdict in judge(GOALS, found.figures, found.skipped)}
    assert lines["vs_resend_200k"].startswith("goal vs_resend_200k value 1001 limit 150 ok")
    (table,) = found.more
    assert table.rows == [
        ("tokenizers", "1,000", "6.0", "0.0", "1"),
        ("tokenizers", "20,000", "101.0", "0.0", "20"),
        ("tokenizers", "200,000", "1001.0", "0.0", "150"),
        ("fast", "1,000", "1.5", "0.0", "-"),
        ("fast", "20,000", "11.0", "0.0", "-"),
        ("fast", "100,000", "51.0", "0.0", "-"),
        ("fast", "200,000", "101.0", "0.0", "-"),
        ("fast", "1,000,000", "501.0", "0.0", "-"),
    ]
    assert any("tokenizers: some vocabulary; fast: another" in note for note in found.notes)
    in_table = {(row[0], row[1]) for row in found.table.rows}
    assert in_table >= {(str(way), tokenizer) for way in (HOT, STATELESS) for tokenizer in (LIBRARY, FAST)}


def test_the_quick_run_says_which_goals_it_leaves_out() -> None:
    found = findings(QUICK)
    verdicts = judge(GOALS, found.figures, found.skipped, is_quick=True)
    assert {verdict.goal.name for verdict in verdicts} == {goal.name for goal in GOALS}
    left_out = [verdict.goal.name for verdict in verdicts if verdict.reason == "only in the full run"]
    assert left_out == ["flat_1m", "vs_resend_200k"]
    assert {verdict.goal.name for verdict in verdicts if verdict.outcome == "ok"} == {
        "flat_200k", "vs_resend_1k", "first_delta_200k",
    }  # fmt: skip


@pytest.mark.parametrize(("number", "curves"), [(0, 8), (1, 8), (2, 4)])
def test_every_way_has_its_curve_and_both_tokenizers_stand_beside_each_other(number: int, curves: int) -> None:
    chart = findings(FULL).charts[number]
    assert isinstance(chart, Lines)
    assert len(chart.curves) == curves
    for name, points in chart.curves.items():
        assert [tokens for tokens, _ in points] == list(FULL.resent if name.endswith(LIBRARY) else FULL.histories)
