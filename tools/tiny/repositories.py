"""Small Python projects with a bug or two, and what their test runs print.

A `Repository` is a tree of files, the mends it needs and enough knowledge to say what the agent's three commands would
print at any state of the files, without starting a process; a test compares that with real runs.
"""

import builtins
import hashlib
import keyword
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from functions import KINDS, Kind
from words import PARAMETERS, Names

LIST_COMMAND = "find . -name '*.py' -o -name 'pytest.ini' | sort"
UNITTEST_COMMAND = "python3 -m unittest 2>&1 | grep -E '^[A-Z]{2}|Error'"
EXCERPT_LINES = 6  # behind the first: the longest function fits
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


def kinds_held_out(kinds: Sequence[int]) -> bool:
    """Tell whether a mix of kinds in one module is kept for evaluation: one mix in five, by a hash."""
    text = ",".join(str(kind) for kind in sorted(kinds))
    return len(kinds) > 1 and hashlib.sha256(text.encode()).digest()[0] % 5 == 0


# --- building -------------------------------------------------------------------------------------------------------


def _parameter_names(rng: random.Random, kind: Kind, names: Names) -> dict[str, str]:
    chosen: list[str] = []
    for pool in (*kind.parameters, "element", "result"):
        while True:
            drawn = rng.choice(PARAMETERS[pool])
            found = drawn.split(",")
            if rng.random() < 0.2 and pool != "pair":
                found = [names.noun()]
            if not set(found) & set(chosen) and not any(keyword.iskeyword(name) for name in found):
                break
        chosen += found
    *parameters, element, result = chosen
    return dict(zip("abc", parameters, strict=False)) | {"e": element, "r": result}


def _define(name: str, kind: Kind, slots: Mapping[str, str], docstring: str | None) -> list[str]:
    arguments = ", ".join(slots[key] for key in "abc" if key in slots)
    lines = [f"def {name}({arguments}):"]
    if docstring:
        lines.append(f'    """{docstring}"""')
    return lines + [f"    {line.format(**slots)}" for line in kind.body]


def _run(lines: Sequence[str], name: str, case: str) -> tuple[str, Any]:
    """Call the function on one case: ("value", result) or ("error", first line of the message unittest prints)."""
    scope: dict[str, Any] = {}
    try:
        exec("\n".join(lines), scope)
        return "value", eval(f"{name}({case})", scope)
    except Exception as error:  # a bug may raise anything; what it raises is what the tests print
        return "error", f"{type(error).__name__}: {error}"


def _make_function(
    rng: random.Random, index: int, noun: str, names: Names, taken: set[str], slots: dict[str, str] | None = None
) -> tuple[Function, dict[str, str]]:
    kind = KINDS[index]
    while True:
        name = rng.choice(kind.verbs)
        bare = rng.random() < 0.12 and not hasattr(builtins, name) and not keyword.iskeyword(name)
        if not bare:
            name = f"{name}_{noun}"
        if name not in taken:
            break
        noun = names.noun()
    taken.add(name)
    slots = slots or _parameter_names(rng, kind, names)
    docstring = f"Return {name.replace('_', ' ')}." if rng.random() < 0.1 else None
    lines = tuple(_define(name, kind, slots, docstring))
    cases = tuple(rng.sample(kind.cases, min(len(kind.cases), rng.choice((1, 2, 2)))))
    return Function(name, index, lines, lines, tuple(case.format() for case in cases)), slots


def _break(
    rng: random.Random, function: Function, slots: Mapping[str, str], *, compiles: bool
) -> tuple[int, str] | None:
    """Choose a bug that its tests notice: the number of a line of the function, and the wrong line."""
    kind = KINDS[function.kind]
    first = len(function.right) - len(kind.body)
    if not compiles:
        spots = [number for number, line in enumerate(function.right) if line.endswith(":")]
        number = rng.choice(spots)
        return number, function.right[number][:-1]
    for number, wrong in rng.sample(kind.bugs, len(kind.bugs)):
        line = f"    {wrong.format(**slots)}"
        if is_noticed(function, first + number, line):
            return first + number, line
    return None


def broken_function(rng: random.Random, kind: int, names: Names) -> tuple[str, list[str], str, str]:
    """One broken function alone: its name, its lines, the wrong line and the right one."""
    while True:
        function, slots = _make_function(rng, kind, names.noun(), names, set())
        if found := _break(rng, function, slots, compiles=True):
            number, wrong = found
            lines = [*function.right[:number], wrong, *function.right[number + 1 :]]
            return function.name, lines, wrong, function.right[number]


def _planned(function: Function, slots: Mapping[str, str], bug: int) -> tuple[int, str] | None:
    kind = KINDS[function.kind]
    number, wrong = kind.bugs[bug]
    number += len(function.right) - len(kind.body)
    line = f"    {wrong.format(**slots)}"
    return (number, line) if is_noticed(function, number, line) else None


