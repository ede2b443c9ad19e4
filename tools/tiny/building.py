"""Makes small Python projects with a bug or two, each out of a generator of random numbers alone."""

import builtins
import hashlib
import keyword
import random
from collections.abc import Mapping, Sequence

from functions import KINDS, Kind
from repositories import Function, Mend, Module, Repository, TestFile, is_noticed
from words import PARAMETERS, Names


def kinds_held_out(kinds: Sequence[int]) -> bool:
    """Tell whether a mix of kinds in one module is kept for evaluation: one mix in five, by a hash."""
    text = ",".join(str(kind) for kind in sorted(kinds))
    return len(kinds) > 1 and hashlib.sha256(text.encode()).digest()[0] % 5 == 0


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
