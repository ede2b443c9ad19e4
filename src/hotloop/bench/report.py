"""A bench's result as text and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hotloop.bench.chart import Chart
from hotloop.bench.goals import Goal, Verdict, shown_lines
from hotloop.bench.machine import Surroundings
from hotloop.bench.rounds import Figure


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells below a head; printed as a Markdown table, so that a document can quote it."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def lines(self) -> list[str]:
        """The table, columns aligned; all but the first to the right."""
        widths = [max(len(row[column]) for row in [self.head, *self.rows]) for column in range(len(self.head))]
        rule = "|".join("-" * (width + 1) + (":" if column else "-") for column, width in enumerate(widths))
        return [self.title, "", _row(self.head, widths), f"|{rule}|", *(_row(row, widths) for row in self.rows)]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a bench measured. `figures` are the ratios, by goal name; `notes` say how to read the table."""

    table: Table
    figures: dict[str, Figure]
    notes: list[str]
    samples: dict[str, Any] = field(default_factory=dict)  # per arm and round, for the JSON file
    skipped: dict[str, str] = field(default_factory=dict)  # goals that could not be measured, and why
    charts: Sequence[Chart] = ()  # for `--plot`
    more: Sequence[Table] = ()  # further tables

    @property
    def tables(self) -> list[Table]:
        """All of them, in order."""
        return [self.table, *self.more]


@dataclass(frozen=True, slots=True)
class Report:
    """A bench's result with everything a reader needs to trust or repeat its figures."""

    title: str
    surroundings: Surroundings
    findings: Findings
    goals: Sequence[Goal]
    verdicts: Sequence[Verdict]

    def text(self) -> str:
        """For a terminal."""
        parts = [
            [self.title],
            self.surroundings.lines(),
            *(table.lines() for table in self.findings.tables),
            self.findings.notes,
            self._goal_lines(),
        ]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def write_json(self, path: Path) -> None:
        """For programs, with the sample of every round. Raises OSError."""
        findings = self.findings
        result = {
            "title": self.title,
            "surroundings": asdict(self.surroundings),
            "tables": [asdict(table) for table in findings.tables],
            "notes": findings.notes,
            "figures": {name: asdict(figure) for name, figure in findings.figures.items()},
            "goals": [asdict(verdict) for verdict in self.verdicts],
            "goal_lines": self._goal_lines(),
            "samples": findings.samples,
        }
        path.write_text(json.dumps(result, indent=1) + "\n")

    def _goal_lines(self) -> list[str]:
        shown = shown_lines(self.goals, self.findings.figures)
        return [*shown, *(verdict.line() for verdict in self.verdicts)]
