"""How a turn ends: what the next one needs is committed, what is to be kept is stored, then the terminal event leaves."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence

from hotloop.errors import ApiError, ContentBlocked, EngineUnavailable, StorageUnavailable
from hotloop.protocol.item_view import with_ids
from hotloop.protocol.items import Compaction, Item
from hotloop.protocol.response import IncompleteReason, ResponseUsage
from hotloop.seams.engine import EndReason
from hotloop.seams.ledger import AttemptEnded, AttemptOutcome
from hotloop.seams.model import ModelEnd
from hotloop.seams.store import Addition, StoredResponse
from hotloop.session.chain import calls_in
from hotloop.turns.admission import AdmittedTurn
from hotloop.turns.commit import remember, state_behind
from hotloop.turns.output import TurnOutput
from hotloop.turns.plan import Plan
from hotloop.turns.record import monotonic, wall_clock
from hotloop.turns.services import TurnServices
from hotloop.turns.turn_request import TurnOutcome, TurnRequest

logger = logging.getLogger(__name__)

STORE_TIMEOUT_S = 30.0  # a store that hangs must not hang the lane
NO_USAGE = ResponseUsage(0, 0, 0, 0)


class TurnEnding:
    """The end of one admitted turn. Each way to end gives the outcome, and has told the client and the ledger of it."""

    def __init__(self, services: TurnServices, turn: TurnRequest, admitted: AdmittedTurn, output: TurnOutput) -> None:
        self.is_noted = False  # the ledger knows the end
        self._services = services
        self._turn = turn
        self._record = turn.record
        self._asked = self._admitted = admitted  # as the client asked, as it runs
        self._output = output
        self._stream = output.stream
        self._sink = output.sink
        self._read = turn.record.fallbacks  # what was noted before the turn began
        self._plan: Plan | None = None
        self._new_items: Sequence[Item] | None = None  # with ids, once they were needed

    def rebase(self, admitted: AdmittedTurn) -> None:
        """The turn as it is once its servers were asked."""
        self._asked = self._admitted = admitted

    def adopt(self, plan: Plan) -> None:
        """The turn runs on the items planned."""
        self._plan = plan
        if plan.admitted is not self._admitted:
            self._admitted, self._new_items = plan.admitted, None

    def end(self, end: ModelEnd) -> TurnOutcome:
        """The end of a turn that leaves nothing in the store."""
        return self._early(end) or self._finish(end, *self._last_events(end))

    async def store_and_end(self, end: ModelEnd) -> TurnOutcome:
        """Store, then finish. What closes the last item is sent before the wait."""
        outcome = self._early(end)
        if outcome is not None:
            return outcome
        reason, closing, last = self._last_events(end)
        self._sink.push(closing)
        try:
            await _in_time(self._store())
        except ApiError as error:
            self._stream.retract(len(last))
            return self.fail(error, self._wire_usage(end), end)
        return self._finish(end, reason, [], last)

    def cancelled(self, usage: ResponseUsage, end: ModelEnd | None) -> TurnOutcome:
        """A cancelled response: an object, not a terminal event, for the protocol has none."""
        self._sink.push(self._stream.close_open(complete=False))
        self._stream.cancelled(usage)
        self._record.outcome = "cancelled"
        self.note_end("cancelled", end)
        return TurnOutcome(body=self._stream.final)

    def fail(self, error: ApiError, usage: ResponseUsage | None, end: ModelEnd | None = None) -> TurnOutcome:
        """`response.failed`; an item left open is closed first."""
        closing = self._stream.close_open(complete=False)
        closing += self._timing()
        self._sink.push([*closing, self._stream.failed(error, usage), *self._stream.settled()])
        self._record.outcome = f"failed:{error.code}"
        self.note_end("failed", end)
        return TurnOutcome(body=self._stream.final, error=error, ending=self._stream.ending())

    async def show(self, body: bytes) -> None:
        """Let the response be read as `body` says; it cannot be continued. Raises StorageUnavailable."""
        await _in_time(self._services.store.put(self._turn.principal, self._stored(body, continuable=False)))

    async def keep_for_show(self) -> None:
        """A stored response that failed or was cancelled can be read, not continued."""
        if not self._admitted.terms.stores:
            return
        try:
            await self.show(self._stream.final)
        except ApiError:
            logger.warning("the end of response %s could not be stored", self._stream.response_id)

    def note_work(self) -> None:
        """What the record is to say of findings and detours."""
        output = self._output
        self._record.findings = output.gate.findings
        missed = self._asked.history.missed
        taken = output.prepared.fallbacks if output.prepared is not None else ()
        planned = self._plan.fallbacks if self._plan is not None else ()
        self._record.fallbacks = (*self._read, *((missed,) if missed else ()), *planned, *taken)

    def note_end(self, outcome: AttemptOutcome, end: ModelEnd | None) -> None:
        """Tell the ledger."""
        self.is_noted = True
        usage = end.usage if end is not None else self._record.usage
        self._services.ledger.attempt_ended(
            AttemptEnded(
                event_id=self._stream.response_id,
                response_id=self._stream.response_id,
                outcome=outcome,
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
                ended_at=wall_clock(),
            )
        )

    def _early(self, end: ModelEnd) -> TurnOutcome | None:
        """The outcome of a turn that has no whole answer: it failed, was cancelled, or nobody is left to tell."""
        self._record.usage = end.usage
        stopped = self._output.stopped
        if end.error is None and stopped is None and end.reason is not EndReason.ABORTED:
            return None
        usage = self._wire_usage(end)
        if end.error is not None:
            return self.fail(end.error, usage, end)
        if end.reason is EndReason.ABORTED and stopped is None:
            if not self._sink.is_closed:  # nobody asked for it: the engine is being shut down
                return self.fail(EngineUnavailable("The engine was stopped. Try again.", retry_after_s=1), usage, end)
            self._record.outcome = "cancelled"  # the client is gone: nobody is left to tell
            self.note_end("cancelled", end)
            return TurnOutcome(body=b"{}")
        if stopped == "cancelled":
            return self.cancelled(usage, end)
        if stopped == "content_filter" and not self._stream.has_output:
            return self.fail(ContentBlocked("The output is not allowed by this server's policy."), usage, end)
        return None

    def _last_events(self, end: ModelEnd) -> tuple[IncompleteReason | None, list[bytes], list[bytes]]:
        """Why the response is incomplete, what closes its open item, and its last events up to the terminal one."""
        is_whole = end.reason is EndReason.STOP and self._output.stopped is None
        reason = None if is_whole else self._cut_reason(end)
        closing = self._stream.close_open(complete=reason is None)
        self._record.committed = monotonic()
        last = self._timing() if self._turn.wants_timing else []
        if reason is None:
            last.append(self._stream.completed(self._wire_usage(end), int(wall_clock())))
        else:
            last.append(self._stream.incomplete(reason, self._wire_usage(end)))
        return reason, closing, last

    def _finish(
        self, end: ModelEnd, reason: IncompleteReason | None, closing: list[bytes], last: list[bytes]
    ) -> TurnOutcome:
        """Commit what the next turn needs, then write the terminal event."""
        self._commit(reason)
        self._sink.push([*closing, *last, *self._stream.settled()])
        self._record.outcome = "completed" if reason is None else f"incomplete:{reason}"
        self.note_end("completed" if reason is None else "incomplete", end)
        return TurnOutcome(body=self._stream.final, ending=self._stream.ending())

    def _cut_reason(self, end: ModelEnd) -> IncompleteReason | None:
        stopped = self._output.stopped
        assert stopped != "cancelled"
        ran_out = end.reason is not EndReason.ABORTED and not self._output.has_ignored
        if stopped is not None and not (stopped == "steered" and ran_out):
            return stopped
        only_prefills = self._admitted.terms.is_warm_up or self._admitted.prefills_only
        is_cut = end.reason is EndReason.LENGTH and not only_prefills
        return "max_output_tokens" if is_cut else None

    def _commit(self, reason: IncompleteReason | None) -> None:
        """Make the response a parent, and its history one that is recognised when a client resends it."""
        assert self._plan is not None
        prepared = self._plan.prepared
        admitted, turn, services = self._admitted, self._turn, self._services
        output = self._written() if admitted.is_compacted else self._stream.output
        is_cut = reason in ("interrupted", "steered")
        # A blocked text is in the sampled ids: the next turn renders what was released, in full.
        is_kept = reason != "content_filter" and services.remembers
        is_rewritten = self._output.is_rewritten
        model_state = prepared.commit(output, is_cut=is_cut, is_rewritten=is_rewritten) if is_kept else None
        given = admitted.history.items.extended(self._identified())
        state = state_behind(
            admitted,
            given,
            output,
            response_id=self._stream.response_id,
            model_state=model_state,
            output_bytes=len(self._stream.final),
        )
        remember(services.prefixes, turn.principal.tenant, admitted, given, prepared, state)
        if admitted.terms.stores:
            services.chains.put(turn.principal, state, owner=None, lane=turn.lane)
        elif turn.connection is not None:
            services.chains.put(turn.principal, state, owner=turn.connection, lane=turn.lane)
        elif model_state is not None:
            model_state.release()  # over HTTP nobody can name a response that is not stored

    async def _store(self) -> None:
        """The response, if it is to be stored, and what its conversation grows by, in one step."""
        terms, output = self._admitted.terms, self._stream.output
        addition: Addition | None = None
        if terms.conversation_id is not None:
            history = self._asked.history
            is_whole = self._admitted is self._asked
            new = self._identified() if is_whole else with_ids(self._asked.new_items, self._services.new_id)
            items = [*history.items.last(history.recognised), *new, *output]
            size = history.new_bytes + len(self._stream.final)
            addition = Addition(terms.conversation_id, items, size, self._stream.response_id)
        principal, store = self._turn.principal, self._services.store
        if terms.stores:
            await store.put(principal, self._stored(self._stream.final, continuable=True), addition)
        elif addition is not None:
            await store.extend_conversation(principal, addition)

    def _written(self) -> Sequence[Item]:
        """The output behind the new items: a compaction stands among those."""
        output = self._stream.output
        if not self._admitted.is_compacted:
            return output
        return [item for item in output if not isinstance(item, Compaction)]

    def _stored(self, body: bytes, *, continuable: bool) -> StoredResponse:
        output = self._written()
        admitted, history = self._admitted, self._admitted.history
        return StoredResponse(
            response_id=self._stream.response_id,
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
            self._new_items = with_ids(self._admitted.history.new_items, self._services.new_id)
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
        self.note_work()
        return [self._stream.extension("hotloop:timing", self._record.timing())]


async def _in_time(storing: Awaitable[object]) -> None:
    """Wait for the store. Raises StorageUnavailable also where it does not answer."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            await storing
    except TimeoutError:
        raise StorageUnavailable("The store did not answer in time.") from None
