"""`POST /v1/responses/compact`: a conversation, shorter (docs/protocol.md §7.2).

It is a turn like any other that a compaction is asked of, and nothing is kept of it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from hotloop.errors import ApiError, MethodNotAllowed
from hotloop.protocol.item_view import shown, with_ids
from hotloop.protocol.items import Item, SettingItem
from hotloop.seams.sink import Sink
from hotloop.server.answers import error_response
from hotloop.server.body import AsgiReceive, AsgiScope, ClientGone
from hotloop.server.door import Door
from hotloop.server.http_turn import HttpTurns
from hotloop.server.sinks import AsgiSend, SseSink
from hotloop.turns.services import TurnServices
from hotloop.turns.turn_request import TurnRequest


class CompactResponse:
    """The compaction door, as a plain ASGI application."""

    def __init__(self, turns: HttpTurns, door: Door, services: TurnServices) -> None:
        self._turns = turns
        self._door = door
        self._services = services

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One request."""
        shape = _CompactionObject(self._services)
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Use POST.", allowed=["POST"])
            turn = await self._read(scope, receive)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
        except ClientGone:
            return
        else:
            turn.on_compacted = shape.keep
            await self._turns.serve(turn, shape, scope, receive, send)

    async def _read(self, scope: AsgiScope, receive: AsgiReceive) -> TurnRequest:
        principal = self._door.caller(scope)
        create = await self._door.create(scope, receive)
        request = msgspec.structs.replace(
            create.read.request,
            store=False,
            stream=False,
            background=False,
            generate=True,
            prompt_cache_options=None,
        )
        return TurnRequest(
            principal=principal,
            request=request,
            record=create.record("http"),
            survey=create.read.survey,
            asks_compaction=True,
        )


class _Final(msgspec.Struct):
    """What is read of the turn's response object."""

    id: str
    created_at: int
    output: msgspec.Raw
    usage: msgspec.Raw


_final_decoder = msgspec.json.Decoder(_Final)


class _CompactionObject:
    """Implements `http_turn.AnswerShape`: the user messages that were kept, then the compaction item."""

    def __init__(self, services: TurnServices) -> None:
        self._services = services
        self._kept: list[Item] = []

    def keep(self, kept: Sequence[Item]) -> None:
        """What the compaction has kept. Settings stay with the client, who sends them."""
        self._kept = with_ids([item for item in kept if not isinstance(item, SettingItem)], self._services.new_id)

    def events(self, sse: SseSink) -> Sink:
        """A compaction is never streamed."""
        return sse

    def body(self, final: bytes) -> bytes:
        """The compaction object."""
        response = _final_decoder.decode(final)
        output: list[Any] = [msgspec.Raw(shown(item)) for item in self._kept]
        output += msgspec.json.decode(response.output, type=list[msgspec.Raw])
        return msgspec.json.encode(
            {
                "id": response.id,
                "object": "response.compaction",
                "created_at": response.created_at,
                "output": output,
                "usage": response.usage,
            }
        )

    def refusal(self, error: ApiError) -> ApiError:
        """The error itself."""
        return error

    def break_off(self, sse: SseSink, error: ApiError) -> None:
        """A compaction is never streamed."""
