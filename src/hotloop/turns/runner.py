"""A turn from its request to its terminal event. `TurnRunner.run` reads as the list of steps (docs/life-of-a-turn.md).

    admit ─▶ created, in_progress ─▶ judge input ─▶ prepare ─▶ start ═▶ events as they come ═▶ commit ─▶ terminal event

A refusal before `created` leaves as the outcome's `error`; what fails later ends in `response.failed`. The state that the
next turn needs is committed before the terminal event is written. From `created` on a turn can be ended early from outside
(`RunningTurn`): the engine is stopped, the items that were whole by then are what the response consists of.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from hotloop.errors import ApiError, ContentBlocked, EngineTimeout, EngineUnavailable, ServerFault, StorageUnavailable
from hotloop.protocol.echo import request_echo
from hotloop.protocol.item_view import with_ids
from hotloop.protocol.items import Item
from hotloop.protocol.response import IncompleteReason, ResponseStream, ResponseUsage, TextLogprob
from hotloop.protocol.steering import may_stop_after
from hotloop.seams.engine import EndReason, TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.ledger import AttemptEnded, AttemptOutcome, AttemptStarted
from hotloop.seams.model import ModelEnd, PreparedTurn
from hotloop.seams.sink import Sink
from hotloop.seams.store import Addition, StoredResponse
from hotloop.session.chain import calls_in
from hotloop.turns.admission import AdmittedTurn, admit
from hotloop.turns.bind import bind
from hotloop.turns.commit import remember, state_behind
from hotloop.turns.compaction import is_asked_for
from hotloop.turns.gate import Gate
from hotloop.turns.held_call import HeldCall
from hotloop.turns.history import read_input
from hotloop.turns.keep_alive import KeepAlive
from hotloop.turns.plan import Plan, Planner
from hotloop.turns.record import monotonic, wall_clock
from hotloop.turns.services import TurnServices
from hotloop.turns.turn_request import TurnOutcome, TurnRequest

logger = logging.getLogger(__name__)

STORE_TIMEOUT_S = 30.0  # a store that hangs must not hang the lane

_NO_USAGE = ResponseUsage(0, 0, 0, 0)
_StopReason = IncompleteReason | Literal["cancelled"]


class TurnRunner:
    """Runs turns on the services given."""

    def __init__(self, services: TurnServices) -> None:
        self.services = services
        self._keep_alive = KeepAlive(services.silence_s, services.turn_timeout_s)

    async def run(self, turn: TurnRequest, sink: Sink) -> TurnOutcome:
        """Run one turn, pushing its events to `sink`. Cancelling it stops the engine and leaves nothing behind."""
        record = turn.record
        parent = turn.parent
        counters = self.services.records.counters
        counters.running += 1
        try:
            if parent is None:
                parent = await bind(self.services, turn.principal, turn.connection, turn.request)
            given = await read_input(self.services, turn.principal, turn.request.input)
            admitted = admit(self.services, turn.principal.tenant, turn.request, parent, given)
            try:
                return await _Turn(self.services, turn, admitted, sink, self._keep_alive).run()
            finally:
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
            counters.running -= 1
            if parent is not None:
                parent.release()
            record.bytes_out = sink.bytes_out
            record.flushed = monotonic()
            self.services.records.add(record)


class _Turn:
    """One admitted turn. Implements `RunningTurn` and `keep_alive.Speaker`."""

    def __init__(
        self, services: TurnServices, turn: TurnRequest, admitted: AdmittedTurn, sink: Sink, keep_alive: KeepAlive
    ) -> None:
        self._services = services
        self._keep_alive = keep_alive
        self._turn = turn
        self._asked = self._admitted = admitted  # as the client asked, as it runs
        self._sink = sink
        self._record = turn.record
        self._gate = Gate(services.classifier)
        self._prepared: PreparedTurn | None = None
        self._ended: asyncio.Future[TurnOutcome | ModelEnd] = asyncio.get_running_loop().create_future()
        self._task = asyncio.current_task()
        self._is_late = False
        self._stopped: _StopReason | None = None  # output is ignored from then on
        self._has_ignored = False  # and there was some
        self._is_steered = False
        self._is_noted = False  # the ledger knows the end
        self._held: HeldCall | None = None
        self._plan: Plan | None = None
        self._planner = Planner(
            services.sealer,
            turn.principal.tenant,
            services.new_id,
            self._watch_summary,
            lambda: self._stopped is not None,
        )
        self.response_id = services.new_id("resp")
        self._stream = ResponseStream(
            response_id=self.response_id,
            created_at=int(wall_clock()),
            echo=request_echo(
                admitted.request,
                admitted.request.model or "",
                admitted.context.echo,
                admitted.model.default_temperature,
            ),
            new_id=services.new_id,
            stream_id=turn.lane,
            reasoning_events=services.reasoning_events,
            seal=self._seal_reasoning if admitted.request.seals_reasoning else None,
        )
        self._new_items: Sequence[Item] | None = None  # with ids, once they were needed

    async def run(self) -> TurnOutcome:
        """`created` to the terminal event."""
        self._announce()
        try:
            outcome = await self._run()
            has_failed = outcome.error is not None and not isinstance(outcome.error, StorageUnavailable)
            if has_failed or self._stopped == "cancelled":
                await self._keep_for_show()
            # Numbered behind what was said since the terminal event.
            ending = None if outcome.ending is None else self._stream.ending()
            return msgspec.structs.replace(outcome, ending=ending)
        except asyncio.CancelledError:
            if not self._is_noted:
                self._note_end("cancelled", None)
            raise
        finally:
            self._keep_alive.forget(self)
            self._note_work()
            if self._prepared is not None:
                self._prepared.discard()  # no effect after a commit

    async def _run(self) -> TurnOutcome:
        try:
            if self._turn.capacity is not None:
                await self._wait_for(self._turn.capacity)
                if self._stopped == "cancelled":
                    return self._cancelled(_NO_USAGE, None)
            self._keep_alive.watch(self)
            ended = await self._generate()
            self._keep_alive.forget(self)
            return ended if isinstance(ended, TurnOutcome) else await self._store_and_finish(ended)
        except ApiError as error:
            # A compaction that fails loses nothing: what it was to sum up stays a parent.
            return msgspec.structs.replace(self._fail(error, None), keeps_parent=is_asked_for(self._asked))
        except asyncio.CancelledError:
            if not self._is_late or self._task is None or self._task.uncancel():
                raise  # somebody else wants it to end
            return self._fail(EngineTimeout("The turn took longer than this server allows."), None)
        except Exception:
            logger.exception("turn %s failed", self.response_id)
            fault = ServerFault(f"Something went wrong on the server's side (response {self.response_id}).")
            return self._fail(fault, None)

    async def _wait_for(self, capacity: Callable[[bytes], Awaitable[object]]) -> None:
        """A background response can be read, as `queued` and then `in_progress`, before it is over."""
        queued = self._stream.snapshot("queued")
        await self._show(queued)
        await capacity(queued)
        if self._stopped is None:
            await self._show(self._stream.snapshot("in_progress"))
            self._sink.push((self._stream.in_progress(),))

    @property
    def bytes_out(self) -> int:
        """Bytes of its events so far."""
        return self._sink.bytes_out

    def speak(self) -> None:
        """The turn was silent for long: `response.in_progress` again. A client that is gone stops the engine."""
        if self._sink.is_closed:
            self._abort()
        elif self._stream.is_running:
            self._sink.push([self._stream.in_progress()])

    def time_out(self) -> None:
        """The turn has had its time: stop waiting for the model."""
        if not self._ended.done() and self._task is not None:
            self._is_late = True
            self._task.cancel()

    def interrupt(self) -> None:
        """See `RunningTurn`. Taken back is the open item; late, it is ignored quietly (docs/protocol.md §9.2)."""
        if self._stopped in (None, "steered") and self._is_sampling():
            self._sink.push(self._stream.interrupt())
            self._stop("interrupted")

    def steer(self) -> None:
        """See `RunningTurn`."""
        self._is_steered = True
        if self._is_sampling() and not self._stream.has_open_item:
            self._stop_if_steered()

    def cancel(self) -> None:
        """See `RunningTurn`."""
        if self._is_sampling():
            self._stop("cancelled")

    def resume(self) -> None:
        """See `RunningTurn`."""
        self._sink.push(self._stream.release())

    def say(self, kind: bytes, fields: bytes) -> None:
        """See `RunningTurn`."""
        self._sink.push(self._stream.aside(kind, fields))

    def _is_sampling(self) -> bool:
        return self._stream.is_running and not self._ended.done()

    def _stop(self, reason: "_StopReason") -> None:
        self._stopped = reason
        self._abort()

    def _stop_if_steered(self) -> bool:
        if self._is_steered and self._stopped is None and may_stop_after(self._stream.output):
            self._stop("steered")
        return self._stopped is not None

    def _abort(self) -> None:
        if self._prepared is not None:
            self._prepared.abort()

    def _announce(self) -> None:
        record = self._record
        record.response_id = self.response_id
        record.model = self._admitted.model.name
        history = self._admitted.history
        record.new_items = len(history.new_items)
        if history.recognised and history.model_state is not None:
            record.recognised_items = history.recognised
            record.recognised_tokens = history.model_state.token_count
        if self._turn.on_created is not None:
            self._turn.on_created(self)
        is_queued = self._turn.capacity is not None
        self._sink.push(self._stream.queued() if is_queued else (self._stream.created(), self._stream.in_progress()))
        record.admitted = monotonic()
        self._services.ledger.attempt_started(
            AttemptStarted(
                event_id=self.response_id,
                response_id=self.response_id,
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
        admitted = self._admitted
        self._gate.check_input(admitted.new_items)
        prepared = self._adopt(await self._planner.plan(admitted))
        self._record.rendered = monotonic()
        prepared.start(self._on_events, self._on_end)
        if self._stopped is not None or (self._is_steered and self._stop_if_steered()):
            prepared.abort()
        self._record.submitted = monotonic()
        return await self._ended

    def _adopt(self, plan: Plan) -> PreparedTurn:
        """Run on the items planned; a compaction among them is the first output."""
        self._plan = plan
        if plan.admitted is not self._admitted:
            self._admitted, self._new_items = plan.admitted, None
        self._prepared = plan.prepared
        if plan.compaction is not None and self._stopped is None:
            self._sink.push(self._stream.compaction(plan.compaction))
            if self._turn.on_compacted is not None:
                self._turn.on_compacted(plan.kept)
        return plan.prepared

    def _watch_summary(self, prepared: PreparedTurn) -> None:
        self._prepared = prepared
        if self._stopped is not None:
            prepared.abort()

    def _on_events(self, events: Sequence[ParsedEvent]) -> None:
        """Parsed output to wire events. The hot path: called once per engine step."""
        if self._stopped is not None:
            self._has_ignored = True
            return
        if not self._record.first_token:
            self._record.first_token = monotonic()
        out: list[bytes] = []
        stream = self._stream
        is_paused = self._sink.is_paused
        for index, event in enumerate(events, 1):
            match event:
                case ItemDelta():
                    if not self._gate.lets_pass(event.text):
                        self._stop("content_filter")
                        break
                    if self._held is not None:
                        self._held.add(event.text)
                        continue
                    if is_paused and not event.logprobs:
                        stream.hold(event.text)
                        continue
                    if stream.held:
                        out += stream.release()
                    logprobs = self._wire_logprobs(event.logprobs) if event.logprobs else ()
                    out.append(stream.delta(event.text, logprobs))
                case ItemOpened():
                    out += self._open_item(event)
                case ItemClosed():
                    out += self._close_item(complete=event.complete)
                    if self._is_steered and event.complete and self._stop_if_steered():
                        self._has_ignored = index < len(events)
                        break
        self._sink.push(out)
        if self._sink.is_closed:
            self._abort()

    def _open_item(self, event: ItemOpened) -> list[bytes]:
        """A call by the name that was offered becomes the one that the client knows."""
        target = self._admitted.context.offer.targets.get(event.name) if event.name else None
        if target is None:
            return self._stream.open_item(event.kind, event.name, event.phase)
        if target.kind:
            self._held = HeldCall(target.kind)
            return []
        return self._stream.open_item(event.kind, target.name, None, target.namespace)

    def _close_item(self, *, complete: bool) -> list[bytes]:
        held, self._held = self._held, None
        if held is None:
            return self._stream.close_item(complete=complete)
        return held.close(self._stream, complete=complete)

    def _seal_reasoning(self, text: str) -> str:
        return self._services.sealer.seal(self._turn.principal.tenant, "reasoning", text)

    def _on_end(self, end: ModelEnd) -> None:
        self._record.last_token = monotonic()
        if self._ended.done():
            return
        if self._admitted.request.stores or self._admitted.request.conversation_id is not None:
            self._ended.set_result(end)
            return
        try:
            self._ended.set_result(self._end_early(end) or self._finish(end, *self._last_events(end)))
        except Exception as error:  # of ours: the engine, which serves others, must not see it
            self._ended.set_exception(error)

    def _wire_logprobs(self, logprobs: Sequence[TokenLogprob]) -> Sequence[TextLogprob]:
        piece = self._admitted.model.piece
        return [
            TextLogprob(piece(entry.token), entry.logprob, [(piece(token), value) for token, value in entry.top])
            for entry in logprobs
        ]

    def _end_early(self, end: ModelEnd) -> TurnOutcome | None:
        """The outcome of a turn that has no whole answer: it failed, was cancelled, or nobody is left to tell."""
        usage = self._wire_usage(end)
        self._record.usage = end.usage
        self._note_work()
        if end.error is not None:
            return self._fail(end.error, usage, end)
        if end.reason is EndReason.ABORTED and self._stopped is None:
            if not self._sink.is_closed:  # nobody asked for it: the engine is being shut down
                return self._fail(EngineUnavailable("The engine was stopped. Try again.", retry_after_s=1), usage, end)
            self._record.outcome = "cancelled"  # the client is gone: nobody is left to tell
            self._note_end("cancelled", end)
            return TurnOutcome(body=b"{}")
        if self._stopped == "cancelled":
            return self._cancelled(usage, end)
        if self._stopped == "content_filter" and not self._stream.has_output:
            return self._fail(ContentBlocked("The output is not allowed by this server's policy."), usage, end)
        return None

    def _last_events(self, end: ModelEnd) -> tuple[IncompleteReason | None, list[bytes], list[bytes]]:
        """Why the response is incomplete, what closes its open item, and its last events up to the terminal one."""
        reason = self._cut_reason(end)
        closing = self._stream.close_item(complete=reason is None) if self._stream.has_open_item else []
        self._record.committed = monotonic()
        timing = self._timing()
        if reason is None:
            terminal = self._stream.completed(self._wire_usage(end), int(wall_clock()))
        else:
            terminal = self._stream.incomplete(reason, self._wire_usage(end))
        return reason, closing, [*timing, terminal]

    async def _store_and_finish(self, end: ModelEnd) -> TurnOutcome:
        """Store, then finish. What closes the last item is sent before the wait."""
        outcome = self._end_early(end)
        if outcome is not None:
            return outcome
        reason, closing, last = self._last_events(end)
        self._sink.push(closing)
        try:
            await _in_time(self._store())
        except ApiError as error:
            self._stream.retract(len(last))
            return self._fail(error, self._wire_usage(end), end)
        return self._finish(end, reason, [], last)

    def _finish(
        self, end: ModelEnd, reason: IncompleteReason | None, closing: list[bytes], last: list[bytes]
    ) -> TurnOutcome:
        """Commit what the next turn needs, then write the terminal event."""
        self._commit(reason)
        self._sink.push([*closing, *last, *self._stream.settled()])
        self._record.outcome = "completed" if reason is None else f"incomplete:{reason}"
        self._note_end("completed" if reason is None else "incomplete", end)
        return TurnOutcome(body=self._stream.final, ending=self._stream.ending())

    def _cancelled(self, usage: ResponseUsage, end: ModelEnd | None) -> TurnOutcome:
        """A cancelled response: an object, not a terminal event, for the protocol has none."""
        self._sink.push(self._stream.close_item(complete=False) if self._stream.has_open_item else [])
        self._stream.cancelled(usage)
        self._record.outcome = "cancelled"
        self._note_end("cancelled", end)
        return TurnOutcome(body=self._stream.final)

    def _fail(self, error: ApiError, usage: ResponseUsage | None, end: ModelEnd | None = None) -> TurnOutcome:
        """`response.failed`; an item left open is closed first."""
        closing = self._stream.close_item(complete=False) if self._stream.has_open_item else []
        closing += self._timing()
        self._sink.push([*closing, self._stream.failed(error, usage), *self._stream.settled()])
        self._record.outcome = f"failed:{error.code}"
        self._note_end("failed", end)
        return TurnOutcome(body=self._stream.final, error=error, ending=self._stream.ending())

    def _cut_reason(self, end: ModelEnd) -> IncompleteReason | None:
        assert self._stopped != "cancelled"
        ran_out = end.reason is not EndReason.ABORTED and not self._has_ignored
        if self._stopped is not None and not (self._stopped == "steered" and ran_out):
            return self._stopped
        only_prefills = self._admitted.request.is_warm_up or self._admitted.prefills_only
        is_cut = end.reason is EndReason.LENGTH and not only_prefills
        return "max_output_tokens" if is_cut else None

    def _commit(self, reason: IncompleteReason | None) -> None:
        """Make the response a parent, and its history one that is recognised when a client resends it."""
        assert self._prepared is not None
        admitted, turn, services = self._admitted, self._turn, self._services
        output = self._written()
        is_cut = reason in ("interrupted", "steered")
        # A blocked text is in the sampled ids: the next turn renders what was released, in full.
        is_kept = reason != "content_filter" and services.remembers
        model_state = self._prepared.commit(output, is_cut=is_cut) if is_kept else None
        state = state_behind(
            admitted,
            self._identified(),
            output,
            response_id=self.response_id,
            model_state=model_state,
            output_bytes=len(self._stream.final),
        )
        remember(services.prefixes, turn.principal.tenant, admitted, self._identified(), self._prepared, state)
        if admitted.request.stores:
            services.chains.put(turn.principal, state, owner=None, lane=turn.lane)
        elif turn.connection is not None:
            services.chains.put(turn.principal, state, owner=turn.connection, lane=turn.lane)
        elif model_state is not None:
            model_state.release()  # over HTTP nobody can name a response that is not stored

    async def _store(self) -> None:
        """The response, if it is to be stored, and what its conversation grows by, in one step."""
        request, output = self._admitted.request, self._stream.output
        addition: Addition | None = None
        if request.conversation_id is not None:
            history = self._asked.history
            is_whole = self._admitted is self._asked
            new = self._identified() if is_whole else with_ids(self._asked.new_items, self._services.new_id)
            items = [*history.items.last(history.recognised), *new, *output]
            size = history.new_bytes + len(self._stream.final)
            addition = Addition(request.conversation_id, items, size, self.response_id)
        principal, store = self._turn.principal, self._services.store
        if request.stores:
            await store.put(principal, self._stored(self._stream.final, continuable=True), addition)
        elif addition is not None:
            await store.extend_conversation(principal, addition)

    async def _keep_for_show(self) -> None:
        """A stored response that failed or was cancelled can be read, not continued."""
        if not self._admitted.request.stores:
            return
        try:
            await self._show(self._stream.final)
        except ApiError:
            logger.warning("the end of response %s could not be stored", self.response_id)

    async def _show(self, body: bytes) -> None:
        await _in_time(self._services.store.put(self._turn.principal, self._stored(body, continuable=False)))

    def _written(self) -> Sequence[Item]:
        """The output behind the new items: a compaction stands among those."""
        return self._stream.output[self._admitted.is_compacted :]

    def _stored(self, body: bytes, *, continuable: bool) -> StoredResponse:
        output = self._written()
        admitted, history = self._admitted, self._admitted.history
        return StoredResponse(
            response_id=self.response_id,
            model=admitted.model.name,
            created_at=self._stream.created_at,
            body=body,
            items=history.items.extended(self._identified()).extended(output),
            new_input=history.recognised + len(history.new_items),
            recognised=history.recognised,
            output=len(output),
            open_calls={**admitted.open_calls, **calls_in(output)},
            size_bytes=history.new_bytes + len(body),
            continuable=continuable,
        )

    def _identified(self) -> Sequence[Item]:
        """The new items, each with an id: whoever resends them later may have them shown."""
        if self._new_items is None:
            self._new_items = with_ids(self._admitted.new_items, self._services.new_id)
        return self._new_items

    def _wire_usage(self, end: ModelEnd) -> ResponseUsage:
        """What the context holds, and all that was sampled: a summary counts too."""
        usage = end.usage
        summary_tokens = self._plan.summary_tokens if self._plan is not None else 0
        return ResponseUsage(
            usage.prompt_tokens, usage.cached_tokens, usage.output_tokens + summary_tokens, end.reasoning_tokens
        )

    def _timing(self) -> list[bytes]:
        if not self._turn.wants_timing:
            return []
        return [self._stream.extension("hotloop:timing", self._record.timing())]

    def _note_work(self) -> None:
        self._record.findings = self._gate.findings
        missed = self._asked.history.missed
        taken = self._prepared.fallbacks if self._prepared is not None else ()
        planned = self._plan.fallbacks if self._plan is not None else ()
        self._record.fallbacks = (*((missed,) if missed else ()), *planned, *taken)

    def _note_end(self, outcome: AttemptOutcome, end: ModelEnd | None) -> None:
        self._is_noted = True
        usage = end.usage if end is not None else self._record.usage
        self._services.ledger.attempt_ended(
            AttemptEnded(
                event_id=self.response_id,
                response_id=self.response_id,
                outcome=outcome,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
                ended_at=wall_clock(),
            )
        )


async def _in_time(storing: Awaitable[object]) -> None:
    """Wait for the store. Raises StorageUnavailable also where it does not answer."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            await storing
    except TimeoutError:
        raise StorageUnavailable("The store did not answer in time.") from None
