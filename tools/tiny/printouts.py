"""What the agent's commands print in a project at any state of its files; a test compares that with real runs."""

from typing import Any

from repositories import Function, Module, Repository, outcome

LIST_COMMAND = "find . -name '*.py' -o -name 'pytest.ini' | sort"
EXCERPT_LINES = 6  # behind the first: the longest function fits


def listing(repository: Repository) -> str:
    """What LIST_COMMAND prints under the C locale."""
    paths = [path for path in repository.files() if path.endswith((".py", "pytest.ini"))]
    return "\n".join(sorted(f"./{path}" for path in paths))


def excerpt(module: Module, function: str) -> str:
    """What `grep -A 6 'def NAME(' PATH` prints: the function, and perhaps the beginning of the next."""
    lines = module.source().rstrip("\n").split("\n")
    begin = next(number for number, line in enumerate(lines) if f"def {function}(" in line)
    return "\n".join(lines[begin : begin + 1 + EXCERPT_LINES])


def definitions(repository: Repository, function: str) -> str:
    """What `grep -rn 'def NAME(' .` prints."""
    return "\n".join(
        f"./{module.path}:{number}:{line}"
        for module in repository.modules
        for number, line in enumerate(module.source().split("\n"), 1)
        if f"def {function}(" in line
    )


def test_output(repository: Repository, elapsed_s: str) -> tuple[str, list[Function | None]]:
    """What the test command prints now, and the functions it names in the order they are named.

    A test file that cannot be imported is named as None.
    """
    return _pytest_output(repository, elapsed_s) if repository.pytest else _unittest_output(repository)


def _syntax_error(module: Module) -> str | None:
    try:
        compile(module.source(), module.path, "exec")
    except SyntaxError as error:
        return f"{type(error).__name__}: {error.msg}"
    return None


def _unittest_output(repository: Repository) -> tuple[str, list[Function | None]]:
    errors: list[tuple[str, Function | None]] = []
    failures: list[tuple[str, Function | None]] = []
    marks = ""  # one for each test, in the line that comes first
    for test in sorted(repository.tests, key=lambda test: test.path):
        broken = [text for module in test.modules if (text := _syntax_error(module))]
        if broken:
            marks += "E"
            errors.append(
                (
                    f"ERROR: {test.dotted} (unittest.loader._FailedTest.{test.dotted})\n"
                    f"ImportError: Failed to import test module: {test.dotted}\n{broken[0]}",
                    None,
                )
            )
            continue
        for function in sorted(test.functions(), key=lambda function: f"test_{function.name}"):
            result = outcome(function, function.now)
            if result is None:
                marks += "."
                continue
            what, got, wanted = result
            marks += "E" if what == "error" else "F"
            place = f"test_{function.name} ({test.dotted}.{test.class_name}.test_{function.name})"
            if what == "error":
                errors.append((f"ERROR: {place}\n{got}", function))
            else:
                failures.append((f"FAIL: {place}\nAssertionError: {_unittest_message(got, wanted)}", function))
    if not errors and not failures:
        return "OK", []
    counts = [f"{name}={len(found)}" for name, found in (("failures", failures), ("errors", errors)) if found]
    # The agent looks for lines that begin with two capital letters.
    progress = [marks] if len(marks) > 1 and "." not in marks[:2] else []
    return "\n".join(progress + [text for text, _ in errors + failures] + [f"FAILED ({', '.join(counts)})"]), [
        function for _, function in errors + failures
    ]


def _unittest_message(got: Any, wanted: Any) -> str:
    for kind, word in ((list, "Lists"), (tuple, "Tuples")):
        if type(got) is kind and type(wanted) is kind:
            return f"{word} differ: {got!r} != {wanted!r}"
    return f"{got!r} != {wanted!r}"


def _pytest_output(repository: Repository, elapsed_s: str) -> tuple[str, list[Function | None]]:
    lines: list[str] = []
    named: list[Function | None] = []
    tests = sorted(repository.tests, key=lambda test: test.path)
    broken = [test for test in tests if any(_syntax_error(module) for module in test.modules)]
    if broken:
        many = "s" if len(broken) > 1 else ""
        ends = [f"{len(broken)} error{many} in {elapsed_s}s"]
        return "\n".join([f"ERROR {test.path}" for test in broken] + ends), [None] * len(broken)
    passed = 0
    for test in tests:
        for function in test.functions():
            result = outcome(function, function.now)
            if result is None:
                passed += 1
                continue
            what, got, wanted = result
            message = got if what == "error" else f"assert {got!r} == {wanted!r}"
            if what != "error" and "'" in message:
                message = f"AssertionError: {message}"
            lines.append(_trimmed(f"FAILED {test.path}::test_{function.name}", message))
            named.append(function)
    counts = [f"{len(lines)} failed"] * bool(lines) + [f"{passed} passed"] * bool(passed)
    return "\n".join([*lines, f"{', '.join(counts)} in {elapsed_s}s"]), named


def _trimmed(line: str, message: str, width: int = 80) -> str:
    """Cut a summary line as pytest does for a terminal of 80 columns."""
    room = width - len(line) - len(" - ")
    if room < 3:
        return line
    return f"{line} - {message}" if len(message) <= room else f"{line} - {message[:room]}"[: width - 3] + "..."
