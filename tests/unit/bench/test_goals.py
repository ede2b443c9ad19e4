import re

import pytest

from hotloop.bench.goals import Goal, chart_of, failures, judge, shown_lines
from hotloop.bench.rounds import Figure

LINE = re.compile(
    r"goal (?P<name>\S+) value (?P<value>\S+) limit (?P<limit>\S+) (?P<outcome>ok|short|skipped)( (?P<reason>.+))?"
)
AT_MOST = Goal("flat", 1.10)
AT_LEAST = Goal("faster", 20, at_most=False)


@pytest.mark.parametrize(
    ("goal", "median", "spread", "outcome"),
    [
        (AT_MOST, 1.10, 0.0, "ok"),
        (AT_MOST, 1.12, 0.03, "ok"),  # beyond the limit, but by less than the spread
        (AT_MOST, 1.14, 0.03, "short"),
        (AT_LEAST, 25, 0.0, "ok"),
        (AT_LEAST, 19, 2, "ok"),
        (AT_LEAST, 17, 2, "short"),
    ],
)
def test_a_goal_is_short_when_its_median_misses_by_more_than_the_spread(
    goal: Goal, median: float, spread: float, outcome: str
) -> None:
    (verdict,) = judge([goal], {goal.name: Figure(median, spread, 9)}, {})
    assert verdict.outcome == outcome


def test_the_line_has_the_form_that_scripts_read() -> None:
    figures = {"flat": Figure(1.2345, 0.01, 9)}
    verdicts = judge([AT_MOST, AT_LEAST], figures, {"faster": "no second core"})
    lines = [verdict.line() for verdict in verdicts]
    assert lines == [
        "goal flat value 1.23 limit 1.1 short spread 0.01",
        "goal faster value - limit 20 skipped no second core",
    ]
    for line, name in zip(lines, ("flat", "faster"), strict=True):
        found = LINE.fullmatch(line)
        assert found is not None
        assert found["name"] == name


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0123, "0.0123"), (1.0049, "1.00"), (38.26, "38.3"), (412.7, "413"), (0, "0.00")]
)
def test_values_keep_three_digits(value: float, shown: str) -> None:
    (verdict,) = judge([AT_MOST], {"flat": Figure(value, 0.5, 3)}, {})
    assert verdict.line().split()[3] == shown


def test_check_fails_for_what_is_short_and_for_what_was_not_measured() -> None:
    goals = [AT_MOST, AT_LEAST, Goal("skipped", 1), Goal("missing", 1), Goal("later", 1, judged=False)]
    figures = {"flat": Figure(1.0, 0, 9), "faster": Figure(2, 0, 9)}
    verdicts = judge(goals, figures, {"skipped": "no such thing here"})
    assert failures(goals, verdicts) == ["faster is short", "missing was not measured"]


def test_a_figure_of_later_work_is_shown_and_never_judged() -> None:
    goal = Goal("later", 150, at_most=False, judged=False)
    figures = {"later": Figure(12.0, 1.0, 9)}
    assert judge([goal], figures, {}) == []
    assert shown_lines([goal], figures) == ["shown later value 12.0 later limit 150 spread 1"]


def test_what_a_quick_run_cannot_tell_is_shown_there_and_judged_in_the_full_run() -> None:
    goal = Goal("far", 2, in_quick=False)
    figures = {"far": Figure(3, 0.1, 5)}
    (quick,) = judge([goal], figures, {}, is_quick=True)
    assert quick.line() == "goal far value 3.00 limit 2 skipped judged in the full run"
    (full,) = judge([goal], figures, {})
    assert full.outcome == "short"
    assert failures([goal], [quick]) == []


def test_a_goals_chart_shows_how_much_of_each_limit_is_used() -> None:
    chart = chart_of([AT_MOST, AT_LEAST, Goal("missing", 1)], {"flat": Figure(0.55, 0, 9), "faster": Figure(40, 0, 9)})
    assert chart.bars == ["flat ≤ 1.1", "faster ≥ 20"]
    assert chart.parts["used"] == pytest.approx([0.5, 0.5])
