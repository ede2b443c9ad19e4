"""What a peer costs that does not read: little in the kernel, and nothing after its deadline.

pause_writing ──▶ watched ──no progress for `max_s`──▶ given up
                     └── resume_writing, connection_lost ──▶ at rest
"""

import asyncio
import socket
from collections.abc import Callable, MutableMapping
from typing import Any, Final

KERNEL_UNSENT_BYTES: Final = 128 * 1024
ABORT: Final = "hotloop.abort"  # in the ASGI scope's `state`
PROGRESS_BYTES: Final = 64 * 1024  # in `max_s` seconds; who takes less is not reading


class SlowReader:
    """Watches one connection's transport while it holds more than its peer takes.

    Args:
        give_up: called when the peer has taken nothing worth mentioning for `max_s` seconds.
    """

    __slots__ = ("_give_up", "_max_s", "_timer", "_transport", "_unsent")

    def __init__(self, transport: asyncio.Transport, max_s: float, give_up: Callable[[], None]) -> None:
        self._transport = transport
        self._max_s = max_s
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = 0

    def paused(self) -> None:
        """The transport holds much: from now on the peer is watched."""
        self._unsent = self._transport.get_write_buffer_size()
        self._timer = asyncio.get_running_loop().call_later(self._max_s, self._check)

    def resumed(self) -> None:
        """It holds little again, or the connection is lost. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        before = self._unsent
        self.paused()
        if before - self._unsent < PROGRESS_BYTES:
            self.resumed()
            self._give_up()


def abort_of(scope: MutableMapping[str, Any]) -> Callable[[], None]:
    """What cuts the connection of an ASGI scope off at once; under a server that gives no such thing, nothing."""
    found: Callable[[], None] = scope.get("state", {}).get(ABORT, _nothing)
    return found


def _nothing() -> None:
    """The connection is left to its server."""


def limit_unsent(transport: asyncio.Transport) -> None:
    """Let the kernel take little more than is on its way: else a peer that does not read costs megabytes there."""
    connection, option = transport.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, option, KERNEL_UNSENT_BYTES)
