"""`POST /v1/chat/completions`: a thin door onto the same turns, as a plain ASGI application."""

from collections.abc import Iterable, Sequence

from hotloop.errors import ApiError, MethodNotAllowed
from hotloop.protocol.chat_answer import ChunkStream, chat_error, completion
from hotloop.protocol.chat_request import ChatCreate, as_create, decode_chat, in_chat_terms
from hotloop.protocol.decoding import check_utf8
from hotloop.seams.sink import Sink
from hotloop.server.answers import error_response
from hotloop.server.auth import wants_timing
from hotloop.server.body import AsgiReceive, AsgiScope, ClientGone
from hotloop.server.door import Door
from hotloop.server.http_turn import HttpTurns
from hotloop.server.sinks import AsgiSend, SseSink
from hotloop.turns.record import TurnRecord, monotonic
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
        received = monotonic()
        principal = self._door.caller(scope)
        body = await self._door.body(scope, receive)
        check_utf8(body)
        chat = decode_chat(body)
        request, origins = as_create(chat)
        record = TurnRecord(transport="chat", received=received, bytes_in=len(body))
        turn = TurnRequest(
            principal=principal, request=request, record=record, wants_timing=wants_timing(scope["headers"])
        )
        return turn, AsChat(chat, origins)


class AsChat:
    """The shape of chat completions."""

    def __init__(self, chat: ChatCreate, origins: Sequence[int]) -> None:
        self._include_usage = bool(chat.stream_options and chat.stream_options.include_usage)
        self._wants_logprobs = bool(chat.logprobs)
        self._origins = origins

    def events(self, sse: SseSink) -> Sink:
        """Chunks, made from the turn's events."""
        return _ChunkSink(sse, ChunkStream(include_usage=self._include_usage, wants_logprobs=self._wants_logprobs))

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
