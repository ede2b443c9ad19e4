"""CPU time of another process, out of the kernel's accounting, and who runs on which core."""

import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
_SETTLE_PAUSE_S = 0.001
_SETTLE_LIMIT_S = 10.0


def cpu_seconds(pid: int, proc: Path = PROC) -> float:
    """CPU time of all live threads of the process: nanoseconds exact on Linux, what `ps` says elsewhere."""
    try:
        tasks = list((proc / str(pid) / "task").iterdir())
        return sum(_scheduled_ns(task / "schedstat") for task in tasks) / 1e9
    except FileNotFoundError:
        return _ps_seconds(pid)


def settled_cpu_seconds(pid: int) -> float:
    """The same, once two readings in a row agree: what the process does after its answer is counted to the answer."""
    deadline = time.monotonic() + _SETTLE_LIMIT_S
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(_SETTLE_PAUSE_S)
        now = cpu_seconds(pid)
        if now == before:
            return now
        before = now
    return before


def resident_bytes(pid: int, proc: Path = PROC) -> int:
    """Memory of the process that is in RAM."""
    try:
        return int((proc / str(pid) / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        return int(shown) * 1024


def _scheduled_ns(schedstat: Path) -> int:
    """First field: nanoseconds on a CPU (kernel, Documentation/scheduler/sched-stats)."""
    return int(schedstat.read_text().split()[0])


def _ps_seconds(pid: int) -> float:
    shown = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return parse_ps_time(shown)


def parse_ps_time(text: str) -> float:
    """Seconds of `[[days-]hours:]minutes:seconds[.hundredths]`."""
    days, _, clock = text.strip().rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + 86_400 * int(days or 0)


def usable_cores() -> list[int]:
    """Cores this process may run on; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def pinned(core: int | None) -> Generator[None]:
    """Run the block, and every process started in it, on one core; None changes nothing."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def split_cores() -> tuple[int | None, int | None]:
    """A core for the servers and another one for the client, where there are two."""
    cores = usable_cores()
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)
