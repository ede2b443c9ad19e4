"""Modules and functions stay short enough to be read in one go."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "tools")
TRAINING_RUNS = ROOT / "tools/tiny/runs"  # with an environment of its own
MODULES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.is_relative_to(TRAINING_RUNS)
)
MOST_MODULE_LINES = 500
MOST_FUNCTION_LINES = 60


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Each function of a module, with how many lines it has."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def test_every_module_is_looked_at() -> None:
    assert {"app.py", Path(__file__).name} <= {path.name for path in MODULES}


@pytest.mark.parametrize("folder", FOLDERS)
def test_modules_and_functions_stay_short(folder: str) -> None:
    too_long: list[str] = []
    for path in MODULES:
        if path.is_relative_to(ROOT / folder):
            source = path.read_text(encoding="utf-8")
            if (count := len(source.splitlines())) > MOST_MODULE_LINES:
                too_long.append(f"{path.relative_to(ROOT)}: {count} lines")
            too_long += [
                f"{path.relative_to(ROOT)}: {name} has {lines} lines"
                for name, lines in functions(source)
                if lines > MOST_FUNCTION_LINES
            ]
    assert too_long == []
