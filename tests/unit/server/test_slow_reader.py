import socket
from typing import Any, cast

from hotloop.server.slow_reader import KERNEL_UNSENT_BYTES, limit_unsent


class Transport:
    """Implements what `limit_unsent` uses of `asyncio.Transport`."""

    def __init__(self, connection: socket.socket | None) -> None:
        self._connection = connection

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._connection if name == "socket" else None


def test_the_kernel_takes_little_that_is_not_on_its_way() -> None:
    with socket.socket() as connection:
        limit_unsent(cast(Any, Transport(connection)))
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == KERNEL_UNSENT_BYTES


def test_a_connection_that_is_no_tcp_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        limit_unsent(cast(Any, Transport(connection)))
    limit_unsent(cast(Any, Transport(None)))
