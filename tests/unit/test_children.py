"""The processes beside the server load what they need, and nothing that makes their start slow."""

import subprocess
import sys

import pytest

SLOW = {"asyncio", "numpy", "starlette", "hotloop.app", "hotloop.server"}


@pytest.mark.parametrize(
    ("module", "slow"),
    [
        ("hotloop.decoding.child", SLOW | {"importlib.metadata"}),
        ("hotloop.constraints.child", SLOW),  # llguidance asks for its own version
    ],
)
def test_a_child_loads_no_more_than_its_work_takes(module: str, slow: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    assert slow & set(loaded.split()) == set()
