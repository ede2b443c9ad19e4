"""What stands beside every figure: the machine, the versions, the load, the command."""

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_SHOWN = ("hotloop", "uvicorn", "uvloop", "msgspec", "websockets")


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name as the kernel shows it."""
    try:
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown CPU"


def versions() -> dict[str, str]:
    """Python and the packages on the measured path."""
    found = {"python": platform.python_version()}
    for name in _SHOWN:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["hotloop"] = f"{found['hotloop']} {commit()}".rstrip()
    return found


def commit(package: Path = Path(__file__).parents[1]) -> str:
    """The commit of the source tree that runs, and whether it was changed since; empty for an installed package."""
    try:
        known = _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return (
            _git(package, "rev-parse", "--short", "HEAD") + ("+changes" if _changed(package) else "") if known else ""
        )
    except (OSError, subprocess.SubprocessError):
        return ""


def _changed(package: Path) -> str:
    return _git(package, "status", "--porcelain", "--", ".")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def load_average() -> float:
    """One-minute load average; 0 where the system has none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


@dataclass(slots=True)
class Surroundings:
    """Where and how a bench ran. `load` is the one-minute load average at the start and at the end."""

    command: str
    cpu: str = field(default_factory=cpu_model)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    kernel: str = field(default_factory=lambda: f"{platform.system()} {platform.release()} {platform.machine()}")
    versions: dict[str, str] = field(default_factory=versions)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M %z"))
    load: list[float] = field(default_factory=lambda: [load_average()])

    def ended(self) -> None:
        """Note the load at the end."""
        self.load.append(load_average())

    def lines(self) -> list[str]:
        """For the head of a report."""
        return [
            f"machine   {self.cpu}, {self.cores} cores, {self.kernel}",
            f"versions  {', '.join(f'{name} {number}' for name, number in self.versions.items())}",
            f"load      {', '.join(f'{value:.2f}' for value in self.load)} (one minute, at the start and at the end)",
            f"date      {self.date}",
            f"command   {self.command}",
        ]


def command_line() -> str:
    """The command as typed, whatever path it was started by."""
    return " ".join(["hotloop", *sys.argv[1:]])
