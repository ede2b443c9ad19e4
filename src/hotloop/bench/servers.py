"""The servers under test, each in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from hotloop.bench.answers import BenchError
from hotloop.bench.cpu import pinned

API_KEY = "bench"  # the key check is part of what is measured
SERVE = (sys.executable, "-m", "hotloop", "serve")
_FLOOR = (sys.executable, "-m", "hotloop.bench.floor_server")
_PROXY = (sys.executable, "-m", "hotloop.bench.proxy")
_HOTLOOP_READY = re.compile(r"hotloop: serving (?P<model>\S+) at http://(?P<host>[^:/]+):(?P<port>\d+)/v1")
_FLOOR_READY = re.compile(r"(?P<port>\d+)")
WIDE_AREA = "WAN"
ROUND_TRIP_MS, UP_MBIT = 40.0, 20.0  # the WAN profile
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 10.0
_END_LIMIT_S = 0.5


class _NotStarted(BenchError):
    pass


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that accepts connections. `model` is empty for the floor's."""

    pid: int
    host: str
    port: int
    model: str = ""


@contextmanager
def hotloop_server(
    script: Path | None,
    core: int | None,
    command: Sequence[str] = SERVE,
    *,
    caches: str = "on",
    websocket: str = "raw",
) -> Generator[RunningServer]:
    """`hotloop serve` with the scripted engine (None: the real demonstration model) and an API key, defaults otherwise."""
    engine = () if script is None else ("--engine", "scripted", "--script", str(script))
    arguments = [*command, *engine, "--port", "0"]
    with _running(arguments, core, _HOTLOOP_READY, {"HOTLOOP_CACHES": caches, "HOTLOOP_WEBSOCKET": websocket}) as (
        process,
        ready,
    ):
        yield RunningServer(process.pid, ready["host"], int(ready["port"]), ready["model"])


@contextmanager
def wide_area(host: str, port: int) -> Generator[tuple[str, int]]:
    """Where the same server is reached through a link of the WAN profile."""
    arguments = [*_PROXY, host, str(port), str(ROUND_TRIP_MS), str(UP_MBIT)]
    with _running(arguments, None, _FLOOR_READY) as (_, ready):
        yield "127.0.0.1", int(ready["port"])


@contextmanager
def floor_server(kind: str, core: int | None) -> Generator[RunningServer]:
    """One of the programs of `floor_server`: `raw` or `asgi`."""
    with _running([*_FLOOR, kind], core, _FLOOR_READY) as (process, ready):
        yield RunningServer(process.pid, "127.0.0.1", int(ready["port"]))


def server_environment() -> dict[str, str]:
    """Ours without the caller's settings of hotloop; one hash seed, so that dictionaries are laid out alike."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOTLOOP_")}
    return kept | {"HOTLOOP_API_KEY": API_KEY, "PYTHONHASHSEED": "0"}


@contextmanager
def _running(
    arguments: Sequence[str],
    core: int | None,
    ready: re.Pattern[str],
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Generator[tuple["subprocess.Popen[str]", re.Match[str]]]:
    with tempfile.TemporaryFile("w+") as log:
        with pinned(core):
            process = subprocess.Popen(
                arguments, stdout=subprocess.PIPE, stderr=log, text=True, env={**server_environment(), **settings}
            )
        try:
            found = _wait_ready(process, ready)
            if found is None:
                raise _NotStarted(f"a server did not start: {_last_line(log)}")
            yield process, found
        except (BenchError, OSError) as error:
            if _has_ended(process) and not isinstance(error, _NotStarted):
                raise BenchError(
                    f"a server ended in the middle of it, code {process.returncode}: {_last_line(log)}"
                ) from error
            raise
        finally:
            _stop(process)


def _wait_ready(process: "subprocess.Popen[str]", ready: re.Pattern[str]) -> re.Match[str] | None:
    """The line that says where it listens; None if it ends, or takes too long, before that."""
    assert process.stdout is not None
    watchdog = threading.Timer(_START_LIMIT_S, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            found = ready.match(line)
            if found:
                return found
        return None
    finally:
        watchdog.cancel()


def _has_ended(process: "subprocess.Popen[str]") -> bool:
    """It is gone: its sockets may close a moment before."""
    try:
        process.wait(_END_LIMIT_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    return (log.read().strip().splitlines() or ["it said nothing"])[-1]


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
