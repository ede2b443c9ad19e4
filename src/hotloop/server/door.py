"""What every JSON endpoint does first: who asks, and what the body says."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from starlette.requests import Request

from hotloop.decoding.reader import MessageReader, ReadChat, ReadConversation, ReadCreate
from hotloop.errors import ApiError, InvalidRequest, Overloaded
from hotloop.server.auth import AccessPolicy, authenticate
from hotloop.server.body import AsgiReceive, AsgiScope, read_body
from hotloop.server.connections import OpenConnections
from hotloop.session.principal import Principal
from hotloop.turns.record import TurnRecord, monotonic

_R = TypeVar("_R", ReadCreate, ReadChat)


@dataclass(frozen=True, slots=True)
class Received(Generic[_R]):
    """What asks for a turn, as it came in over HTTP."""

    read: _R
    received: float
    body_bytes: int

    def record(self, transport: str) -> TurnRecord:
        """The record that its turn begins with."""
        return TurnRecord(
            transport=transport, received=self.received, bytes_in=self.body_bytes, fallbacks=self.read.fallbacks
        )


class Door:
    """Authentication and bodies, alike for all paths.

    Args:
        policy: who may come in.
        open_connections: says whether the server is shutting down.
        reader: reads the bodies.
        max_body_bytes: bound of a body, compressed or not.
    """

    def __init__(
        self, policy: AccessPolicy, open_connections: OpenConnections, reader: MessageReader, *, max_body_bytes: int
    ) -> None:
        self._policy = policy
        self._reader = reader
        self._open = open_connections
        self.max_body_bytes = max_body_bytes

    def caller(self, scope: AsgiScope) -> Principal:
        """Who asks. Raises InvalidApiKey or Forbidden."""
        return authenticate(self._policy, scope["headers"])

    async def body(self, scope: AsgiScope, receive: AsgiReceive) -> bytes:
        """The body, decompressed. Raises Overloaded during a shutdown, and ClientGone."""
        if self._open.is_draining:
            raise Overloaded("The server is shutting down.", retry_after_s=1)
        return await read_body(scope, receive, self.max_body_bytes)

    async def create(self, scope: AsgiScope, receive: AsgiReceive) -> Received[ReadCreate]:
        """The body of a create. Raises the ApiError that refuses it, and ClientGone."""
        body = await self.body(scope, receive)
        received = monotonic()  # all of it, as with a WebSocket message: the sender's line is not this server's time
        return Received(await self._reader.create(body), received, len(body))

    async def chat(self, scope: AsgiScope, receive: AsgiReceive) -> Received[ReadChat]:
        """The body of a chat completion. Raises the ApiError that refuses it, and ClientGone."""
        body = await self.body(scope, receive)
        received = monotonic()
        return Received(await self._reader.chat(body), received, len(body))

    async def conversation(self, form: bytes, request: Request) -> ReadConversation:
        """A body of this form about a conversation. Raises the ApiError that refuses it, and ClientGone."""
        return await self._reader.conversation(form, await self.body(request.scope, request.receive))


def query_number(request: Request, name: str, default: int, least: int, most: int) -> int:
    """An integer of the query string. Raises InvalidRequest."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise _bad_query(name, f"an integer between {least} and {most}")
    return int(text)


def query_flag(request: Request, name: str) -> bool:
    """A boolean of the query string; absent is false. Raises InvalidRequest."""
    text = request.query_params.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise _bad_query(name, "true or false")
    return text in ("true", "1")


def query_choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`, the first if absent. Raises InvalidRequest."""
    text = request.query_params.get(name, choices[0])
    if text not in choices:
        raise _bad_query(name, " or ".join(choices))
    return text


def _bad_query(name: str, wanted: str) -> ApiError:
    return InvalidRequest(f"'{name}' must be {wanted}.", param=name)
