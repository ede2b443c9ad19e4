"""Log lines of the server: to stderr, many in one write.

A line per turn is most of what a busy server logs; made the way `logging` does by default it costs a tenth of a short turn.
Here the time of day is written once a second, nobody looks up which line of code logged, and lines of the same few
milliseconds leave together. A warning, or anything said outside of the event loop, leaves at once.
"""

import asyncio
import logging
import sys
import time
from typing import Final, TextIO

HELD_S: Final = 0.05
HELD_LINES: Final = 256
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """The default format; `localtime` once a second."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)
        self._second = -1
        self._text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """As the base class writes it."""
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._text = time.strftime(self.default_time_format, time.localtime(second))
        return f"{self._text},{record.msecs:03.0f}"


class LineHandler(logging.Handler):
    """Writes lines to a stream, held back for at most `HELD_S` seconds."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.setFormatter(_Formatter())
        self._stream = stream
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        try:
            self._lines.append(self.format(record))
            if record.levelno >= logging.WARNING or len(self._lines) >= HELD_LINES or not self._is_timed():
                self.flush()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write what is held."""
        self.acquire()
        try:
            if self._lines:
                text = "\n".join(self._lines) + "\n"
                self._lines.clear()
                self._stream.write(text)
                self._stream.flush()
        finally:
            self.release()

    def _is_timed(self) -> bool:
        if self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(HELD_S, self._on_time)
            except RuntimeError:  # no loop runs in this thread
                return False
        return True

    def _on_time(self) -> None:
        self._timer = None
        self.flush()


def log_to_stderr(level: str) -> None:
    """Set logging up for a server. `level` is a name such as `info`."""
    logging.basicConfig(level=level.upper(), handlers=[LineHandler(sys.stderr)])
    # logging HOWTO, "Optimization": what no format of ours shows need not be collected.
    logging._srcfile = None  # the documented switch
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
