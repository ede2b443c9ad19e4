"""What users type: tasks the model can do, words after a task, and everything else."""

import random

from phrases import phrases
from repositories import Repository

_PLAIN = phrases("tasks")
_NAMING_MODULE = phrases("tasks_naming_module")
_NAMING_FUNCTION = phrases("tasks_naming_function")
_AFTER = (
    *[""] * 6,
    " Do not change the tests.",
    " Change as little as possible.",
    " Be brief.",
    " Thanks!",
    " Work in this directory.",
    " Tell me what you changed.",
)
_BEFORE = (*[""] * 6, "Hi! ", "Hello, ", "Hey, ", "Please help. ", "Task: ")

FOLLOW_UPS = tuple([(False, text) for text in phrases("thanks")] + [(True, text) for text in phrases("questions")])
"""What is said after a repair, and whether it asks what was changed."""


def task(rng: random.Random, repository: Repository) -> str:
    """A task for a repository; most name nothing, some name the module or the function."""
    roll = rng.random()
    if roll < 0.7 or not repository.mends:
        text = rng.choice(_PLAIN)
    else:
        mend = rng.choice(repository.mends)
        text = rng.choice(_NAMING_MODULE if roll < 0.85 else _NAMING_FUNCTION).format(
            path=mend.path, function=mend.function
        )
    return rng.choice(_BEFORE) + text + rng.choice(_AFTER)


def plain_task(rng: random.Random) -> str:
    """A task that names nothing."""
    return rng.choice(_BEFORE) + rng.choice(_PLAIN) + rng.choice(_AFTER)
