"""`POST /v1/chat/completions`: a thin door onto the same turns, as a plain ASGI application."""

from collections.abc import Iterable

from hotloop.errors import ApiError, MethodNotAllowed
from hotloop.protocol.chat_answer import ChunkStream, chat_error, completion
from hotloop.protocol.chat_request import ChatTurn, in_chat_terms
from hotloop.seams.sink import Sink
from hotloop.server.answers import error_response
from hotloop.server.auth import wants_timing
from hotloop.server.body import AsgiReceive, AsgiScope, ClientGone
from hotloop.server.door import Door
from hotloop.server.http_turn import HttpTurns
from hotloop.server.sinks import AsgiSend, SseSink
from hotloop.turns.turn_request import TurnRequest


class ChatCompletions:
    """The chat door."""

    def __init__(self, turns: HttpTurns, door: Door) -> None:
        self._turns = turns
        self._door = door

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One request."""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Use POST.", allowed=["POST"])
            turn, shape = await self._read(scope, receive)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
        except ClientGone:
            return
        else:
            await self._turns.serve(turn, shape, scope, receive, send)

    async def _read(self, scope: AsgiScope, receive: AsgiReceive) -> "tuple[TurnRequest, AsChat]":
        principal = self._door.caller(scope)
        chat = await self._door.chat(scope, receive)
        turn = TurnRequest(
            principal=principal,
            request=chat.read.turn.request,
            record=chat.record("chat"),
            survey=chat.read.survey,
            wants_timing=wants_timing(scope["headers"]),
        )
        return turn, AsChat(chat.read.turn)


class AsChat:
    """The shape of chat completions."""

    def __init__(self, asked: ChatTurn) -> None:
        self._includes_usage = asked.includes_usage
        self._wants_logprobs = asked.wants_logprobs
        self._origins = asked.origins

    def events(self, sse: SseSink) -> Sink:
        """Chunks, made from the turn's events."""
        return _ChunkSink(sse, ChunkStream(include_usage=self._includes_usage, wants_logprobs=self._wants_logprobs))

    def body(self, final: bytes) -> bytes:
        """The chat completion."""
        return completion(final, wants_logprobs=self._wants_logprobs)

    def refusal(self, error: ApiError) -> ApiError:
        """The error, naming messages where it names items."""
        return in_chat_terms(error, self._origins)

    def break_off(self, sse: SseSink, error: ApiError) -> None:
        """The stream ends in its middle."""
        sse.push_data([chat_error(error)])
        sse.finish()


class _ChunkSink:
    """Implements `seams.sink.Sink`."""

    def __init__(self, sse: SseSink, stream: ChunkStream) -> None:
        self._sse = sse
        self._stream = stream

    @property
    def is_closed(self) -> bool:
        return self._sse.is_closed

    @property
    def is_paused(self) -> bool:
        return self._sse.is_paused

    @property
    def bytes_out(self) -> int:
        return self._sse.bytes_out

    def push(self, events: Iterable[bytes]) -> None:
        for event in events:
            self._sse.push_data(self._stream.chunks(event))
