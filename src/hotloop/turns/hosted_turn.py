"""The server's own loop: a turn whose model calls tools that are run here, and is then asked again (docs/hosted-tools.md).

    model writes ──▶ calls of its output are run ──▶ their outputs are appended ──▶ model writes on
        │                       │
        └── none: over          └── the client has calls of its own to answer, or was asked: outputs appended, over

To the turn around it, it is one prepared turn like any other. Each round continues the chain of the one before, so that it
costs what is new in it; its tokens are sampled ones and outputs, in the order in which they came.
"""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from hotloop.errors import ApiError, ServerFault
from hotloop.protocol.hosted_items import as_called, read_call
from hotloop.protocol.items import CustomToolCall, FunctionCall, FunctionCallOutput, HostedItem, Item
from hotloop.seams.engine import EndReason, Usage
from hotloop.seams.model import EventsCallback, ModelEnd, ModelEndCallback, ModelRequest, PreparedTurn
from hotloop.seams.prompt import CallRules
from hotloop.session.chain import ModelState
from hotloop.session.principal import Tenant
from hotloop.turns.admission import AdmittedTurn
from hotloop.turns.hosted_calls import HostedCalls
from hotloop.turns.output import TurnOutput
from hotloop.turns.record import TurnRecord

logger = logging.getLogger(__name__)


