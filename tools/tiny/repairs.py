"""Transcripts of an agent that repairs a small project.

What the agent does next follows from what it read last, so that there is one right answer at every step:

    task ─▶ list files ─▶ run tests ─▶ all pass ─▶ report
                            ▲    └─ a test fails ─▶ read its function ─▶ edit the wrong line ─┐
                            └────────────────────────────────────────────────────────────────┘

The agent always mends the first function that the tests name. A quoted line that stands in the file more than once is
quoted again with all lines from its `def`. Slips (a wrong quote, a wrong mend) are shown and recovered from, never learnt.
"""

import random
from collections import Counter
from dataclasses import replace

from agent_contract import contract
from chatml import Conversation, Message, call, preamble
from printouts import EXCERPT_LINES, LIST_COMMAND, definitions, excerpt, listing, test_output
from repositories import Function, Mend, Module, Repository, TestFile, is_noticed
from tasks import FOLLOW_UPS, task

TRIES = 3  # a function that the tests name first for the third time is given up
PREAMBLE = preamble(contract.INSTRUCTIONS, contract.TOOLS)


class Repair:
    """Writes the transcript of repairing one repository, whose files it changes as the agent would."""

    def __init__(self, rng: random.Random, repository: Repository) -> None:
        self._rng = rng
        self._repository = repository
        self._open = list(repository.mends)
        self._done: list[Mend] = []
        self._slips = rng.choices((0, 1, 2), (90, 8, 2))[0]
        self._tries: Counter[str] = Counter()
        self.messages: list[Message] = []

    def write(self) -> None:
        """Append the agent's whole work, from the first command to the report."""
        self._shell(LIST_COMMAND, listing(self._repository))
        while (named := self._run_tests()) is not None:
            mend = self._mend_for(named)
            self._tries[mend.function] += 1
            if self._tries[mend.function] == TRIES or not self._repair(mend):
                self._say(f"I could not repair {mend.function} in {mend.path}.")
                return
        self._say(self._report())

    def _say(self, text: str, *, learn: bool = True) -> None:
        self.messages.append(Message("assistant", text, learn))

    def _shell(self, command: str, output: str, exit_code: int = 0) -> None:
        self._say(call("shell", {"command": command}))
        self.messages.append(Message("tool", contract.shell_result(output, exit_code)))

    def _run_tests(self) -> list[Function | None] | None:
        """Run the tests; the functions they name, or None when all pass."""
        elapsed_s = f"0.{self._rng.choice((0, 0, 0, 0, 1, 2, 3))}{self._rng.randrange(1, 10)}"
        output, named = test_output(self._repository, elapsed_s)
        self._shell(self._repository.test_command, output)
        return named or None

    def _mend_for(self, named: list[Function | None]) -> Mend:
        first = named[0]
        return next(mend for mend in self._open if first is None or mend.function == first.name)

    def _module(self, path: str) -> Module:
        return next(module for module in self._repository.modules if module.path == path)

    def _test_file(self, module: Module) -> TestFile:
        return next(test for test in self._repository.tests if module in test.modules)

    def _repair(self, mend: Mend) -> bool:
        """Read and edit; False when the quotes went wrong so often that the agent gives up."""
        module = self._module(mend.path)
        covers_all = self._test_file(module).path.endswith("test_all.py")
        if covers_all and mend.compiles:
            self._shell(f"grep -rn 'def {mend.function}(' .", definitions(self._repository, mend.function))
        if not covers_all and mend.compiles and self._slips == 1 and self._rng.random() < 0.3:
            self._wrong_path(mend)
        self._read(module, mend)
        return self._edit(module, mend)

    def _wrong_path(self, mend: Mend) -> None:
        """Look for the function in a file where it is not, then everywhere."""
        self._slips -= 1
        others = [path for path in self._repository.files() if path.endswith(".py") and path != mend.path]
        path = self._rng.choice([*others, mend.path.rpartition("/")[2], f"{mend.function.rpartition('_')[2]}.py"])
        exists, command = path in self._repository.files(), f"grep -A {EXCERPT_LINES} 'def {mend.function}(' {path}"
        if path == mend.path:
            return
        self._say(call("shell", {"command": command}), learn=False)
        result = ("", 1) if exists else (f"grep: {path}: No such file or directory", 2)
        self.messages.append(Message("tool", contract.shell_result(*result)))
        self._shell(f"grep -rn 'def {mend.function}(' .", definitions(self._repository, mend.function))

    def _read(self, module: Module, mend: Mend) -> None:
        if mend.compiles:
            command = f"grep -A {EXCERPT_LINES} 'def {mend.function}(' {mend.path}"
            self._shell(command, excerpt(module, mend.function))
        else:
            self._shell(f"cat {mend.path}", module.source())

    def _edit(self, module: Module, mend: Mend) -> bool:
        hopeless = self._slips == 2 or self._tries[mend.function] == 2
        slip = self._slips and (hopeless or self._rng.random() < 0.7)
        if slip and mend.compiles and self._rng.random() < 0.6 and self._wrong_mend(module, mend):
            return True
        if slip and self._wrong_quote(module, mend):
            self._read(module, mend)
            if hopeless and self._wrong_quote(module, mend):
                return False
        count = module.source().count(mend.wrong)
        self._say(_edit_call(mend.path, mend.wrong, mend.right))
        if count > 1:
            self.messages.append(Message("tool", contract.EDIT_AMBIGUOUS.format(count=count, path=mend.path)))
            self._say(_edit_call(mend.path, mend.quote, mend.quote.removesuffix(mend.wrong) + mend.right))
        self.messages.append(Message("tool", contract.EDIT_DONE.format(path=mend.path)))
        self._apply(module, mend, mend.right)
        self._open.remove(mend)
        self._done.append(mend)
        return True

    def _apply(self, module: Module, mend: Mend, line: str) -> None:
        for number, function in enumerate(module.functions):
            if function.name == mend.function:
                now = tuple(line if text == mend.wrong else text for text in function.now)
                module.functions[number] = replace(function, now=now)

    def _wrong_mend(self, module: Module, mend: Mend) -> bool:
        """Mend the line wrongly: the tests still fail and the agent comes back to it."""
        function = next(function for function in module.functions if function.name == mend.function)
        others = [line for line in _other_bugs(function, mend) if line not in (mend.wrong, mend.right)]
        if not others or module.source().count(mend.wrong) > 1:
            return False
        line = self._rng.choice(others)
        self._slips -= 1
        self._say(_edit_call(mend.path, mend.wrong, line), learn=False)
        self.messages.append(Message("tool", contract.EDIT_DONE.format(path=mend.path)))
        self._apply(module, mend, line)
        quote = mend.quote.removesuffix(mend.wrong) + line
        self._open[self._open.index(mend)] = replace(mend, wrong=line, quote=quote)
        return True

    def _wrong_quote(self, module: Module, mend: Mend) -> bool:
        """Quote a line that is not there: the tool says so and the agent reads the file again."""
        wrong = (
            f"    return {self._rng.choice('abcdmnpqxyz')} {self._rng.choice('+-*/')} {self._rng.choice('abcdmnpqxyz')}"
        )
        if wrong in module.source():
            return False
        self._slips -= 1
        self._say(_edit_call(mend.path, wrong, mend.right), learn=False)
        self.messages.append(Message("tool", contract.EDIT_NOT_FOUND.format(path=mend.path)))
        return True

    def _report(self) -> str:
        if not self._done:
            return "All tests pass already, so I changed nothing."
        return f"Fixed {self.changes()}. All tests pass now."

    def changes(self) -> str:
        """What was mended, in words."""
        return " and ".join(f"{mend.function} in {mend.path}" for mend in self._done)

    @property
    def gave_up(self) -> bool:
        """Whether something is still broken."""
        return bool(self._open)

    @property
    def has_changed(self) -> bool:
        """Whether anything was mended."""
        return bool(self._done)