def is_noticed(function: Function, number: int, line: str) -> bool:
    """Tell whether the function's test fails with one line replaced."""
    lines = list(function.right)
    lines[number] = line
    return outcome(function, lines) is not None


def outcome(function: Function, lines: Sequence[str]) -> tuple[str, Any, Any] | None:
    """Run the function's test on given lines: None when it passes, else ("fail", got, wanted) or ("error", text, None)."""
    for case in function.cases:
        _, wanted = _run(function.right, function.name, case)
        what, got = _run(lines, function.name, case)
        if what == "error":
            return "error", got, None
        if got != wanted:
            return "fail", got, wanted
    return None


def _module_paths(rng: random.Random, names: list[str]) -> tuple[list[str], str | None]:
    package = names[-1] if rng.random() < 0.5 else None
    return [f"{package}/{name}.py" if package else f"{name}.py" for name in names[:-1]], package


def build(
    rng: random.Random,
    *,
    held_out: bool,
    bugs: int | None = None,
    functions: int | None = None,
    ambiguous: bool = False,
    simple: bool = False,
) -> Repository:
    """Make one project.

    Args:
        held_out: use only names and mixes of functions that training never sees.
        bugs: how many lines are wrong; drawn when None, 0 gives a project whose tests pass.
        functions: how many functions a module has; drawn when None.
        ambiguous: ask for a wrong line that stands in its file more than once.
        simple: a flat layout with one module, for the first lessons.
    """
    for _ in range(1000):
        clash = rng.choice(CLASHES) if ambiguous else None
        repository = _attempt(rng, held_out, bugs, functions, simple, clash)
        if repository is not None:
            return repository
    raise AssertionError("no project found: loosen the request")


def _clashes() -> tuple[tuple[int, int, int], ...]:
    """(kind, its bug, other kind): where the first goes wrong by the line that is right in the second."""
    return tuple(
        (index, number, other)
        for index, kind in enumerate(KINDS)
        for number, (_, wrong) in enumerate(kind.bugs)
        for other, second in enumerate(KINDS)
        if other != index and second.parameters == kind.parameters and wrong in second.body
    )


CLASHES = _clashes()


def _attempt(
    rng: random.Random,
    held_out: bool,
    bugs: int | None,
    functions: int | None,
    simple: bool,
    clash: tuple[int, int, int] | None,
) -> Repository | None:
    names = Names(rng, held_out=held_out)
    module_count = 1 if simple else rng.choices((1, 2, 3), (60, 30, 10))[0]
    paths, package = _module_paths(rng, names.nouns(module_count + 1))
    if simple and package:
        paths, package = [path.partition("/")[2] for path in paths], None
    slots_of: dict[str, dict[str, str]] = {}
    modules: list[Module] = []
    for path in paths:
        module = _make_module(rng, path, names, functions, slots_of, held_out, clash if not modules else None)
        if module is None:
            return None
        modules.append(module)
    repository = Repository(modules, [], {}, pytest=rng.random() < 0.35)
    _add_tests(rng, repository, package, simple)
    _add_others(rng, repository, package, names, simple)
    wanted = bugs if bugs is not None else rng.choices((0, 1, 2), (5, 77, 18))[0]
    return repository if _plant(rng, repository, slots_of, max(wanted, 1) if clash else wanted, clash) else None


def _make_module(
    rng: random.Random,
    path: str,
    names: Names,
    functions: int | None,
    slots_of: dict[str, dict[str, str]],
    held_out: bool,
    clash: tuple[int, int, int] | None,
) -> Module | None:
    count = functions or rng.choices((1, 2, 3, 4, 5), (8, 30, 34, 20, 8))[0]
    kinds = rng.sample(range(len(KINDS)), count)
    if clash:
        first, _, second = clash
        others = [kind for kind in kinds if kind not in (first, second)]
        kinds = [first, second, *others[: max(count - 2, 0)]]
        rng.shuffle(kinds)
    elif rng.random() < 0.15 and count > 1:  # twins: the same kind twice under different names
        kinds[-1] = kinds[0]
    if len(kinds) > 1 and kinds_held_out(kinds) != held_out:
        return None
    shared = path.rpartition("/")[2].removesuffix(".py") if rng.random() < 0.5 else None
    taken = set(slots_of)
    made: list[Function] = []
    common = _parameter_names(rng, KINDS[clash[0]], names) if clash else None
    for index in kinds:
        given = common if clash and index in (clash[0], clash[2]) else None
        function, slots = _make_function(rng, index, shared or names.noun(), names, taken, given)
        slots_of[function.name] = slots
        made.append(function)
    head = rng.choices(("", f'"""{names.noun().title()} functions."""\n\n\n', "import math\n\n\n"), (80, 15, 5))[0]
    return Module(path, head, rng.choice(("\n\n", "\n\n", "\n")), made)


