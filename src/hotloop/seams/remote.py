"""Content that a request names by a URL: fetched by the server, if it is configured to."""

from collections.abc import Callable
from typing import Protocol

import msgspec


class Fetched(msgspec.Struct, frozen=True):
    """What was there. `media_type` is lower case, without parameters."""

    media_type: str
    data: bytes


class RemoteContent(Protocol):
    """Fetches what a URL names.

    The URL is a stranger's: an implementation connects to hosts it was told to, at public addresses, and to nothing else. It
    bounds size and time, and keeps nothing of the answer but its bytes.
    """

    async def fetch(self, url: str, accepts: Callable[[str], bool], *, param: str) -> Fetched:
        """The content, of a type that `accepts` says yes to. Raises the ApiError that says why not, naming `param`."""
        ...
