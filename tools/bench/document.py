"""Puts a bench's result into the document that shows it, between its markers.

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


def refresh(document: Path, name: str, result: Path, plot: str) -> None:
    """Show what `--json` wrote. Raises ValueError if the document has no such markers."""
    shown = section(json.loads(result.read_text()), plot)
    document.write_text(between(document.read_text(), markers(name), shown, str(document)))


def markers(name: str) -> tuple[str, str]:
    return f"<!-- bench {name} -->\n", f"<!-- /bench {name} -->\n"


def between(text: str, marks: tuple[str, str], shown: str, place: str) -> str:
    """The text with something else between two marks. Raises ValueError if they are not there."""
    begin, end = marks
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{place}: there is no {begin.strip()} … {end.strip()}")
    return f"{before}{begin}\n{shown}\n\n{end}{after}"


def section(result: dict[str, Any], plot: str) -> str:
    """A run as Markdown: where, tables, how to read them, goals, plot."""
    parts = [fenced(Surroundings(**result["surroundings"]).lines())]
    parts += ["\n".join(Table(one["title"], tuple(one["head"]), one["rows"]).lines()) for one in result["tables"]]
    parts.append("\n".join(f"* {note}" for note in result["notes"]))
    parts += [fenced(result["goal_lines"])] if result["goal_lines"] else []
    parts.append(f"![{result['title'].partition(': ')[2]}]({plot})")
    return "\n\n".join(parts)


def fenced(lines: Sequence[str]) -> str:
    return "\n".join(["```", *lines, "```"])
