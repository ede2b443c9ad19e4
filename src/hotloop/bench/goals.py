"""Goals and how they are judged: the median of the rounds against a limit, with the spread as the benefit of the doubt."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hotloop.bench.chart import Bars
from hotloop.bench.rounds import Figure

Outcome = Literal["ok", "short", "skipped"]


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio and its limit.

    Not `judged`: it is shown beside the limit that the finished hot path has to reach. Not `in_quick`: a short run, or a
    machine that does other work too, says too little about it; it is shown there and judged in the full run.
    """

    name: str
    limit: float
    at_most: bool = True
    judged: bool = True
    in_quick: bool = True

    def is_missed_by(self, figure: Figure) -> bool:
        """The median is beyond the limit by more than the spread."""
        beyond = figure.median - self.limit if self.at_most else self.limit - figure.median
        return beyond > figure.spread

    def share_of(self, figure: Figure) -> float:
        """How much of what is allowed is used: above 1 the goal is missed."""
        above, below = (figure.median, self.limit) if self.at_most else (self.limit, figure.median)
        return above / below if below else math.inf

    def __str__(self) -> str:
        return f"{self.name} {'≤' if self.at_most else '≥'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal, judged. `figure` is None if it was not measured."""

    goal: Goal
    figure: Figure | None
    outcome: Outcome
    reason: str

    def line(self) -> str:
        """`goal NAME value VALUE limit LIMIT ok|short|skipped REASON`."""
        value = "-" if self.figure is None else f"{self.figure.median:.{_digits(self.figure.median)}f}"
        return f"goal {self.goal.name} value {value} limit {self.goal.limit:g} {self.outcome} {self.reason}".rstrip()


def judge(
    goals: Sequence[Goal], figures: Mapping[str, Figure], skipped: Mapping[str, str], *, is_quick: bool = False
) -> list[Verdict]:
    """A verdict for every judged goal that was measured or skipped with a reason. A goal that is neither gets none."""
    verdicts: list[Verdict] = []
    for goal in goals:
        if not goal.judged:
            continue
        if goal.name in figures:
            figure = figures[goal.name]
            outcome: Outcome = "short" if goal.is_missed_by(figure) else "ok"
            reason = f"spread {figure.spread:.2g}"
            if is_quick and not goal.in_quick:
                outcome, reason = "skipped", "judged in the full run"
            verdicts.append(Verdict(goal, figure, outcome, reason))
        elif goal.name in skipped:
            verdicts.append(Verdict(goal, None, "skipped", skipped[goal.name]))
    return verdicts


def shown_lines(goals: Sequence[Goal], figures: Mapping[str, Figure]) -> list[str]:
    """Figures that later work has to bring to their limits: shown, never judged."""
    return [
        f"shown {goal.name} value {figures[goal.name].median:.{_digits(figures[goal.name].median)}f} "
        f"later limit {goal.limit:g} spread {figures[goal.name].spread:.2g}"
        for goal in goals
        if not goal.judged and goal.name in figures
    ]


def failures(goals: Sequence[Goal], verdicts: Sequence[Verdict]) -> list[str]:
    """What `--check` fails for: goals that are short, and judged goals without a verdict."""
    by_name = {verdict.goal.name: verdict for verdict in verdicts}
    found: list[str] = []
    for goal in goals:
        verdict = by_name.get(goal.name)
        if goal.judged and verdict is None:
            found.append(f"{goal.name} was not measured")
        elif verdict is not None and verdict.outcome == "short":
            found.append(f"{goal.name} is short")
    return found


def _digits(value: float) -> int:
    """Decimals that leave three digits of the value."""
    return max(0, 2 - math.floor(math.log10(abs(value)))) if value else 2


def chart_of(goals: Sequence[Goal], figures: Mapping[str, Figure]) -> Bars:
    """How much of each limit is used, for benches that have nothing else to draw."""
    shown = [goal for goal in goals if goal.name in figures and math.isfinite(goal.share_of(figures[goal.name]))]
    shares = [goal.share_of(figures[goal.name]) for goal in shown]
    return Bars(
        "Goals: the share of its limit that each uses", "1 is the limit", list(map(str, shown)), {"used": shares}
    )
