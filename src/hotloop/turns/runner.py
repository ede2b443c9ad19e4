"""A turn from its request to its terminal event. `TurnRunner.run` reads as the list of steps (docs/life-of-a-turn.md).

    admit ─▶ created, in_progress ─▶ judge input ─▶ prepare ─▶ start ═▶ events as they come ═▶ commit ─▶ terminal event

A refusal before `created` leaves as the outcome's `error`; what fails later ends in `response.failed`. The state that the
next turn needs is committed before the terminal event is written. From `created` on a turn can be ended early from outside
(`RunningTurn`): the engine is stopped, the items that were whole by then are what the response consists of.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from hotloop.errors import ApiError, EngineTimeout, ServerFault, StorageUnavailable
from hotloop.protocol.echo import previous_echo
from hotloop.protocol.response import ResponseStream
from hotloop.seams.ledger import AttemptStarted
from hotloop.seams.model import ModelEnd, PreparedTurn
from hotloop.seams.sink import Sink
from hotloop.turns.admission import AdmittedTurn, admit
from hotloop.turns.attachments import attached, has_attachments
from hotloop.turns.bind import bind
from hotloop.turns.compaction import is_asked_for
from hotloop.turns.ending import NO_USAGE, TurnEnding
from hotloop.turns.gate import Gate
from hotloop.turns.history import read_input
from hotloop.turns.keep_alive import KeepAlive
from hotloop.turns.output import TurnOutput
from hotloop.turns.plan import Planner
from hotloop.turns.record import monotonic, wall_clock
from hotloop.turns.services import TurnServices
from hotloop.turns.turn_request import TurnOutcome, TurnRequest

logger = logging.getLogger(__name__)


class TurnRunner:
    """Runs turns on the services given."""

    def __init__(self, services: TurnServices) -> None:
        self.services = services
        self._keep_alive = KeepAlive(services.silence_s, services.turn_timeout_s)

    async def run(self, turn: TurnRequest, sink: Sink) -> TurnOutcome:
        """Run one turn, pushing its events to `sink`. Cancelling it stops the engine and leaves nothing behind."""
        record = turn.record
        parent = turn.parent
        records = self.services.records
        records.running += 1
        try:
            if parent is None:
                parent = await bind(self.services, turn.principal, turn.connection, turn.request)
            given = await read_input(self.services, turn.principal, turn.request.input, turn.survey, parent)
            admitted = admit(self.services, turn.principal.tenant, turn.request, parent, given, turn.lane_terms)
            try:
                if has_attachments(admitted.new_items):
                    admitted = await attached(self.services.remote, admitted)
                return await _Turn(self.services, turn, admitted, sink, self._keep_alive).run()
            finally:
                if admitted.history.share is not None:
                    admitted.release()
        except ApiError as error:
            record.outcome = f"refused:{error.code}"
            return TurnOutcome(error=error)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        except Exception:
            logger.exception("a turn failed before it was admitted")
            record.outcome = "refused:server_error"
            return TurnOutcome(error=ServerFault("Something went wrong on the server's side."))
        finally:
            records.running -= 1
            if parent is not None:
                parent.release()
            record.bytes_out = sink.bytes_out
            record.flushed = monotonic()
            records.add(record)


class _Turn:
    """One admitted turn, step by step; what it says is its output's, how it ends its ending's. Implements `Speaker`."""

    def __init__(
        self, services: TurnServices, turn: TurnRequest, admitted: AdmittedTurn, sink: Sink, keep_alive: KeepAlive
    ) -> None:
        self._services = services
        self._keep_alive = keep_alive
        self._turn = turn
        self._admitted = admitted
        self._sink = sink
        self._record = turn.record
        self._ended: asyncio.Future[TurnOutcome | ModelEnd] = asyncio.get_running_loop().create_future()
        self._task = asyncio.current_task()
        self._is_late = False
        self._stream = _stream_of(services, turn, admitted)
        self._output = TurnOutput(
            self._stream,
            sink,
            Gate(services.classifier),
            turn.record,
            admitted.model,
            admitted.context,
            self._ended.done,
        )
        self._ending = TurnEnding(services, turn, admitted, self._output)

    async def run(self) -> TurnOutcome:
        """`created` to the terminal event."""
        self._announce()
        try:
            outcome = await self._run()
            has_failed = outcome.error is not None and not isinstance(outcome.error, StorageUnavailable)
            if has_failed or self._output.stopped == "cancelled":
                await self._ending.keep_for_show()
            # Numbered behind what was said since the terminal event.
            ending = None if outcome.ending is None else self._stream.ending()
            return msgspec.structs.replace(outcome, ending=ending)
        except asyncio.CancelledError:
            if not self._ending.is_noted:
                self._ending.note_end("cancelled", None)
            raise
        finally:
            self._keep_alive.forget(self)
            self._ending.note_work()
            if self._output.prepared is not None:
                self._output.prepared.discard()  # no effect after a commit

    async def _run(self) -> TurnOutcome:
        try:
            if self._turn.capacity is not None:
                await self._wait_for(self._turn.capacity)
                if self._output.stopped == "cancelled":
                    return self._ending.cancelled(NO_USAGE, None)
            self._keep_alive.watch(self)
            ended = await self._generate()
            self._keep_alive.forget(self)
            return ended if isinstance(ended, TurnOutcome) else await self._ending.store_and_end(ended)
        except ApiError as error:
            # A compaction that fails loses nothing: what it was to sum up stays a parent.
            return msgspec.structs.replace(self._ending.fail(error, None), keeps_parent=is_asked_for(self._admitted))
        except asyncio.CancelledError:
            if not self._is_late or self._task is None or self._task.uncancel():
                raise  # somebody else wants it to end
            return self._ending.fail(EngineTimeout("The turn took longer than this server allows."), None)
        except Exception:
            logger.exception("turn %s failed", self._stream.response_id)
            message = f"Something went wrong on the server's side (response {self._stream.response_id})."
            return self._ending.fail(ServerFault(message), None)

    async def _wait_for(self, capacity: Callable[[bytes], Awaitable[object]]) -> None:
        """A background response can be read, as `queued` and then `in_progress`, before it is over."""
        queued = self._stream.snapshot("queued")
        await self._ending.show(queued)
        await capacity(queued)
        if self._output.stopped is None:
            await self._ending.show(self._stream.snapshot("in_progress"))
            self._sink.push((self._stream.in_progress(),))

    @property
    def bytes_out(self) -> int:
        """Bytes of its events so far."""
        return self._sink.bytes_out

    def speak(self) -> None:
        """See `Speaker`."""
        self._output.speak()

    def time_out(self) -> None:
        """The turn has had its time: stop waiting for the model."""
        if not self._ended.done() and self._task is not None:
            self._is_late = True
            self._task.cancel()

    def _announce(self) -> None:
        record, response_id = self._record, self._stream.response_id
        record.response_id = response_id
        record.model = self._admitted.model.name
        history = self._admitted.history
        record.new_items = len(history.new_items)
        if history.recognised and history.model_state is not None:
            record.recognised_items = history.recognised
            record.recognised_tokens = history.model_state.token_count
        if self._turn.on_created is not None:
            self._turn.on_created(self._output)
        is_queued = self._turn.capacity is not None
        self._sink.push(self._stream.queued() if is_queued else self._stream.begin())
        record.admitted = monotonic()
        self._services.ledger.attempt_started(
            AttemptStarted(
                event_id=response_id,
                response_id=response_id,
                tenant=self._turn.principal.tenant,
                key_id=self._turn.principal.key_id,
                model=record.model,
                started_at=wall_clock(),
            )
        )

    async def _generate(self) -> TurnOutcome | ModelEnd:
        """Prepare, submit, and wait for the engine's end while events flow by plain calls.

        A turn that leaves nothing in the store is over when the engine is: its outcome is made by the engine's own call.
        """
        self._output.gate.check_input(self._admitted.history.new_items)
        prepared = await self._prepare()
        self._record.rendered = monotonic()
        prepared.start(self._output.on_events, self._on_end)
        self._output.started(prepared)
        self._record.submitted = monotonic()
        return await self._ended

    async def _prepare(self) -> PreparedTurn:
        """Plan the turn and take over the items planned; a compaction among them is the first output."""
        services, output = self._services, self._output
        planner = Planner(
            services.sealer,
            self._turn.principal.tenant,
            services.new_id,
            output.watch,
            lambda: output.stopped is not None,
        )
        plan = await planner.plan(self._admitted)
        self._ending.adopt(plan)
        output.prepared = plan.prepared
        if plan.compaction is not None and output.stopped is None:
            self._sink.push(self._stream.compaction(plan.compaction))
            if self._turn.on_compacted is not None:
                self._turn.on_compacted(plan.kept)
        return plan.prepared

    def _on_end(self, end: ModelEnd) -> None:
        self._record.last_token = monotonic()
        if self._ended.done():
            return
        if not self._admitted.terms.leaves_nothing:
            self._ended.set_result(end)
            return
        try:
            self._ended.set_result(self._ending.end(end))
        except Exception as error:  # of ours: the engine, which serves others, must not see it
            self._ended.set_exception(error)


def _stream_of(services: TurnServices, turn: TurnRequest, admitted: AdmittedTurn) -> ResponseStream:
    terms, tenant = admitted.terms, turn.principal.tenant
    before, after = terms.echo
    return ResponseStream(
        response_id=services.new_id("resp"),
        created_at=int(wall_clock()),
        echo=before + previous_echo(admitted.request) + after,
        new_id=services.new_id,
        stream_id=turn.lane,
        reasoning_events=services.reasoning_events,
        seal=(lambda text: services.sealer.seal(tenant, "reasoning", text)) if terms.seals_reasoning else None,
    )
