"""The few figures that the README shows, out of the results of `bench turn` and `bench floor`."""

import json
from pathlib import Path
from typing import Any

from tools.bench.document import between, markers

from hotloop.bench.vocabularies import FAST

WAYS = ("websocket previous caches on", "http resend caches on", "http resend caches off")
HEAD = (
    "tokens of history",
    "WebSocket, `previous_response_id`",
    "HTTP, history resent",
    "the same without hotloop's caches",
)


def refresh_readme(readme: Path, results: Path) -> None:
    """Show them, if both were measured. Raises ValueError if the README has no place for them."""
    files = [results / "turn.json", results / "floor.json"]
    if all(path.exists() for path in files):
        turn, floor = (json.loads(path.read_text()) for path in files)
        readme.write_text(between(readme.read_text(), markers("readme"), shown(turn, floor), str(readme)))


def shown(turn: dict[str, Any], floor: dict[str, Any]) -> str:
    head, rows = turn["tables"][0]["head"], turn["tables"][0]["rows"]
    entries = [dict(zip(head, row, strict=True)) for row in rows]
    entries = [one for one in entries if (one["tokenizer"], one["answer"]) == (FAST, "short")]
    cpu = {(one["arm"], one["history"]): one["CPU µs"] for one in entries}
    histories = [one["history"] for one in entries if one["arm"] == WAYS[0]]
    lines = [f"| {' | '.join(HEAD)} |", "|---:|---:|---:|---:|"]
    for history in histories:
        lines.append(f"| {history} | {' | '.join(milliseconds(cpu[way, history]) for way in WAYS)} |")
    flat, fixed = turn["figures"], floor["figures"]["fixed_turn"]["median"]
    return "\n".join(
        [
            *lines,
            "",
            f"A turn behind 200,000 tokens costs {times(flat['flat_200k'])} one behind 1,000, one behind a million "
            f"{times(flat['flat_1m'])} (`hotloop bench",
            f"turn`). The fixed cost of a turn is {fixed:.1f} bare socket round trips; its goal is 6 (`hotloop bench floor`).",
        ]
    )


def milliseconds(microseconds: str) -> str:
    """Two digits of a table's cell."""
    value = float(microseconds.replace(",", "")) / 1e3
    return f"{value:.2f} ms" if value < 1 else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def times(figure: dict[str, float]) -> str:
    return f"{figure['median']:.2f} ± {figure['spread']:.2f} times"
