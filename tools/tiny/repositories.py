"""Small Python projects: modules, tests, and what is wrong with them.

A `Repository` is a tree of files and the mends it needs. Every function of it can be run on the cases of its test at any state
of its lines, without starting a process.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

UNITTEST_COMMAND = "python3 -m unittest 2>&1 | grep -E '^[A-Z]{2}|Error'"
PYTEST_COMMAND = "python3 -m pytest -q --tb=no 2>&1 | grep -E 'FAILED|ERROR|[0-9]s$'"


@dataclass(frozen=True, slots=True)
class Mend:
    """One line to change: `wrong` stands in the file, `right` should."""

    path: str
    function: str
    wrong: str
    right: str
    quote: str  # the lines from the function's `def` to the wrong one, as they stand in the file
    compiles: bool


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a module: its lines when right, and the cases of its test."""

    name: str
    kind: int
    right: tuple[str, ...]
    now: tuple[str, ...]
    cases: tuple[str, ...]


@dataclass(slots=True)
class Module:
    """A module with its functions, in order of the file."""

    path: str
    head: str
    gap: str
    functions: list[Function]

    @property
    def dotted(self) -> str:
        """The name it is imported by."""
        return self.path.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """The file's text."""
        return self.head + self.gap.join("\n".join(function.now) + "\n" for function in self.functions)


@dataclass(slots=True)
class TestFile:
    """One file of tests and the modules it covers."""

    path: str
    class_name: str
    modules: list[Module]

    @property
    def dotted(self) -> str:
        """The name unittest prints."""
        return self.path.removesuffix(".py").replace("/", ".")

    def functions(self) -> list[Function]:
        """All that its modules define, in order."""
        return [function for module in self.modules for function in module.functions]


@dataclass(slots=True)
class Repository:
    """A project: modules, test files, other files, and what is wrong with it."""

    modules: list[Module]
    tests: list[TestFile]
    others: dict[str, str]
    pytest: bool
    mends: list[Mend] = field(default_factory=list)

    @property
    def test_command(self) -> str:
        """How the agent runs the tests here."""
        return PYTEST_COMMAND if self.pytest else UNITTEST_COMMAND

    def files(self) -> dict[str, str]:
        """Every file, path to text."""
        files = dict(self.others)
        for module in self.modules:
            files[module.path] = module.source()
        for test in self.tests:
            files[test.path] = _pytest_source(test) if self.pytest else _unittest_source(test)
        return files


def run(lines: Sequence[str], name: str, case: str) -> tuple[str, Any]:
    """Call the function on one case: ("value", result) or ("error", first line of the message unittest prints)."""
    scope: dict[str, Any] = {}
    try:
        exec("\n".join(lines), scope)
        return "value", eval(f"{name}({case})", scope)
    except Exception as error:  # a bug may raise anything; what it raises is what the tests print
        return "error", f"{type(error).__name__}: {error}"


def is_noticed(function: Function, number: int, line: str) -> bool:
    """Tell whether the function's test fails with one line replaced."""
    lines = list(function.right)
    lines[number] = line
    return outcome(function, lines) is not None


def outcome(function: Function, lines: Sequence[str]) -> tuple[str, Any, Any] | None:
    """Run the function's test on given lines: None when it passes, else ("fail", got, wanted) or ("error", text, None)."""
    for case in function.cases:
        _, wanted = run(function.right, function.name, case)
        what, got = run(lines, function.name, case)
        if what == "error":
            return "error", got, None
        if got != wanted:
            return "fail", got, wanted
    return None


def _imports(test: TestFile) -> str:
    return "".join(
        f"from {module.dotted} import {', '.join(function.name for function in module.functions)}\n"
        for module in test.modules
    )


def _wanted(function: Function, case: str) -> str:
    return repr(run(function.right, function.name, case)[1])


def _unittest_source(test: TestFile) -> str:
    lines = ["import unittest", "", _imports(test), "", f"class {test.class_name}(unittest.TestCase):"]
    for function in test.functions():
        lines.append(f"    def test_{function.name}(self):")
        lines += [
            f"        self.assertEqual({function.name}({case}), {_wanted(function, case)})" for case in function.cases
        ]
        lines.append("")
    return "\n".join(lines)


def _pytest_source(test: TestFile) -> str:
    lines = [_imports(test), ""]
    for function in test.functions():
        lines.append(f"def test_{function.name}():")
        lines += [f"    assert {function.name}({case}) == {_wanted(function, case)}" for case in function.cases]
        lines += ["", ""]
    return "\n".join(lines)
