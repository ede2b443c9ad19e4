"""`POST /v1/responses`, as a plain ASGI application: a stream is written without a wrapper in between."""

from starlette.responses import Response

from hotloop.errors import ApiError, InvalidRequest, MethodNotAllowed
from hotloop.seams.sink import Sink
from hotloop.server.answers import error_response, json_response
from hotloop.server.auth import wants_timing
from hotloop.server.background import BackgroundTurns
from hotloop.server.body import AsgiReceive, AsgiScope, ClientGone
from hotloop.server.door import Door
from hotloop.server.http_turn import HttpTurns
from hotloop.server.replay_stream import ReplayStream
from hotloop.server.sinks import AsgiSend, SseSink
from hotloop.turns.terms import TenantTerms
from hotloop.turns.turn_request import TurnRequest


class CreateResponse:
    """The create door."""

    def __init__(self, turns: HttpTurns, door: Door, background: BackgroundTurns) -> None:
        self._turns = turns
        self._door = door
        self._background = background
        self._terms = TenantTerms()

    async def __call__(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        """One request."""
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Use POST, or a WebSocket upgrade.", allowed=["POST"])
            turn = await self._read(scope, receive)
            if turn.request.background:
                answer = await self._begin(turn)
                await answer(scope, receive, send)
                return
        except ApiError as error:
            await error_response(error)(scope, receive, send)
        except ClientGone:
            return
        else:
            await self._turns.serve(turn, AsItIs(), scope, receive, send)

    async def _begin(self, turn: TurnRequest) -> Response | ReplayStream:
        """A background response: answered as `queued` at once, or followed from its first event on."""
        run = await self._background.start(turn)
        return ReplayStream(run.log, 0) if turn.request.stream else json_response(run.queued)

    async def _read(self, scope: AsgiScope, receive: AsgiReceive) -> TurnRequest:
        principal = self._door.caller(scope)
        create = await self._door.create(scope, receive)
        request = create.read.request
        if request.stream_id is not None:
            raise InvalidRequest("'stream_id' names a WebSocket lane; it has no meaning over HTTP.", param="stream_id")
        return TurnRequest(
            principal=principal,
            request=request,
            record=create.record("sse" if request.stream else "http"),
            survey=create.read.survey,
            wants_timing=wants_timing(scope["headers"]),
            lane_terms=self._terms.of(principal.tenant),
        )


class AsItIs:
    """The Responses API's own shape: what the turn pushes is what leaves."""

    def events(self, sse: SseSink) -> Sink:
        """The stream itself."""
        return sse

    def body(self, final: bytes) -> bytes:
        """The response object."""
        return final

    def refusal(self, error: ApiError) -> ApiError:
        """The error itself."""
        return error

    def break_off(self, sse: SseSink, error: ApiError) -> None:
        """An `error` event ends the stream."""
        sse.push_error(error)
        sse.finish()