class HostedTurn:
    """Implements `seams.model.PreparedTurn` over one prepared turn of the model per round."""

    def __init__(
        self,
        first: PreparedTurn,
        admitted: AdmittedTurn,
        tenant: Tenant,
        calls: HostedCalls,
        output: TurnOutput,
        record: TurnRecord,
    ) -> None:
        self.prompt_tokens = first.prompt_tokens
        self._first = self._current = first
        self._admitted = admitted
        self._request = admitted.model_request(tenant)
        self._calls = calls
        self._output = output
        self._record = record
        targets = admitted.context.offer.targets
        self._names = {(target.server, target.name): name for name, target in targets.items() if target.server}
        self._begins = len(output.stream.output)  # place in the output at which the current round's begins
        self._is_prefill = False  # the current round only appends
        self._states: list[ModelState] = []  # of the rounds before
        self._earlier_fallbacks: list[str] = []
        self._usage = Usage()
        self._reasoning_tokens = 0
        self._is_aborted = False
        self._task: asyncio.Task[None] | None = None

    @property
    def fallbacks(self) -> Sequence[str]:
        """See `PreparedTurn`."""
        return [*self._earlier_fallbacks, *self._current.fallbacks]

    def start(self, on_events: EventsCallback, on_end: ModelEndCallback) -> None:
        """See `PreparedTurn`."""
        self._on_events = on_events
        self._on_end = on_end
        self._current.start(on_events, self._round_over)

    def abort(self) -> None:
        """See `PreparedTurn`. A call that runs is stopped."""
        self._is_aborted = True
        self._current.abort()
        self._calls.abort()

    def commit(self, output: Sequence[Item], *, is_cut: bool = False, is_rewritten: bool = False) -> ModelState | None:
        """See `PreparedTurn`. `output` is that of all rounds."""
        count = len(self._output.stream.output) - self._begins
        own = list(output)[len(output) - count :]
        try:
            if self._is_prefill:
                return self._current.commit(own)
            return self._current.commit(own, is_cut=is_cut, is_rewritten=is_rewritten)
        finally:
            self._release()

    def input_state(self) -> ModelState | None:
        """See `PreparedTurn`. A call that had waited for consent is no input."""
        has_answers = any(isinstance(item, HostedItem) for item in self._admitted.answered)
        return None if has_answers else self._first.input_state()

    def discard(self) -> None:
        """See `PreparedTurn`."""
        if self._task is not None:
            self._task.cancel()
        self._current.discard()
        self._release()

    async def wait(self, timeout_s: float) -> None:
        """Wait, behind `discard`, for what it stopped."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=timeout_s)

    def _release(self) -> None:
        states, self._states = self._states, []
        for state in states:
            state.release()

    def _round_over(self, end: ModelEnd) -> None:
        """The model has ended. Called by the engine: what is to be waited for is left to a task."""
        self._usage = _sum(self._usage, end.usage)
        self._reasoning_tokens += end.reasoning_tokens
        stopped = self._output.stopped
        is_over = (
            end.error is not None
            or end.reason is EndReason.LENGTH
            or stopped in ("cancelled", "content_filter")
            or (end.reason is EndReason.ABORTED and stopped is None)
            or not self._output.stream.pending
        )
        if is_over:
            self._end(end.reason, end.error)
        else:
            self._task = asyncio.get_running_loop().create_task(self._answer(end), name="hosted calls")

    async def _answer(self, end: ModelEnd) -> None:
        """Run the calls, and have the model go on. Whatever comes of it, the end is told once."""
        try:
            await self._go_on(end)
        except ApiError as error:
            self._end(EndReason.ABORTED, error)
        except Exception:
            logger.exception("a turn failed between two rounds")
            self._end(EndReason.ABORTED, ServerFault("Something went wrong on the server's side."))

    async def _go_on(self, end: ModelEnd) -> None:
        stream = self._output.stream
        written = [stream.output[index] for index in range(self._begins, len(stream.output))]
        answers = await self._calls.run(list(stream.pending.values()))
        if self._output.sink.is_closed or self._output.stopped == "cancelled":
            self._end(EndReason.ABORTED, None)
            return
        state = self._current.commit(
            list(map(self._as_written, written)),
            is_cut=end.reason is EndReason.ABORTED,
            is_rewritten=self._output.is_rewritten,
        )
        self._output.is_rewritten = False  # the next round's output is another
        if state is not None:
            self._states.append(state)
        request, reason = self._next_request(written, answers, state)
        prepared = await self._admitted.model.prepare(request)
        self._earlier_fallbacks += self._current.fallbacks
        self._current, self._begins, self._is_prefill = prepared, len(stream.output), reason is not None
        self._record.rounds += 1
        if reason is None:
            if self._is_aborted:
                prepared.abort()
            prepared.start(self._on_events, self._round_over)
        else:
            told = reason
            prepared.start(lambda events: None, lambda over: self._appended(over, told))

    def _as_written(self, item: Item) -> Item:
        """What the model wrote of an item: of a call, not its output."""
        return as_called(item, self._names) if isinstance(item, HostedItem) else item

    def _next_request(
        self, written: Sequence[Item], answers: Sequence[FunctionCallOutput], state: ModelState | None
    ) -> tuple[ModelRequest, EndReason | None]:
        """The next round, and why the turn is over when it has appended the outputs, if it is."""
        request = self._request
        reason = self._reason_to_end(written)
        wishes, rules = request.wishes, self._next_rules(request.rules)
        if wishes.max_output_tokens is not None:
            left = wishes.max_output_tokens - self._usage.output_tokens
            wishes = msgspec.structs.replace(wishes, max_output_tokens=max(left, 1))
            if left < 1 and reason is None:
                reason = EndReason.LENGTH
        own = self._output.stream.output[len(self._admitted.answered) + self._admitted.is_compacted :]
        return (
            msgspec.structs.replace(
                request,
                history=request.history.extended(request.new_items).extended(own),
                new_items=(),
                unseen=answers,
                parent=state,
                rules=rules,
                wishes=wishes,
                generate=reason is None,
            ),
            reason,
        )

    def _reason_to_end(self, written: Sequence[Item]) -> EndReason | None:
        if self._output.stopped is not None:
            return EndReason.ABORTED
        return EndReason.STOP if any(map(_waits_for_client, written)) else None

    def _next_rules(self, rules: CallRules) -> CallRules:
        """What was required was called; behind the last call that may be made the model is left to answer."""
        allowed = None if rules.choice == "named" else rules.allowed
        rules = msgspec.structs.replace(rules, choice="none" if rules.choice == "none" else "auto", allowed=allowed)
        if self._calls.may_call and self._record.rounds + 1 < self._calls.limits.max_rounds:
            return rules
        offer = self._admitted.context.offer
        others = (rules.allowed if rules.allowed is not None else offer.names) - offer.server_tools
        return (
            msgspec.structs.replace(rules, allowed=others)
            if others
            else msgspec.structs.replace(rules, choice="none", allowed=None)
        )

    def _appended(self, end: ModelEnd, reason: EndReason) -> None:
        """The outputs stand behind what the model wrote: for the turn that goes on from here."""
        usage = end.usage
        self._usage = msgspec.structs.replace(
            self._usage,
            queue_s=self._usage.queue_s + usage.queue_s,
            prefill_s=self._usage.prefill_s + usage.prefill_s,
            held_tokens=usage.held_tokens,
        )
        self._end(reason, end.error)

    def _end(self, reason: EndReason, error: ApiError | None) -> None:
        self._on_end(ModelEnd(reason, self._usage, self._reasoning_tokens, error))


def _waits_for_client(item: Item) -> bool:
    if isinstance(item, HostedItem):
        return read_call(item) is None
    return isinstance(item, FunctionCall | CustomToolCall)


def _sum(a: Usage, b: Usage) -> Usage:
    return Usage(
        prompt_tokens=a.prompt_tokens + b.prompt_tokens,
        cached_tokens=a.cached_tokens + b.cached_tokens,
        restored_tokens=a.restored_tokens + b.restored_tokens,
        output_tokens=a.output_tokens + b.output_tokens,
        held_tokens=b.held_tokens,
        queue_s=a.queue_s + b.queue_s,
        prefill_s=a.prefill_s + b.prefill_s,
        decode_s=a.decode_s + b.decode_s,
    )