def _add_tests(rng: random.Random, repository: Repository, package: str | None, simple: bool) -> None:
    where = rng.choice(("", "", "tests/", "tests/"))
    if package and rng.random() < 0.2:
        where = f"{package}/"
    if simple:
        where = ""
    stem = repository.modules[0].path.rpartition("/")[2].removesuffix(".py").title()
    class_name = rng.choice(("Tests", "Tests", "TestAll", "TestCases", f"Test{stem}", f"{stem}Test", f"Test{stem}"))
    if rng.random() < (0.25 if len(repository.modules) > 1 else 0.06) and not simple:
        repository.tests.append(TestFile(f"{where}test_all.py", class_name, list(repository.modules)))
    else:
        for module in repository.modules:
            stem = module.path.rpartition("/")[2]
            repository.tests.append(TestFile(f"{where}test_{stem}", class_name, [module]))
    if where == "tests/":
        repository.others["tests/__init__.py"] = ""
    if package:
        repository.others[f"{package}/__init__.py"] = ""
    if repository.pytest:
        repository.others["pytest.ini"] = "[pytest]\n"


def _add_others(rng: random.Random, repository: Repository, package: str | None, names: Names, simple: bool) -> None:
    for _ in range(rng.choices((0, 1, 2, 3), (50, 25, 15, 10))[0] if not simple else 0):
        match rng.randrange(5):
            case 0:
                repository.others["setup.py"] = "from setuptools import setup\n\nsetup()\n"
            case 1:
                repository.others["README.md"] = "A project.\n"
            case 2:
                repository.others[f"docs/{names.noun()}.py"] = "author = 'me'\n"
            case 3:
                repository.others[f"{package + '/' if package else ''}{names.noun()}.py"] = "LIMIT = 10\n"
            case _:
                repository.others[f"scripts/{names.noun()}.py"] = "print('hello')\n"
    taken = {module.path for module in repository.modules}
    for path in list(repository.others):
        if path in taken:
            del repository.others[path]


def _plant(
    rng: random.Random,
    repository: Repository,
    slots_of: Mapping[str, dict[str, str]],
    bugs: int,
    clash: tuple[int, int, int] | None,
) -> bool:
    places = [(module, number) for module in repository.modules for number in range(len(module.functions))]
    if len(places) < bugs:
        return False
    broken_syntax = bugs == 1 and not clash and rng.random() < 0.08
    chosen = rng.sample(places, bugs)
    if clash:
        spot = next(place for place in places if place[0].functions[place[1]].kind == clash[0])
        apart = [place for place in chosen if place != spot and place[0].functions[place[1]].kind != clash[2]]
        chosen = [spot, *apart][:bugs]
    for module, number in chosen:
        function = module.functions[number]
        if clash and function.kind == clash[0]:
            found = _planned(function, slots_of[function.name], clash[1])
        else:
            found = _break(rng, function, slots_of[function.name], compiles=not broken_syntax)
        if found is None:
            return False
        line, wrong = found
        now = (*function.right[:line], wrong, *function.right[line + 1 :])
        module.functions[number] = Function(function.name, function.kind, function.right, now, function.cases)
        quote = "\n".join(now[: line + 1])
        repository.mends.append(Mend(module.path, function.name, wrong, function.right[line], quote, not broken_syntax))
    return True


# --- the files of tests ---------------------------------------------------------------------------------------------


def _imports(test: TestFile) -> str:
    return "".join(
        f"from {module.dotted} import {', '.join(function.name for function in module.functions)}\n"
        for module in test.modules
    )


def _functions(test: TestFile) -> list[tuple[Module, Function]]:
    return [(module, function) for module in test.modules for function in module.functions]


def _wanted(function: Function, case: str) -> str:
    return repr(_run(function.right, function.name, case)[1])


def _unittest_source(test: TestFile) -> str:
    lines = ["import unittest", "", _imports(test), "", f"class {test.class_name}(unittest.TestCase):"]
    for _, function in _functions(test):
        lines.append(f"    def test_{function.name}(self):")
        lines += [
            f"        self.assertEqual({function.name}({case}), {_wanted(function, case)})" for case in function.cases
        ]
        lines.append("")
    return "\n".join(lines)


def _pytest_source(test: TestFile) -> str:
    lines = [_imports(test), ""]
    for _, function in _functions(test):
        lines.append(f"def test_{function.name}():")
        lines += [f"    assert {function.name}({case}) == {_wanted(function, case)}" for case in function.cases]
        lines += ["", ""]
    return "\n".join(lines)


# --- what the commands print ----------------------------------------------------------------------------------------


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
        for _, function in sorted(_functions(test), key=lambda pair: f"test_{pair[1].name}"):
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
        for _, function in _functions(test):
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
