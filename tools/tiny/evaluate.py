"""Evaluation by doing: the real agent against the real server, in repositories that training never saw.

`python evaluate.py --repositories 50` starts `hotloop serve` with the shipped model, lets `hotloop agent exec` work in one
folder after the other, runs each repository's own tests afterwards and prints `solved K/N` last.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import unseen
from repositories import Repository

from hotloop.cli.local_server import LocalServer, local_server

AGENT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """What the agent did in one repository."""

    solved: bool
    status: str  # the agent's own word for how it ended
    calls: int
    elapsed_s: float
    said: str


def work(server: LocalServer, repository: Repository, task: str) -> Run:
    """Let the agent work in a fresh folder, then run the repository's tests."""
    with tempfile.TemporaryDirectory(prefix="hotloop-tiny-") as name:
        folder = Path(name)
        unseen.write(repository, folder)
        began = time.monotonic()
        events = _run_agent(server, folder, task)
        elapsed_s = time.monotonic() - began
        outcome: dict[str, Any] = next((event["outcome"] for event in events if "outcome" in event), {})
        return Run(
            solved=unseen.tests_pass(repository, folder),
            status=str(outcome.get("status", "no outcome")),
            calls=sum("call" in event for event in events),
            elapsed_s=elapsed_s,
            said=str(outcome.get("text", "")),
        )


def _run_agent(server: LocalServer, folder: Path, task: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "hotloop", "agent", "exec", task, "--url", server.url, "--yes", "--json"]
    command += ["--cwd", str(folder), "--timeout", str(AGENT_TIMEOUT_S)]
    done = subprocess.run(
        command, env=unseen.environment(), capture_output=True, text=True, timeout=2 * AGENT_TIMEOUT_S, check=False
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    """Evaluate, print a line for each repository, the rates by kind and the total."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    solved: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    with local_server() as server:
        for number in range(options.repositories):
            repository, task = unseen.make(options.seed, number)
            run = work(server, repository, task)
            for trait in ["all", *unseen.traits(repository)]:
                seen[trait] += 1
                solved[trait] += run.solved
            word = "solved" if run.solved else "NOT SOLVED"
            print(
                f"{number:3} {word:10} {run.calls:2} calls {run.elapsed_s:5.1f} s  {run.status}: {run.said}", flush=True
            )
    for trait in sorted(set(seen) - {"all"}):
        print(f"{trait}: {solved[trait]}/{seen[trait]}")
    print(f"solved {solved['all']}/{seen['all']}")


if __name__ == "__main__":
    main()
