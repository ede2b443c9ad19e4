"""Puts the results of benches into the document that shows them, each between its markers.

    <!-- bench NAME -->
    … replaced …
    <!-- /bench NAME -->

What stands around the markers is written by hand and stays.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotloop.bench.machine import Surroundings
from hotloop.bench.report import Table


def refresh(document: Path, name: str, results: Sequence[Path], plot: str | None = None) -> None:
    """Show the results of one bench, several runs below each other. Raises ValueError if the document has no such markers."""
    text = document.read_text()
    begin, end = f"<!-- bench {name} -->\n", f"<!-- /bench {name} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{document}: there is no {begin.strip()} … {end.strip()}")
    shown = section([json.loads(path.read_text()) for path in results], plot)
    document.write_text(f"{before}{begin}\n{shown}\n\n{end}{after}")


def section(results: Sequence[dict[str, Any]], plot: str | None) -> str:
    """The runs of a bench as Markdown: where, tables, how to read them, goals, plot. Runs with one head share a table."""
    first = results[0]
    surroundings = Surroundings(**first["surroundings"]).lines()
    others = [f"command   {result['surroundings']['command']}" for result in results[1:]]
    parts = [fenced([*surroundings, *others])]
    for number, table in enumerate(first["tables"]):
        rows = unique(row for result in results for row in result["tables"][number]["rows"])
        parts.append("\n".join(Table(table["title"], tuple(table["head"]), rows).lines()))
    parts.append("\n".join(f"* {note}" for note in first["notes"]))
    goals = [line for result in results for line in result["goal_lines"]]
    parts += [fenced(goals)] if goals else []
    parts += [f"![{first['title'].partition(': ')[2]}]({plot})"] if plot else []
    return "\n\n".join(parts)


def unique(rows: Any) -> list[tuple[str, ...]]:
    """The rows; of those that tell of the same arm (all that is not a figure) the first."""
    kept: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in map(tuple, rows):
        kept.setdefault(row[:3], row)
    return list(kept.values())


def fenced(lines: Sequence[str]) -> str:
    return "\n".join(["```", *lines, "```"])
