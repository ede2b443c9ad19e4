"""A `hotloop serve` of our own in a child process, for the demo and the benches."""

import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hotloop.cli.serve import READY_PREFIX

STOP_TIMEOUT_S = 15.0


class ServerDidNotStart(Exception):
    """The child ended before it was ready. The message is its last line on stderr."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A running server. `url` ends in `/v1`."""

    url: str
    model: str
    pid: int


@contextmanager
def local_server(arguments: Sequence[str] = ()) -> Generator[LocalServer]:
    """Serve on a free port of the loopback until the block ends. Raises ServerDidNotStart."""
    command = [sys.executable, "-m", "hotloop", "serve", "--port", "0", "--log-level", "warning", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            if not line.startswith(READY_PREFIX):
                process.terminate()
                complaint = process.stderr.read().strip().splitlines()
                raise ServerDidNotStart(complaint[-1] if complaint else "the server said nothing")
            name, _, url = line.removeprefix(READY_PREFIX).strip().partition(" at ")
            yield LocalServer(url, name, process.pid)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
