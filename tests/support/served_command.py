"""`hotloop serve` as users start it: a child process, found by the line it prints."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

READY = "hotloop: serving "
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Served:
    """A running `hotloop serve`. `url` ends in `/v1`."""

    url: str
    model: str
    process: subprocess.Popen[str]

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit code."""
        self.process.send_signal(sig)
        return self.process.wait(STOP_TIMEOUT_S)


def serve_command(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "hotloop", "serve", *arguments]


@contextmanager
def served(arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Generator[Served]:
    """Serve on a free port until the block ends."""
    process = subprocess.Popen(
        serve_command("--port", "0", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        if not line.startswith(READY):
            process.kill()
            raise AssertionError(f"the server did not start: {line!r} {process.stderr.read()}")
        name, _, url = line.removeprefix(READY).strip().partition(" at ")
        yield Served(url, name, process)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
        process.stderr.close()
