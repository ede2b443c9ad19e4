import asyncio
import socket
from typing import Any, cast

import pytest
from tests.support.virtual_time import run_virtual

from hotloop.server.slow_reader import KERNEL_UNSENT_BYTES, PROGRESS_BYTES, SlowReader, limit_unsent

S = 60.0


class Transport:
    """Implements what is used here of `asyncio.Transport`."""

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._connection = connection
        self.unsent = 2**20

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._connection if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return self.unsent


@pytest.mark.parametrize(
    ("taken", "given_up_at"), [(0, S), (PROGRESS_BYTES // 2, S), (PROGRESS_BYTES - 1, S), (PROGRESS_BYTES, None)]
)
def test_who_takes_too_little_in_the_time_is_given_up(taken: int, given_up_at: float | None) -> None:
    async def main() -> None:
        loop, transport, found = asyncio.get_running_loop(), Transport(), list[float]()
        watch = SlowReader(cast(Any, transport), S, lambda: found.append(loop.time()))
        watch.paused()
        for _ in range(5):
            transport.unsent -= taken
            await asyncio.sleep(S)
        watch.resumed()
        assert found == ([] if given_up_at is None else [given_up_at])

    run_virtual(main())


def test_who_reads_again_is_left_alone() -> None:
    async def main() -> None:
        found: list[str] = []
        watch = SlowReader(cast(Any, Transport()), S, lambda: found.append("given up"))
        for _ in range(3):
            watch.paused()
            await asyncio.sleep(S - 1)
            watch.resumed()
        await asyncio.sleep(10 * S)
        assert found == []

    run_virtual(main())


def test_the_kernel_takes_little_that_is_not_on_its_way() -> None:
    with socket.socket() as connection:
        limit_unsent(cast(Any, Transport(connection)))
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == KERNEL_UNSENT_BYTES


def test_a_connection_that_is_no_tcp_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        limit_unsent(cast(Any, Transport(connection)))
    limit_unsent(cast(Any, Transport(None)))
