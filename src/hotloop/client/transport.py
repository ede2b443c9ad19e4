"""The seam between the loop and the wire: one attempt at one turn.

A transport never tries again and never decides; it sends, yields events and says what went wrong. `link` does the rest.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from hotloop.client.conversation import Conversation
from hotloop.client.events import Event

SILENCE_S = 300.0  # no message for so long is a lost connection; Codex waits as long by default


@dataclass(slots=True)
class Traffic:
    """What went over a transport's connections. Bytes are those of messages and bodies, without framing."""

    connections: int = 0
    requests: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


class Transport(Protocol):
    """A way to the server. All methods may raise any `AgentError` for what went wrong on the way."""

    @property
    def traffic(self) -> Traffic: ...

    def warm_up(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        """Connect and hand over instructions and tools, if that helps a first turn here; else yield nothing."""
        ...

    def stream(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        """Ask for the next response and yield its events; the last one is terminal.

        When `Completed` has been yielded, the caller commits exactly the items of the `ItemDone` events to the
        conversation. Closing the generator earlier cancels the turn on the server.
        """
        ...

    async def reset(self) -> None:
        """Forget the connection and what the server knows, so that the next turn is sent in full on a new one."""
        ...

    async def close(self) -> None:
        """Close the connection. Idempotent; takes at most a few seconds."""
        ...


def headers(api_key: str | None) -> dict[str, str]:
    """What every request carries."""
    authorization = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"hotloop-timing": "1", **authorization}


def uses_proxy(url: str) -> bool:
    """Whether the proxy of the environment applies: never to this machine, even where no_proxy forgets it."""
    return (urlsplit(url).hostname or "") not in {"localhost", "127.0.0.1", "::1"}
