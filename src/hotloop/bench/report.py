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


def as_text(
    title: str, surroundings: Surroundings, findings: Findings, goals: Sequence[Goal], verdicts: Sequence[Verdict]
) -> str:
    """Everything a reader needs to trust or repeat the figures."""
    parts = [
        [title],
        surroundings.lines(),
        findings.table.lines(),
        findings.notes,
        shown_lines(goals, findings.figures),
        [verdict.line() for verdict in verdicts],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def write_json(path: Path, surroundings: Surroundings, findings: Findings, verdicts: Sequence[Verdict]) -> None:
    """The same for programs, with the sample of every round."""
    table = findings.table
    result = {
        "surroundings": asdict(surroundings),
        "table": [dict(zip(table.head, row, strict=True)) for row in table.rows],
        "notes": findings.notes,
        "figures": {name: asdict(figure) for name, figure in findings.figures.items()},
        "goals": [asdict(verdict) for verdict in verdicts],
        "samples": findings.samples,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
