"""What a turn says while it runs: the model's output, judged, as events; and what can be asked of it meanwhile.

    engine step ─▶ parser ─▶ on_events ─▶ gate ─▶ stream ─▶ sink          by plain calls, once per step

Until it is stopped (`stopped` says why) everything the model writes leaves; what comes after that is ignored.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from hotloop.protocol.open_item import TextLogprob
from hotloop.protocol.response import IncompleteReason, ResponseStream
from hotloop.protocol.steering import may_stop_after
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.model import Model, PreparedTurn
from hotloop.seams.sink import Sink
from hotloop.turns.gate import Gate
from hotloop.turns.held_call import HeldApproval, HeldCall
from hotloop.turns.record import TurnRecord, monotonic
from hotloop.turns.services import ModelContext

StopReason = IncompleteReason | Literal["cancelled"]


class Stoppable(Protocol):
    """Work that an end from outside aborts."""

    @property
    def fallbacks(self) -> Sequence[str]:
        """Slower paths that it took."""
        ...

    def abort(self) -> None:
        """Stop as soon as possible."""
        ...

    def discard(self) -> None:
        """Keep nothing of it. Idempotent."""
        ...


class TurnOutput:
    """The output of one admitted turn. Implements `RunningTurn`."""

    def __init__(
        self,
        stream: ResponseStream,
        sink: Sink,
        gate: Gate,
        record: TurnRecord,
        model: Model,
        context: ModelContext,
    ) -> None:
        self.response_id = stream.response_id
        self.stream = stream
        self.sink = sink
        self.gate = gate
        self.prepared: Stoppable | None = None  # what an end from outside aborts
        self.stopped: StopReason | None = None  # output is ignored from then on
        self.has_ignored = False  # and there was some
        self.is_rewritten = False  # an item that left does not say what was sampled
        self.is_ended = False  # the model's end was seen, or is not waited for any longer
        self._record = record
        self._model = model
        self.context = context
        self._is_steered = False
        self._held: HeldCall | HeldApproval | None = None

    def speak(self) -> None:
        """The turn was silent for long: `response.in_progress` again. A client that is gone stops the engine."""
        if self.sink.is_closed:
            self._abort()
        elif self.stream.is_running:
            self.sink.push([self.stream.in_progress()])

    def interrupt(self) -> None:
        """See `RunningTurn`. Taken back is the open item; late, it is ignored quietly (docs/protocol.md §9.2)."""
        if self.stopped in (None, "steered") and self._is_sampling():
            self.sink.push(self.stream.interrupt())
            self._stop("interrupted")

    def steer(self) -> None:
        """See `RunningTurn`."""
        self._is_steered = True
        if self._is_sampling() and not self.stream.has_open_item:
            self._stop_if_steered()

    def cancel(self) -> None:
        """See `RunningTurn`."""
        if self._is_sampling():
            self._stop("cancelled")

    def resume(self) -> None:
        """See `RunningTurn`."""
        self.sink.push(self.stream.release())

    def say(self, kind: bytes, fields: bytes) -> None:
        """See `RunningTurn`."""
        self.sink.push(self.stream.aside(kind, fields))

    def started(self, prepared: PreparedTurn) -> None:
        """The model samples: what was asked before takes effect now."""
        if self.stopped is not None or (self._is_steered and self._stop_if_steered()):
            prepared.abort()

    def watch(self, prepared: PreparedTurn) -> None:
        """An end from outside, also one that came before, aborts `prepared`."""
        self.prepared = prepared
        if self.stopped is not None:
            prepared.abort()

    def on_events(self, events: Sequence[ParsedEvent]) -> None:
        """Parsed output to wire events. The hot path: called once per engine step."""
        if self.stopped is not None:
            self.has_ignored = True
            return
        if not self._record.first_token:
            self._record.first_token = monotonic()
        out: list[bytes] = []
        stream = self.stream
        is_paused, is_open = self.sink.is_paused, self.gate.is_open
        for index, event in enumerate(events, 1):
            match event:
                case ItemDelta():
                    if not (is_open or self.gate.lets_pass(event.text)):
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
                        self.has_ignored = index < len(events)
                        break
        self.sink.push(out)
        if self.sink.is_closed:
            self._abort()

    def _is_sampling(self) -> bool:
        return self.stream.is_running and not self.is_ended

    def _stop(self, reason: StopReason) -> None:
        self.stopped = reason
        self._abort()

    def _stop_if_steered(self) -> bool:
        if self._is_steered and self.stopped is None and may_stop_after(self.stream.output):
            self._stop("steered")
        return self.stopped is not None

    def _abort(self) -> None:
        if self.prepared is not None:
            self.prepared.abort()

    def _open_item(self, event: ItemOpened) -> list[bytes]:
        """A call by the name that was offered becomes the one that the client knows."""
        targets = self.context.offer.targets
        target = targets.get(event.name) if targets and event.name else None
        if target is None:
            return self.stream.open_item(event.kind, event.name, event.phase)
        if target.kind:
            self._held = HeldCall(target.kind)
            return []
        if target.server:
            if target.needs_approval:
                self._held = HeldApproval(target.server, target.name)
                return []
            return self.stream.open_hosted_call(target.server, target.name)
        return self.stream.open_item(event.kind, target.name, None, target.namespace, is_async=target.is_async)

    def _close_item(self, *, complete: bool) -> list[bytes]:
        held, self._held = self._held, None
        if held is None:
            return self.stream.close_item(complete=complete)
        events = held.close(self.stream, complete=complete)
        self.is_rewritten |= held.says_otherwise
        return events

    def _wire_logprobs(self, logprobs: Sequence[TokenLogprob]) -> Sequence[TextLogprob]:
        piece = self._model.piece
        return [
            TextLogprob(piece(entry.token), entry.logprob, [(piece(token), value) for token, value in entry.top])
            for entry in logprobs
        ]
