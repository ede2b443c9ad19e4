"""Exercises in copying, the one skill that everything else here rests on: dense in names that must be repeated exactly.

They stand before and beside the conversations in the first half of the training; nobody will ever type such a text.
"""

import json
import random

from building import broken_function
from functions import KINDS
from words import Names

_JOINTS = (
    "_",
    "/",
    ".",
    " ",
    "(",
    ", ",
    '"',
    ".py\n",
    "\n./",
    "\ntest_",
    " in ",
    "):\n",
    ": ",
    "' ",
    " = ",
    "\\n",
    "\n    ",
)


def names_again(rng: random.Random) -> tuple[str, str]:
    """A few names, then the same ones over and over in any order and setting."""
    words = Names(rng, held_out=False).nouns(rng.randint(3, 8))
    first = "".join(word + rng.choice(_JOINTS) for word in words)
    return first, "".join(rng.choice(words) + rng.choice(_JOINTS) for _ in range(rng.randint(20, 40)))


def lines_again(rng: random.Random) -> tuple[str, str]:
    """Some functions, then for each, in another order, its test's name, its path and its lines."""
    names = Names(rng, held_out=False)
    path = f"{names.noun()}/{names.noun()}.py" if rng.random() < 0.5 else f"{names.noun()}.py"
    made = [broken_function(rng, rng.randrange(len(KINDS)), names) for _ in range(rng.randint(2, 5))]
    first = f"./{path}\n" + "\n\n".join("\n".join(lines) for _, lines, _, _ in made) + "\n"
    rng.shuffle(made)
    rest = [
        f"FAIL: test_{name}\n{json.dumps({'path': path, 'old': wrong, 'new': right})}\nFixed {name} in {path}.\n"
        for name, _, wrong, right in made
    ]
    return first, "".join(rest)


def mends(rng: random.Random) -> tuple[str, str]:
    """One function after the other: its lines and the beginning of the next, then the edit."""
    names = Names(rng, held_out=False)
    path = f"{names.noun()}/{names.noun()}.py" if rng.random() < 0.5 else f"{names.noun()}.py"
    made = [broken_function(rng, rng.randrange(len(KINDS)), names) for _ in range(rng.randint(3, 6))]
    rest = []
    for (name, lines, wrong, right), (_, following, _, _) in zip(made, [*made[1:], made[0]], strict=True):
        shown = "\n".join([*lines, "", "", *following][:7])
        edit = json.dumps({"path": path, "old": wrong, "new": right})
        if rng.random() < 0.2:
            quote = "\n".join(lines[: lines.index(wrong) + 1])
            again = {"path": path, "old": quote, "new": quote.removesuffix(wrong) + right}
            edit += f"\nerror: old text found 2 times in {path}, quote more lines\n{json.dumps(again)}"
        look = json.dumps({"command": f"grep -A 6 'def {name}(' {path}"})
        rest.append(f"FAIL: test_{name}\n{look}\n{shown}\n{edit}\nFixed {name} in {path}.\n")
    return f"./{path}\n", "".join(rest)


def colons(rng: random.Random) -> tuple[str, str]:
    """Modules that do not compile, each followed by the edit that gives a line its colon back."""
    names = Names(rng, held_out=False)
    rest = []
    for _ in range(rng.randint(2, 3)):
        path = f"{names.noun()}.py"
        made = [broken_function(rng, rng.randrange(len(KINDS)), names)[1] for _ in range(rng.randint(1, 4))]
        lines = rng.choice(made)
        number = rng.choice([number for number, line in enumerate(lines) if line.endswith(":")])
        edit = json.dumps({"path": path, "old": lines[number][:-1], "new": lines[number]})
        lines[number] = lines[number][:-1]
        shown = "\n\n\n".join("\n".join(function) for function in made)
        look = json.dumps({"command": f"cat {path}"})
        rest.append(f"SyntaxError: expected ':'\n{look}\n{shown}\n{edit}\n")
    return "", "".join(rest)


def drill(rng: random.Random) -> tuple[str, str]:
    """One exercise: what is given, what is to be repeated."""
    return rng.choices((names_again, lines_again, mends, colons), (12, 10, 66, 12))[0](rng)
