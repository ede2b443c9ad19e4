"""One turn, from its request to its terminal event.

    admit ─▶ created, in_progress ─▶ judge input ─▶ prepare ─▶ start ═▶ events as they come ═▶ commit ─▶ terminal event

As far as nothing has to be waited for it goes on by plain calls: in the door's call up to the engine, in the engine's last
call to its end. What does wait (the store, a long text, a grammar that nobody has seen, a place) is a task of the turn's own,
one at a time. A refusal before `created` leaves as the outcome's `error`; what fails later ends in `response.failed`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

import msgspec

from hotloop.errors import ApiError, ContextLengthExceeded, EngineTimeout, ServerFault, StorageUnavailable
from hotloop.protocol.echo import previous_echo
from hotloop.protocol.response import ResponseEnding, ResponseStream
from hotloop.seams.ledger import AttemptStarted
from hotloop.seams.model import ModelEnd, PreparedTurn
from hotloop.seams.sink import Sink
from hotloop.session.chain_settings import NO_SETTINGS
from hotloop.session.input_survey import InputSurvey
from hotloop.turns.admission import AdmittedTurn, admit
from hotloop.turns.attachments import attached, has_attachments
from hotloop.turns.bind import Parent, bind
from hotloop.turns.compaction import is_asked_for
from hotloop.turns.ending import NO_USAGE, TurnEnding
from hotloop.turns.gate import Gate
from hotloop.turns.history import ReadInput, read_at_once, read_input
from hotloop.turns.hosted_tools import HostedTools
from hotloop.turns.keep_alive import KeepAlive
from hotloop.turns.output import TurnOutput
from hotloop.turns.plan import Plan, Planner
from hotloop.turns.record import monotonic, wall_clock
from hotloop.turns.services import TurnServices
from hotloop.turns.terms import prepare_context
from hotloop.turns.turn_request import TurnOutcome, TurnRequest

logger = logging.getLogger(__name__)


class Turn:
    """Goes from `begin` to one call of `on_over`, whatever happens. Implements `keep_alive.Speaker`."""

    # there from admission on
    _admitted: AdmittedTurn
    _stream: ResponseStream
    _output: TurnOutput
    _ending: TurnEnding

    def __init__(
        self,
        services: TurnServices,
        request: TurnRequest,
        sink: Sink,
        keep_alive: KeepAlive,
        on_over: Callable[[TurnOutcome], None],
    ) -> None:
        self._services = services
        self._turn = request
        self._sink = sink
        self._keep_alive = keep_alive
        self._on_over = on_over
        self._record = request.record
        self._parent: Parent | None = request.parent
        self._task: asyncio.Task[None] | None = None
        self._is_late = False
        self._is_admitted = False
        self._is_over = False
        self._lender: AdmittedTurn | None = None  # has what the prefix index lent
        self._hosted: HostedTools | None = None

    # --- from outside ---

    def begin(self) -> None:
        """Go as far as nothing has to be waited for. Everything may be over when this returns."""
        self._services.records.running += 1
        try:
            given = self._read_at_once()
            if given is None:
                self._wait_for(self._read())
            else:
                self._admit(given)
        except Exception as error:
            self._break_off(error)

    def abandon(self) -> None:
        """Nobody wants it any more: stop the engine, leave nothing behind. No effect once it is over."""
        if self._task is not None:
            self._task.cancel()
        elif not self._is_over:
            self._cancelled()

    async def settled(self) -> None:
        """Until no task of the turn is left. For a turn that is over or was abandoned."""
        while self._task is not None:
            await asyncio.wait({self._task})
        if self._hosted is not None:
            await self._hosted.settled()

    def ending(self) -> ResponseEnding:
        """How the response ended, as of now. For a turn whose outcome has an ending."""
        return self._stream.ending()

    @property
    def bytes_out(self) -> int:
        """Bytes of its events so far."""
        return self._sink.bytes_out

    def speak(self) -> None:
        """See `Speaker`."""
        self._output.speak()

    def time_out(self) -> None:
        """The turn has had its time: stop waiting for the model."""
        if self._output.is_ended:
            return
        if self._task is None:
            self._break_off(_too_late())
        else:
            self._is_late = True
            self._task.cancel()

    # --- up to `created` ---

    def _read_at_once(self) -> ReadInput | None:
        turn = self._turn
        request = turn.request
        is_bound = self._parent is not None or (request.previous_response_id is None and request.conversation is None)
        if not is_bound or turn.survey is not None:
            return None
        return read_at_once(self._services, turn.principal, request.input)

    async def _read(self) -> None:
        services, turn = self._services, self._turn
        if self._parent is None:
            self._parent = await bind(services, turn.principal, turn.connection, turn.request)
        survey, raw = turn.survey, turn.request.input
        if survey is None or survey.raw is not raw:  # it may have been put together from several messages
            survey = await self._survey(raw)
        given = await read_input(services, turn.principal, raw, survey, self._parent)
        before = NO_SETTINGS if self._parent is None else self._parent.settings
        await prepare_context(services, turn.request, given.settings_behind(before))
        self._admit(given)

    async def _survey(self, raw: msgspec.Raw) -> InputSurvey | None:
        surveyor = self._services.surveyor
        if surveyor is None:
            return None
        found = await surveyor.survey(raw)
        known = self._record.fallbacks  # what holds for the message's own reading is not said twice
        self._record.fallbacks = (*known, *(name for name in found.fallbacks if name not in known))
        return found.survey

    def _admit(self, given: ReadInput) -> None:
        turn = self._turn
        admitted = admit(
            self._services,
            turn.principal.tenant,
            turn.request,
            self._parent,
            given,
            turn.lane_terms,
            asks_compaction=turn.asks_compaction,
        )
        if admitted.history.share is not None:
            self._lender = admitted
        if has_attachments(admitted.history.new_items):
            self._wait_for(self._attach(admitted))
        else:
            self._run(admitted)

    async def _attach(self, admitted: AdmittedTurn) -> None:
        self._run(await attached(self._services.remote, admitted))

    def _run(self, admitted: AdmittedTurn) -> None:
        """`created`, and on to the model, or to the place that is waited for first."""
        services, turn = self._services, self._turn
        self._admitted = admitted
        self._stream = stream = _stream_of(services, turn, admitted)
        self._output = TurnOutput(
            stream, self._sink, Gate(services.classifier), self._record, admitted.model, admitted.context
        )
        self._ending = TurnEnding(services, turn, admitted, self._output)
        self._is_admitted = True
        self._announce()
        if turn.capacity is not None:
            self._wait_for(self._queue(turn.capacity))
        else:
            self._generate()

    def _announce(self) -> None:
        record, stream, turn = self._record, self._stream, self._turn
        response_id = stream.response_id
        record.response_id = response_id
        record.model = self._admitted.model.name
        history = self._admitted.history
        record.new_items = len(history.new_items)
        if history.recognised and history.model_state is not None:
            record.recognised_items = history.recognised
            record.recognised_tokens = history.model_state.token_count
        if turn.on_created is not None:
            turn.on_created(self._output)
        self._sink.push(stream.begin() if turn.capacity is None else stream.queued())
        record.admitted = monotonic()
        self._services.ledger.attempt_started(
            AttemptStarted(
                response_id, response_id, turn.principal.tenant, turn.principal.key_id, record.model, wall_clock()
            )
        )

    # --- the model ---

    async def _queue(self, capacity: Callable[[bytes], Awaitable[object]]) -> None:
        """A background response can be read, as `queued` and then `in_progress`, before it is over."""
        queued = self._stream.snapshot("queued")
        await self._ending.show(queued)
        await capacity(queued)
        if self._output.stopped is None:
            await self._ending.show(self._stream.snapshot("in_progress"))
            self._sink.push([self._stream.in_progress()])
        if self._output.stopped == "cancelled":
            self._finish(self._ending.cancelled(NO_USAGE, None))
        else:
            self._generate()

    def _generate(self) -> None:
        """Judge, prepare, submit."""
        admitted = self._admitted
        self._keep_alive.watch(self)
        gate = self._output.gate
        if not gate.is_open:
            gate.check_input(admitted.history.new_items)
        if admitted.terms.servers:
            self._wait_for(self._ask_servers())
            return
        prepared = self._prepared_at_once()
        if prepared is None:
            self._wait_for(self._plan())
        else:
            self._start(Plan(admitted, prepared))

    def _prepared_at_once(self) -> PreparedTurn | None:
        admitted = self._admitted
        if admitted.terms.compact_threshold is not None or is_asked_for(admitted):
            return None
        try:
            return admitted.model.prepare_now(admitted.model_request(self._turn.principal.tenant))
        except ContextLengthExceeded:
            return None  # what is then to be done is planned

    async def _ask_servers(self) -> None:
        """What tool servers offer, and calls that were allowed, come before the model's first word."""
        tenant = self._turn.principal.tenant
        self._hosted = HostedTools(self._services, self._admitted, tenant, self._output, self._record)
        self._admitted = admitted = await self._hosted.before()
        self._output.context = admitted.context
        self._ending.rebase(admitted)
        await self._plan()

    async def _plan(self) -> None:
        services, output = self._services, self._output
        planner = Planner(
            services.sealer,
            self._turn.principal.tenant,
            services.new_id,
            output.watch,
            lambda: output.stopped is not None,
        )
        plan = await planner.plan(self._admitted)
        if plan.compaction is not None and output.stopped is None:
            self._sink.push(self._stream.compaction(plan.compaction))
            if self._turn.on_compacted is not None:
                self._turn.on_compacted(plan.kept)
        self._start(plan if self._hosted is None else self._hosted.around(plan))

    def _start(self, plan: Plan) -> None:
        """Run on the items planned. From here on the engine's calls drive the turn."""
        output, prepared = self._output, plan.prepared
        self._ending.adopt(plan)
        output.prepared = prepared
        self._record.rendered = monotonic()
        prepared.start(output.on_events, self._on_end)
        output.started(prepared)
        self._record.submitted = monotonic()

    # --- the end ---

    def _on_end(self, end: ModelEnd) -> None:
        """The engine's last call. A turn that leaves nothing in the store is over when it returns."""
        self._record.last_token = monotonic()
        if self._output.is_ended:
            return
        self._output.is_ended = True
        try:
            if self._admitted.terms.leaves_nothing:
                self._finish(self._ending.end(end))
            else:
                self._keep_alive.forget(self)
                self._wait_for(self._store(end))
        except Exception as error:  # of ours: the engine, which serves others, must not see it
            self._break_off(error)

    async def _store(self, end: ModelEnd) -> None:
        self._finish(await self._ending.store_and_end(end))

    def _finish(self, outcome: TurnOutcome) -> None:
        """Let a stored response that failed or was cancelled be read, then be over."""
        if self._is_admitted and self._admitted.terms.stores:
            has_failed = outcome.error is not None and not isinstance(outcome.error, StorageUnavailable)
            if has_failed or self._output.stopped == "cancelled":
                self._wait_for(self._keep_for_show(outcome))
                return
        self._be_over(outcome)

    async def _keep_for_show(self, outcome: TurnOutcome) -> None:
        await self._ending.keep_for_show()
        # Numbered behind what was said since the terminal event.
        ending = None if outcome.ending is None else self._stream.ending()
        self._be_over(msgspec.structs.replace(outcome, ending=ending))

    def _break_off(self, error: BaseException) -> None:
        """Something went wrong: a refusal before `created`, `response.failed` behind it."""
        if self._is_over:
            logger.error("a turn that was over failed", exc_info=error)
            return
        try:
            self._finish(self._failed(error))
        except Exception:
            logger.exception("a turn could not be ended")
            self._be_over(self._refused(ServerFault("Something went wrong on the server's side.")))

    def _failed(self, error: BaseException) -> TurnOutcome:
        if not self._is_admitted:
            if isinstance(error, ApiError):
                return self._refused(error)
            logger.error("a turn failed before it was admitted", exc_info=error)
            return self._refused(ServerFault("Something went wrong on the server's side."))
        self._output.is_ended = True
        if isinstance(error, ApiError):
            # A compaction that fails loses nothing: what it was to sum up stays a parent.
            return msgspec.structs.replace(self._ending.fail(error, None), keeps_parent=is_asked_for(self._admitted))
        response_id = self._stream.response_id
        logger.error("turn %s failed", response_id, exc_info=error)
        return self._ending.fail(
            ServerFault(f"Something went wrong on the server's side (response {response_id})."), None
        )

    def _refused(self, error: ApiError) -> TurnOutcome:
        self._record.outcome = f"refused:{error.code}"
        return TurnOutcome(error=error)

    def _cancelled(self) -> None:
        self._record.outcome = "cancelled"
        if self._is_admitted:
            self._output.is_ended = True
            if not self._ending.is_noted:
                self._ending.note_end("cancelled", None)
        self._be_over(TurnOutcome())

    def _be_over(self, outcome: TurnOutcome) -> None:
        self._is_over = True
        record, records = self._record, self._services.records
        if self._is_admitted:
            self._keep_alive.forget(self)
            self._ending.note_work()
            prepared = self._output.prepared
            if prepared is not None:
                prepared.discard()  # no effect after a commit
            if self._hosted is not None:
                self._hosted.discard()
        if self._lender is not None:
            self._lender.release()
        if self._parent is not None:
            self._parent.release()
        records.running -= 1
        record.bytes_out = self._sink.bytes_out
        record.flushed = monotonic()
        records.add(record)
        self._on_over(outcome)

    # --- what waits ---

    def _wait_for(self, work: Coroutine[None, None, None]) -> None:
        """Go on with what takes a wait. It ends with the turn's next step, or another wait."""
        self._task = task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._waited)

    def _waited(self, task: "asyncio.Task[None]") -> None:
        if self._task is task:
            self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._break_off(error)
        elif task.cancelled() and not self._is_over:
            if self._is_late and task.cancelling() == 1:
                self._is_late = False
                self._break_off(_too_late())
            else:  # somebody wants it to end
                self._cancelled()


def _too_late() -> EngineTimeout:
    return EngineTimeout("The turn took longer than this server allows.")


def _stream_of(services: TurnServices, turn: TurnRequest, admitted: AdmittedTurn) -> ResponseStream:
    terms, tenant = admitted.terms, turn.principal.tenant
    before, after = terms.echo
    return ResponseStream(
        response_id=services.new_id("resp"),
        created_at=int(wall_clock()),
        echo=b"%b%b%b" % (before, previous_echo(admitted.request), after),  # one copy: it may be long
        new_id=services.new_id,
        stream_id=turn.lane,
        reasoning_events=services.reasoning_events,
        seal=(lambda text: services.sealer.seal(tenant, "reasoning", text)) if terms.seals_reasoning else None,
    )
