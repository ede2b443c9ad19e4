"""A tiny broken program for coding agents, and what the scripted engine has them do to it with their own tools."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TASK = "Fix the bug in calc.py."
DONE = "Fixed add: it subtracted."
AGAIN = "What did you fix?"
BROKEN = "def add(a, b):\n    return a - b\n"
FIXED = "def add(a, b):\n    return a + b\n"
CHECK = "from pathlib import Path\n\nfrom calc import add\n\nassert add(1, 2) == 3\nPath('checked').write_text('ok')\n"
PATCH = "*** Begin Patch\n*** Update File: calc.py\n@@\n def add(a, b):\n-    return a - b\n+    return a + b\n*** End Patch\n"
RUN_CHECK = f"{sys.executable} check.py"


def write_broken(folder: Path) -> Path:
    """The program, in a new folder."""
    folder.mkdir()
    (folder / "calc.py").write_text(BROKEN)
    (folder / "check.py").write_text(CHECK)
    return folder


def assert_repaired(folder: Path) -> None:
    """The file was edited, and the agent has run the check that passes now."""
    assert (folder / "calc.py").read_text() == FIXED
    assert (folder / "checked").read_text() == "ok"
    (folder / "checked").unlink()
    subprocess.run(RUN_CHECK.split(), cwd=folder, check=True)


def repairs(read: Sequence[Any], edit: Sequence[Any], run: Sequence[Any]) -> dict[str, Any]:
    """A script of four turns; each argument is the alternatives of one call."""
    return {
        "scripts": [
            {
                "match": '^"?Fix the bug',
                "turns": [
                    {"text": "First I read it.", "call": list(read)},
                    {"reasoning": "It subtracts.", "call": list(edit)},
                    {"text": "Now the check.", "call": list(run)},
                    {"text": DONE},
                ],
            },
            {"match": "^What did you fix", "requires_history": DONE, "turns": [{"text": "The sign in add."}]},
        ]
    }
