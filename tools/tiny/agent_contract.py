"""The agent's shipped texts, loaded from the source tree.

The file is loaded by path: importing the package `hotloop` would need its dependencies, which training has no use for.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hotloop"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("hotloop_client_contract", path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contract = _load(SOURCE / "client" / "contract.py")
