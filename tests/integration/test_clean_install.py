"""The built wheel in an empty environment outside the checkout: it serves, and its agent repairs a repository."""

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_EXTRAS = re.compile(r"\[[^]]*\](?===)")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_wheel_serves_and_runs_the_agent_on_its_own(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    lock = ROOT / "requirements.lock"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--constraint", str(without_hashes(lock, tmp_path)), str(wheel)], check=True, timeout=600)
    demo = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "hotloop"), "demo"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("the repository's tests pass") == 2


def without_hashes(lock: Path, folder: Path) -> Path:
    """The lock as constraints: pip takes no hashes beside a local wheel, and no extras in constraints."""
    lines = [_EXTRAS.sub("", line.rstrip(" \\")) for line in lock.read_text().splitlines() if line[:1].isalnum()]
    path = folder / "constraints.txt"
    path.write_text("\n".join(lines) + "\n")
    return path
