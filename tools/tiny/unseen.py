"""Repositories that training never saw, on disk, and whether their own tests pass."""

import os
import random
import subprocess
import sys
from pathlib import Path

from building import build
from repositories import Repository
from tasks import task

TESTS_TIMEOUT_S = 60.0


def make(seed: int, number: int) -> tuple[Repository, str]:
    """The repository and the task with one number; the first of ten asks for an ambiguous line."""
    rng = random.Random(f"unseen-{seed}-{number}")
    bugs = rng.choices((1, 2), (80, 20))[0]
    repository = build(rng, held_out=True, bugs=bugs, ambiguous=number % 10 == 0)
    return repository, task(rng, repository)


def write(repository: Repository, folder: Path) -> None:
    """Put its files into a folder."""
    for path, text in repository.files().items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def environment() -> dict[str, str]:
    """The environment of the agent's commands: `python3` is the one that runs this, which has pytest."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    kept = {
        key: value for key, value in os.environ.items() if key not in ("COLUMNS", "CI", "BUILD_NUMBER", "PYTHONPATH")
    }
    # Plugins of the surrounding environment are none of the repository's business, and slow to load.
    return kept | {"PATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "LC_ALL": "C.UTF-8"}


def tests_pass(repository: Repository, folder: Path) -> bool:
    """Run the repository's own tests, whatever the agent said. Its test files are put back first."""
    files = repository.files()
    for test in repository.tests:
        (folder / test.path).write_text(files[test.path])
    runner = ["pytest", "-q", "-p", "no:cacheprovider"] if repository.pytest else ["unittest", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", *runner],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=TESTS_TIMEOUT_S,
        check=False,
    )
    return done.returncode == 0


def traits(repository: Repository) -> list[str]:
    """What makes this repository easy or hard, for rates by kind."""
    files = repository.files()
    found = ["pytest" if repository.pytest else "unittest", f"{len(repository.mends)} bugs"]
    found.append("package" if "/" in repository.mends[0].path else "flat")
    found.append(f"{max(len(module.functions) for module in repository.modules)} functions")
    if any(files[mend.path].count(mend.wrong) > 1 for mend in repository.mends):
        found.append("ambiguous")
    if any(not mend.compiles for mend in repository.mends):
        found.append("syntax error")
    if any(test.path.endswith("test_all.py") for test in repository.tests):
        found.append("test_all")
    if len(repository.modules) > 1:
        found.append("several modules")
    return found
