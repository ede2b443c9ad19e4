"""One turn behind an HTTP request: streamed as server-sent events or answered as one object.

A client that leaves stops its turn; a server that shuts down and waits no longer refuses it.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from hotloop.errors import ApiError, Overloaded
from hotloop.seams.sink import Sink
from hotloop.server.answers import error_response, json_response
from hotloop.server.body import AsgiReceive, AsgiScope
from hotloop.server.connections import OpenConnections
from hotloop.server.sinks import AsgiSend, DiscardSink, SseSink
from hotloop.server.slow_reader import abort_of
from hotloop.turns.runner import TurnRunner
from hotloop.turns.turn_request import TurnOutcome, TurnRequest

FLUSH_TIMEOUT_S = 120.0  # for what a slow reader has not taken when its turn is over: 16 MiB at 1 Mbit/s
SHUTDOWN_FLUSH_S = 1.0  # for the last event of a stream that the server gives up


class AnswerShape(Protocol):
    """What the client sees of a turn."""

    def events(self, sse: SseSink) -> Sink:
        """Where the turn pushes its events; they come out of `sse`."""
        ...

    def body(self, final: bytes) -> bytes:
        """The JSON answer for the terminal response object."""
        ...

    def refusal(self, error: ApiError) -> ApiError:
        """The error as the client is to see it."""
        ...

    def break_off(self, sse: SseSink, error: ApiError) -> None:
        """End a stream in the middle of a response."""
        ...


class HttpTurns:
    """Runs turns for HTTP requests."""

    def __init__(
        self,
        runner: TurnRunner,
        open_connections: OpenConnections,
        *,
        max_pending_bytes: int,
        max_delay_s: float = 0.0,
    ) -> None:
        self.runner = runner
        self.open = open_connections
        self._max_pending_bytes = max_pending_bytes
        self._max_delay_s = max_delay_s

    async def serve(
        self, turn: TurnRequest, shape: AnswerShape, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend
    ) -> None:
        """Run the turn and answer."""
        job = _HttpTurn()
        self.open.add(job)
        try:
            if turn.request.stream:
                await self._stream(turn, shape, job, scope, receive, send)
            else:
                await self._answer(turn, shape, job, scope, receive, send)
        finally:
            self.open.remove(job)

    async def _stream(
        self,
        turn: TurnRequest,
        shape: AnswerShape,
        job: "_HttpTurn",
        scope: AsgiScope,
        receive: AsgiReceive,
        send: AsgiSend,
    ) -> None:
        sse = SseSink(send, max_pending_bytes=self._max_pending_bytes, max_delay_s=self._max_delay_s)
        turn.on_created = lambda running: sse.on_writable(running.resume)
        pump = asyncio.create_task(sse.pump())

        async def run_and_flush() -> TurnOutcome:
            outcome = await self.runner.run(turn, shape.events(sse))
            if not outcome.is_refused and sse.bytes_out and not sse.is_closed:
                sse.finish()
                await asyncio.wait({pump}, timeout=FLUSH_TIMEOUT_S)
            return outcome

        try:
            outcome = await job.run(run_and_flush(), receive)
            if outcome is None or outcome.error is None:
                return
            if not sse.bytes_out:
                await error_response(shape.refusal(outcome.error))(scope, receive, send)
            elif outcome.is_refused and not sse.is_closed:  # the server gives up in the middle of a stream
                shape.break_off(sse, outcome.error)
                await asyncio.wait({pump}, timeout=SHUTDOWN_FLUSH_S)
        finally:
            if sse.is_paused:  # its client does not read: the server would keep what it has not taken for ever
                abort_of(scope)()
            sse.close()
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    async def _answer(
        self,
        turn: TurnRequest,
        shape: AnswerShape,
        job: "_HttpTurn",
        scope: AsgiScope,
        receive: AsgiReceive,
        send: AsgiSend,
    ) -> None:
        outcome = await job.run(self.runner.run(turn, DiscardSink()), receive)
        if outcome is None:
            return
        error = outcome.error
        response = json_response(shape.body(outcome.body)) if error is None else error_response(shape.refusal(error))
        await response(scope, receive, send)


class _HttpTurn:
    """A turn that ends when its client leaves or the server stops waiting for it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[TurnOutcome] | None = None
        self._is_abandoned = False

    @property
    def waiting(self) -> int:
        """A turn over HTTP waits for nobody."""
        return 0

    def drain(self) -> None:
        """A turn finishes by itself."""

    def abandon(self) -> None:
        """Stop the turn."""
        self._is_abandoned = True
        if self._task is not None:
            self._task.cancel()

    async def run(self, turn: Coroutine[Any, Any, TurnOutcome], receive: AsgiReceive) -> TurnOutcome | None:
        """The turn's outcome, or None if the client left first. A turn the server dropped is refused with 503."""
        self._task = asyncio.create_task(turn)
        watch = asyncio.create_task(client_left(receive))
        try:
            await asyncio.wait({self._task, watch}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done() and not self._task.cancelled():
                return self._task.result()
            if self._is_abandoned:
                return TurnOutcome(error=Overloaded("The server is shutting down.", retry_after_s=1))
            return None
        finally:
            watch.cancel()
            self._task.cancel()
            await asyncio.gather(self._task, watch, return_exceptions=True)


async def client_left(receive: AsgiReceive) -> None:
    """Until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
