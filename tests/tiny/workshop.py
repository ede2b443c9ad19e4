"""The modules of `tools/tiny`, which are scripts beside the package and not part of it."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "tiny"


def tool(name: str) -> Any:
    """One module by name; those used here need neither PyTorch nor a tokenizer."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return import_module(name)
