"""What the findings of `bench turn` say of samples made up beforehand."""

from hotloop.bench.arms import Sample
from hotloop.bench.chart import Lines
from hotloop.bench.goals import judge
from hotloop.bench.turn import FULL, GOALS, QUICK, Arm, Plan, findings_of


def samples(plan: Plan) -> dict[Arm, list[Sample]]:
    made = {Arm("raw", "", "", 0, ""): [Sample(0.00005, completed_s=0.0001)] * 3}
    for arm in plan.arms():
        cost = 0.0002 if arm.is_hot else arm.tokens * 2e-7 + 0.0003
        one = Sample(cost, 0.0005, 0.001, 0.002, arm.tokens, arm.tokens, 1, 1)
        made[arm] = [one] * 3
    return made


def test_the_full_run_has_every_way_at_every_length_and_a_verdict_for_every_goal() -> None:
    assert len({arm.way for arm in FULL.arms()}) == 8
    findings = findings_of(FULL, samples(FULL))
    lines = {verdict.goal.name: verdict for verdict in judge(GOALS, findings.figures, findings.skipped)}
    assert set(lines) == {goal.name for goal in GOALS}
    assert all(verdict.outcome == "ok" for verdict in lines.values())
    assert lines["vs_resend_200k"].line().startswith("goal vs_resend_200k value 202 limit 150 ok")
    assert findings.figures["first_delta_raw"].median == 10


def test_the_quick_run_says_which_goal_it_leaves_out() -> None:
    findings = findings_of(QUICK, samples(QUICK))
    verdicts = judge(GOALS, findings.figures, findings.skipped)
    assert {verdict.goal.name for verdict in verdicts} == {goal.name for goal in GOALS}
    assert [verdict.goal.name for verdict in verdicts if verdict.outcome == "skipped"] == ["flat_1m"]


def test_both_charts_have_a_curve_for_every_way() -> None:
    for chart in findings_of(FULL, samples(FULL)).charts:
        assert isinstance(chart, Lines)
        assert {len(points) for points in chart.curves.values()} == {len(FULL.histories)}
        assert len(chart.curves) == 8
