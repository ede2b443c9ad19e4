"""One turn of a model that we render for: from the rendered prompt to what is kept of the chain.

Its slower paths:

    kv_lost            the engine dropped the chain's KV: the whole prompt travels again
    kv_forked          the parent's KV handle serves another turn: the chain continues on a fork
    kv_restored        the engine had moved the chain's KV out of its cache, and brought it back
    kv_recomputed      the engine decoded tokens again whose KV it had said to hold
    kv_not_held        the chain's tokens are known but it holds no KV handle: the whole prompt travels
    cut_not_found      where the kept items of an interrupted output end could not be told: the next turn renders in full
    output_rewritten   items left that do not say what was sampled, such as a garbled call as text: they are written anew
"""

import asyncio
import logging
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from hotloop.errors import ApiError, EngineTimeout, EngineUnavailable, SchemaTooComplex, ServerFault
from hotloop.models.cut import length_of_items
from hotloop.models.kv_lease import KvLease
from hotloop.models.model_items import for_model
from hotloop.models.token_state import TokenState, TurnSetup
from hotloop.protocol.items import Item, Message
from hotloop.seams.engine import EndReason, Run, Sampling, TokenLogprob, Usage
from hotloop.seams.format import Extension, Fallback, Parser, RenderState
from hotloop.seams.model import EventsCallback, ModelEnd, ModelEndCallback, ModelRequest
from hotloop.seams.prompt import TurnView
from hotloop.session.token_log import BYTES_PER_TOKEN, TokenView

if TYPE_CHECKING:
    from hotloop.models.token_model import TokenModel

logger = logging.getLogger(__name__)


class Rendered(msgspec.Struct):
    """A prompt without its generation prompt. The first `keep` tokens are the parent's."""

    view: TokenView
    state: RenderState
    parent: TokenState | None
    keep: int
    fallbacks: list[str]


def _nobody_listens(said: object) -> None:
    """Before the start and after the end nothing is called back."""