def _edit_call(path: str, old: str, new: str) -> str:
    return call("edit", {"path": path, "old": old, "new": new})


def _other_bugs(function: Function, mend: Mend) -> list[str]:
    """Lines that would also be wrong in the place of the wrong one, in this function's own names."""
    swaps = (
        ("+", "-"),
        ("*", "+"),
        ("<", ">"),
        ("max", "min"),
        ("==", "!="),
        ("[0]", "[1]"),
        ("upper", "lower"),
        ("sum", "len"),
    )
    lines = []
    for one, other in swaps:
        for old, new in ((one, other), (other, one)):
            line = mend.right.replace(old, new, 1)
            number = function.right.index(mend.right) if mend.right in function.right else -1
            if line != mend.right and number >= 0 and _still_fails(function, number, line):
                lines.append(line)
    return lines


def _still_fails(function: Function, number: int, line: str) -> bool:
    try:
        compile("\n".join((*function.right[:number], line, *function.right[number + 1 :])), "", "exec")
    except SyntaxError:
        return False
    return is_noticed(function, number, line)


def conversation(rng: random.Random, repository: Repository, prompt: str = PREAMBLE) -> Conversation:
    """Write the repair of a repository, now and then with something said after it."""
    repair = Repair(rng, repository)
    repair.messages.append(Message("user", task(rng, repository)))
    repair.write()
    if repair.gave_up:
        return Conversation(prompt, tuple(repair.messages))
    for _ in range(rng.choices((0, 1, 2), (90, 8, 2))[0]):
        asks_what, text = rng.choice(FOLLOW_UPS)
        repair.messages.append(Message("user", text))
        answer = "You are welcome."
        if asks_what:
            answer = f"I changed {repair.changes()}." if repair.has_changed else "I changed nothing."
        repair.messages.append(Message("assistant", answer))
    return Conversation(prompt, tuple(repair.messages))


def dead_end(rng: random.Random, repository: Repository, prompt: str = PREAMBLE) -> Conversation:
    """A task where there is nothing to repair: no Python, no tests, or tests that do not run."""
    listed = Message("assistant", call("shell", {"command": LIST_COMMAND}))
    messages = [Message("user", task(rng, repository)), listed]
    way = rng.randrange(3)
    if way == 0:
        messages.append(Message("tool", contract.shell_result("", 0)))
        messages.append(Message("assistant", "There is no Python project here, so I changed nothing."))
        return Conversation(prompt, tuple(messages))
    messages.append(Message("tool", listing(repository)))
    messages.append(Message("assistant", call("shell", {"command": repository.test_command})))
    if way == 1:
        messages.append(Message("tool", contract.shell_result("", 1)))
        messages.append(Message("assistant", "The tests do not run here, so I changed nothing."))
    else:
        nothing = f"no tests ran in 0.0{rng.randrange(1, 10)}s" if repository.pytest else "NO TESTS RAN"
        messages.append(Message("tool", nothing))
        messages.append(Message("assistant", "I found no tests here, so I changed nothing."))
    return Conversation(prompt, tuple(messages))
