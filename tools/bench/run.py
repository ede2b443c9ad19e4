"""Every bench in full, one after the other, unattended: `python -m tools.bench.run [--resume] [NAME …]`.

What each one prints and measured goes to `.bench/`, its table, goals and plot into docs/measurements.md as soon as it is done.
A bench that fails or is short of a goal does not keep the others from running; the exit code says so at the end: 1 if a goal
is short, 2 if a bench could not measure. `--resume` leaves out those that were measured already.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path

from tools.bench.document import refresh
from tools.bench.readme import refresh_readme

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".bench"
DOCUMENT = ROOT / "docs/measurements.md"
# What a server pays that tokenizes with a published vocabulary of a large open model, as such models are served.
PUBLISHED = ("--tokenizer", ".assets/tokenizers/deepseek_v3.json", "--format", "deepseek-v3.1")
SHORT, FAILED = 1, 2


@dataclass(frozen=True)
class Step:
    """One bench; `program` stands for `hotloop bench NAME`."""

    name: str
    options: Sequence[str] = ()
    program: Sequence[str] = ()


STEPS = (
    Step("turn", PUBLISHED),
    Step("chain"),
    Step("floor"),
    Step("render"),
    Step("rollout", PUBLISHED),
    Step("load"),
    Step("stall"),
    Step("peers", program=("tools/peers/run.py", ".peers")),
)


@dataclass(frozen=True)
class Outcome:
    """How a step went."""

    name: str
    code: int
    said: str
    minutes: float


def play(step: Step, *, quick: bool, document: Path, results: Path) -> Outcome:
    """Run it and show its result."""
    result, log = results / f"{step.name}.json", results / f"{step.name}.txt"
    plot = document.parent / "plots" / f"{step.name}.svg"
    command = [sys.executable, *(step.program or ("-m", "hotloop", "bench", step.name)), *step.options]
    command += [*(["--quick"] if quick else []), "--check", "--json", relpath(result, ROOT)]
    command += ["--plot", relpath(plot, ROOT)]
    result.unlink(missing_ok=True)
    begun = time.monotonic()
    with log.open("w") as output:
        code = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    minutes = (time.monotonic() - begun) / 60
    if not result.exists():
        last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
        return Outcome(step.name, FAILED, last, minutes)
    refresh(document, step.name, result, f"plots/{step.name}.svg")
    return Outcome(step.name, code, told(result), minutes)


def told(result: Path) -> str:
    """The goals that are short, or that all is well."""
    goals = json.loads(result.read_text())["goals"]
    short = [goal["goal"]["name"] for goal in goals if goal["outcome"] == "short"]
    return f"short: {', '.join(short)}" if short else f"{len(goals)} goals, none short"


def exit_code(outcomes: Sequence[Outcome]) -> int:
    if any(outcome.code not in (0, SHORT) for outcome in outcomes):
        return FAILED
    return SHORT if any(outcome.code == SHORT for outcome in outcomes) else 0


def main(arguments: Sequence[str]) -> int:
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(prog="python -m tools.bench.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    parser.add_argument("--resume", action="store_true", help="leave out what .bench has a result of")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all of it works")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="where the tables go, its plots beside it")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in names:
            parser.error(f"there is no bench {name}")
    RESULTS.mkdir(exist_ok=True)
    outcomes: list[Outcome] = []
    for step in STEPS:
        if given.names and step.name not in given.names:
            continue
        if given.resume and (RESULTS / f"{step.name}.json").exists():
            print(f"{step.name}: measured already", flush=True)
            continue
        print(f"{step.name}: measuring, see .bench/{step.name}.txt", flush=True)
        outcomes.append(play(step, quick=given.quick, document=given.document, results=RESULTS))
        print(f"{step.name}: {outcomes[-1].said} ({outcomes[-1].minutes:.1f} minutes)", flush=True)
    print()
    for outcome in outcomes:
        print(f"{outcome.name:8} exit {outcome.code}  {outcome.said}")
    if given.document == DOCUMENT:
        refresh_readme(ROOT / "README.md", RESULTS)
    return exit_code(outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