class PreparedTokenTurn(msgspec.Struct, eq=False):
    """One turn of a `TokenModel`. See `seams.model.PreparedTurn`."""

    prompt_tokens: int
    fallbacks: list[str]
    model: "TokenModel"
    request: ModelRequest
    setup: TurnSetup
    rendered: Rendered
    generation: "array[int]"
    sampling: Sampling
    parser: Parser
    turn: TurnView
    sampled: "array[int]"
    on_events: EventsCallback = _nobody_listens
    on_end: ModelEndCallback = _nobody_listens
    lease: KvLease | None = None
    kept_tokens: int = 0  # of these the engine said that it holds their KV
    owns_lease: bool = False  # the lease was opened for this turn, not taken over from the parent
    running: Run | None = None
    outcome: ModelEnd | None = None
    is_settled: bool = False
    is_aborted: bool = False
    fault: ApiError | None = None  # ours, found while reading the output

    def start(self, on_events: EventsCallback, on_end: ModelEndCallback) -> None:
        """Submit to the engine."""
        assert self.lease is None, "started twice"
        self.on_events = on_events
        self.on_end = on_end
        self.lease = lease = self._take_lease()
        lease.is_busy = True
        try:
            common = self.rendered.view.length if self.owns_lease else self.rendered.keep
            keep = min(lease.held, common)
            self.kept_tokens = 0 if self.owns_lease else keep
            self._submit(keep)
        except BaseException:  # nothing runs: no end will give the lease back
            lease.is_busy = False
            if self.owns_lease:
                lease.release()
            self.lease = None
            raise

    def abort(self) -> None:
        """Stop sampling; `on_end` still comes."""
        self.is_aborted = True
        if self.running is not None and self.outcome is None:
            self.running.abort()

    def commit(self, output: Sequence[Item], *, is_cut: bool = False, is_rewritten: bool = False) -> TokenState | None:
        """Keep the chain with the output behind it."""
        assert self.outcome is not None and not self.is_settled and self.lease is not None
        sampled = self.sampled
        if is_cut and not is_rewritten:
            length = length_of_items(lambda: self.model.format.parser(self.request.context), sampled, len(output))
            if length is None:
                self.fallbacks.append("cut_not_found")
                return None
            sampled = sampled[:length]
        self.is_settled = True
        rendered, lease = self.rendered, self.lease
        view, state = rendered.view, rendered.state
        held_in_view = view.length
        if self.request.generate and (output or not is_cut):
            is_text = len(output) == 1 and type(output[0]) is Message  # written here: seen as it is
            seen = output if is_text else for_model(output)
            extension = self._behind_output(seen, None if is_rewritten else sampled)
            if isinstance(extension, Fallback):
                self.is_settled = False
                self.fallbacks.append(extension.reason)
                return None
            state = extension.state
            if extension.reason is not None:
                self.fallbacks.append(extension.reason)
            held_in_view = extension.keep
            if held_in_view == view.length:
                decoded = self.generation + self.sampled
                is_as_decoded = extension.tokens[: len(decoded)] == decoded
                held_in_view += len(decoded) if is_as_decoded else _common_prefix(extension.tokens, decoded)
            else:  # other tokens stand there in the KV
                view = view.head(extension.keep)
            view = view.append(extension.tokens)
        lease.held = min(self.outcome.usage.held_tokens, held_in_view)
        lease.tip = view
        if not self.owns_lease:
            lease.retain()
        kept = self._state(view, state, lease)
        kept.size_bytes = max(view.length - rendered.keep, 0) * BYTES_PER_TOKEN
        return kept

    def _behind_output(self, output: Sequence[Item], sampled: Sequence[int] | None) -> Extension | Fallback:
        """What the log gets: the ids as they were sampled; None: what the items are written with, as if a client sent them."""
        rendered, format_ = self.rendered, self.model.format
        if sampled is not None:
            return format_.commit(rendered.state, rendered.view.length, sampled, output)
        self.fallbacks.append("output_rewritten")
        return format_.extend(rendered.state, rendered.view.length, output)

    def input_state(self) -> TokenState:
        """The chain with the input behind it."""
        return self._state(self.rendered.view, self.rendered.state, None)

    def _state(self, view: TokenView, state: RenderState, lease: KvLease | None) -> TokenState:
        kin = self.lease.reference if self.lease is not None else None
        return TokenState(self.model, self.setup, view, state, lease, kin)

    def discard(self) -> None:
        """Keep nothing; the parent's lease goes back as far as it still holds the parent's tokens."""
        if self.is_settled:
            return
        self.is_settled = True
        if self.lease is not None and self.outcome is None:
            self.abort()  # the lease goes back when the engine has stopped
        else:
            self._give_lease_back()

    def _give_lease_back(self) -> None:
        lease, parent = self.lease, self.rendered.parent
        if lease is None:
            return
        if self.owns_lease:
            lease.release()
            return
        assert self.outcome is not None and parent is not None
        lease.held = min(self.outcome.usage.held_tokens, self.rendered.keep)
        lease.tip = parent.view

    def _take_lease(self) -> KvLease:
        """The parent's lease if it stands at the parent's tip and is free, else one of our own."""
        rendered = self.rendered
        parent = rendered.parent
        continues = parent is not None and rendered.keep > 0
        if parent is not None and continues:
            lease = parent.lease
            if lease is None:
                return self._open_lease(parent.kin, "kv_not_held")
            may_rewind = lease.handle.can_rewind or lease.held <= rendered.keep
            if not lease.is_busy and lease.tip is parent.view and may_rewind:
                return lease
            return self._open_lease(lease, "kv_forked")
        return self._open_lease(None if parent is None else parent.kin, None)

    def _open_lease(self, kin: KvLease | None, reason: str | None) -> KvLease:
        """A lease of our own, whose KV begins as that of `kin` does."""
        if reason is not None:
            self.fallbacks.append(reason)
        self.owns_lease = True
        view = self.rendered.view
        parent = kin.handle if kin is not None else None
        return KvLease(self.model.engine.open(view, parent=parent, tenant=self.request.tenant), view)

    def _submit(self, keep: int) -> None:
        assert self.lease is not None
        if not self.prompt_tokens:  # a warm-up of nothing asks nothing of an engine
            asyncio.get_running_loop().call_soon(self._ended, EndReason.LENGTH, Usage(), "")
            return
        if self.request.generate and keep == self.prompt_tokens:
            keep -= 1  # nothing is new, and a model decodes behind a token that it reads now
        new = self.rendered.view.tokens(keep) + self.generation
        self.running = self.lease.handle.generate(
            keep,
            new,
            sampling=self.sampling,
            constraint=self.setup.constraint,
            turn=self.turn,
            on_step=self._step,
            on_end=self._ended,
        )
        if self.is_aborted:
            self.running.abort()

    def _step(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> None:
        if self.is_settled or self.fault is not None:
            return
        self.sampled.extend(ids)
        try:
            events = self.parser.feed(ids, logprobs)
            if events:
                self.on_events(events)
        except Exception:
            self._note_fault()

    def _note_fault(self) -> None:
        """The output could not be read: that ends this turn; it must not reach the engine, which serves others."""
        logger.exception("the output could not be read")
        self.fault = ServerFault("Something went wrong on the server's side.")
        self.abort()

    def _ended(self, reason: EndReason, usage: Usage, detail: str) -> None:
        assert self.lease is not None
        if reason is EndReason.NEEDS_FULL_PROMPT and not self.sampled and not (self.is_aborted or self.is_settled):
            if "kv_lost" not in self.fallbacks:
                self._resubmit()
                return
            reason, detail = EndReason.UNAVAILABLE, "the engine lost the chain's KV twice"
        self.lease.is_busy = False
        if usage.restored_tokens:
            self.fallbacks.append("kv_restored")
        if usage.output_tokens and usage.cached_tokens < self.kept_tokens - 1:  # one is read again for its logits
            self.fallbacks.append("kv_recomputed")
        if self.is_settled:  # discarded while it ran
            self.outcome = ModelEnd(reason, usage)
            self._give_lease_back()
            return
        if self.request.generate and self.fault is None:
            try:
                events = self.parser.finish(complete=reason is EndReason.STOP)
                if events:
                    self.on_events(events)
            except Exception:
                self._note_fault()
        error = self.fault or (None if reason is EndReason.STOP else _failure(reason, detail))
        self.outcome = ModelEnd(reason, usage, self.parser.reasoning_tokens, error)
        on_end = self.on_end
        self.running, self.on_events, self.on_end = None, _nobody_listens, _nobody_listens  # no cycle with the turn
        on_end(self.outcome)

    def _resubmit(self) -> None:
        """The handle lost its KV: open one for the whole prompt and go on with that."""
        assert self.lease is not None
        self.fallbacks.append("kv_lost")
        self.kept_tokens = 0
        view = self.rendered.view
        handle = self.model.engine.open(view, parent=None, tenant=self.request.tenant)
        self.lease.replace_handle(handle, view)
        self._submit(view.length)


def _failure(reason: EndReason, detail: str) -> ApiError | None:
    match reason:
        case EndReason.UNAVAILABLE | EndReason.NEEDS_FULL_PROMPT:
            logger.warning("engine unavailable: %s", detail)
            return EngineUnavailable("The engine stopped before the turn was finished. Try again.", retry_after_s=1)
        case EndReason.TIMEOUT:
            return EngineTimeout("The engine did not answer in time.")
        case EndReason.CONSTRAINT:
            return SchemaTooComplex(f"The output constraint cannot be used: {detail}", param="tools")
        case EndReason.STOP | EndReason.LENGTH | EndReason.ABORTED:
            return None


def _common_prefix(a: "array[int]", b: "array[int]") -> int:
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
