"""The session of a configured server, one for all responses.

none ──asked for──▶ opening ──▶ open ──lost, or hung──▶ none, with a pause before it is opened again
                       └── failed ──▶ none, with a longer one
"""

import asyncio
from collections.abc import Callable

from hotloop.seams.hosted_tools import ToolServerError
from hotloop.tool_servers.session import MakeStreams, Session

MAX_TIMEOUTS = 3  # in a row: then a server counts as hung, and gets a new session
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0  # before a server that could not be reached is tried again


class SharedSession:
    """The session of a configured server."""

    def __init__(self, make_streams: MakeStreams, timeout_s: float, clock: Callable[[], float]) -> None:
        self._make_streams = make_streams
        self._timeout_s = timeout_s
        self._clock = clock
        self._session: Session | None = None
        self._opening: Session | None = None
        self._lock = asyncio.Lock()
        self._timeouts = 0  # in a row
        self._pause_s = 0.0
        self._not_before = 0.0
        self._is_closed = False

    async def session(self) -> Session:
        """The session, opened if there is none. Raises ToolServerError, at once while it is not to be tried again yet."""
        async with self._lock:  # the others wait for the one that opens it
            if self._session is not None and self._session.is_open:
                return self._session
            if self._is_closed:
                raise ToolServerError("this server is shutting down")
            lost, self._session = self._session, None
            if lost is not None:
                await lost.close()
                self._back_off()  # a server that dies at once is not started in a loop
            if self._clock() < self._not_before:
                raise ToolServerError("the server is down; it is tried again soon")
            self._opening = session = Session(self._make_streams)
            try:
                await session.open(self._timeout_s)
            except ToolServerError:
                self._back_off()
                raise
            finally:
                self._opening = None
            self._session = session
            return session

    def _back_off(self) -> None:
        self._not_before = self._clock() + self._pause_s
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)

    def worked(self) -> None:
        """It has answered."""
        self._pause_s = 0.0
        self._timeouts = 0

    def timed_out(self) -> Session | None:
        """It has not; the session to be closed, if it was so too often."""
        self._timeouts += 1
        if self._timeouts < MAX_TIMEOUTS:
            return None
        hung, self._session, self._timeouts = self._session, None, 0
        self._back_off()
        return hung

    async def close(self) -> None:
        """End it and open no other."""
        self._is_closed = True
        if self._opening is not None:
            await self._opening.close()
        async with self._lock:
            if self._session is not None:
                await self._session.close()
