"""One turn of a model that we render for: from the rendered prompt to what is kept of the chain.

Its slower paths:

    kv_lost            the engine dropped the chain's KV: the whole prompt travels again
    kv_forked          the parent's KV handle serves another turn: the chain continues on a fork
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
from hotloop.models.model_items import for_model, plain_chars
from hotloop.models.token_state import TokenState
from hotloop.protocol.items import Item
from hotloop.seams.engine import Constraint, EndReason, Run, Sampling, TokenLogprob, Usage
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


class PreparedTokenTurn:
    """One turn of a `TokenModel`. See `seams.model.PreparedTurn`."""

    def __init__(
        self,
        model: "TokenModel",
        request: ModelRequest,
        rendered: Rendered,
        generation: "array[int]",
        sampling: Sampling,
        constraint: Constraint | None,
    ) -> None:
        self.prompt_tokens = rendered.view.length + len(generation)
        self.fallbacks: list[str] = rendered.fallbacks
        self._model = model
        self._request = request
        self._rendered = rendered
        self._generation = generation
        self._sampling = sampling
        self._constraint = constraint
        self._parser: Parser = model.format.parser(request.context)
        self._sampled = array("I")
        self._turn = TurnView(request.history.extended(request.new_items), request.context, request.rules)
        self._lease: KvLease | None = None
        self._owns_lease = False  # the lease was opened for this turn, not taken over from the parent
        self._run: Run | None = None
        self._end: ModelEnd | None = None
        self._is_settled = False
        self._aborted = False
        self._fault: ApiError | None = None  # ours, found while reading the output

    def start(self, on_events: EventsCallback, on_end: ModelEndCallback) -> None:
        """Submit to the engine."""
        assert self._lease is None, "started twice"
        self._on_events = on_events
        self._on_end = on_end
        self._lease = lease = self._take_lease()
        lease.is_busy = True
        try:
            common = self._rendered.view.length if self._owns_lease else self._rendered.keep
            self._submit(min(lease.held, common))
        except BaseException:  # nothing runs: no end will give the lease back
            lease.is_busy = False
            if self._owns_lease:
                lease.release()
            self._lease = None
            raise

    def abort(self) -> None:
        """Stop sampling; `on_end` still comes."""
        self._aborted = True
        if self._run is not None and self._end is None:
            self._run.abort()

    def commit(self, output: Sequence[Item], *, is_cut: bool = False, is_rewritten: bool = False) -> TokenState | None:
        """Keep the chain with the output behind it."""
        assert self._end is not None and not self._is_settled and self._lease is not None
        sampled = self._sampled
        if is_cut and not is_rewritten:
            length = length_of_items(lambda: self._model.format.parser(self._request.context), sampled, len(output))
            if length is None:
                self.fallbacks.append("cut_not_found")
                return None
            sampled = sampled[:length]
        self._is_settled = True
        rendered, lease = self._rendered, self._lease
        view, state = rendered.view, rendered.state
        held_in_view = view.length
        if self._request.generate and (output or not is_cut):
            seen = output if plain_chars(output) >= 0 else for_model(output)
            extension = self._behind_output(seen, None if is_rewritten else sampled)
            if isinstance(extension, Fallback):
                self._is_settled = False
                self.fallbacks.append(extension.reason)
                return None
            state = extension.state
            if extension.reason is not None:
                self.fallbacks.append(extension.reason)
            held_in_view = extension.keep
            if held_in_view == view.length:
                held_in_view += _common_prefix(extension.tokens, self._generation + self._sampled)
            else:  # other tokens stand there in the KV
                view = view.head(extension.keep)
            view = view.append(extension.tokens)
        lease.held = min(self._end.usage.held_tokens, held_in_view)
        lease.tip = view
        if not self._owns_lease:
            lease.retain()
        kept = self._state(view, state, lease)
        kept.size_bytes = max(view.length - rendered.keep, 0) * BYTES_PER_TOKEN
        return kept

    def _behind_output(self, output: Sequence[Item], sampled: Sequence[int] | None) -> Extension | Fallback:
        """What the log gets: the ids as they were sampled; None: what the items are written with, as if a client sent them."""
        rendered, format_ = self._rendered, self._model.format
        if sampled is not None:
            return format_.commit(rendered.state, rendered.view.length, sampled, output)
        self.fallbacks.append("output_rewritten")
        return format_.extend(rendered.state, rendered.view.length, output)

    def input_state(self) -> TokenState:
        """The chain with the input behind it."""
        return self._state(self._rendered.view, self._rendered.state, None)

    def _state(self, view: TokenView, state: RenderState, lease: KvLease | None) -> TokenState:
        kin = self._lease.reference if self._lease is not None else None
        request = self._request
        return TokenState(self._model, request.context, request.rules, self._constraint, view, state, lease, kin)

    def discard(self) -> None:
        """Keep nothing; the parent's lease goes back as far as it still holds the parent's tokens."""
        if self._is_settled:
            return
        self._is_settled = True
        if self._lease is not None and self._end is None:
            self.abort()  # the lease goes back when the engine has stopped
        else:
            self._give_lease_back()

    def _give_lease_back(self) -> None:
        lease, parent = self._lease, self._rendered.parent
        if lease is None:
            return
        if self._owns_lease:
            lease.release()
            return
        assert self._end is not None and parent is not None
        lease.held = min(self._end.usage.held_tokens, self._rendered.keep)
        lease.tip = parent.view

    def _take_lease(self) -> KvLease:
        """The parent's lease if it stands at the parent's tip and is free, else one of our own."""
        rendered = self._rendered
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
        self._owns_lease = True
        view = self._rendered.view
        parent = kin.handle if kin is not None else None
        return KvLease(self._model.engine.open(view, parent=parent, tenant=self._request.tenant), view)

    def _submit(self, keep: int) -> None:
        assert self._lease is not None
        if not self.prompt_tokens:  # a warm-up of nothing asks nothing of an engine
            asyncio.get_running_loop().call_soon(self._ended, EndReason.LENGTH, Usage(), "")
            return
        if self._request.generate and keep == self.prompt_tokens:
            keep -= 1  # nothing is new, and a model decodes behind a token that it reads now
        new = self._rendered.view.tokens(keep) + self._generation
        self._run = self._lease.handle.generate(
            keep,
            new,
            sampling=self._sampling,
            constraint=self._constraint,
            turn=self._turn,
            on_step=self._step,
            on_end=self._ended,
        )
        if self._aborted:
            self._run.abort()

    def _step(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> None:
        if self._is_settled or self._fault is not None:
            return
        self._sampled.extend(ids)
        try:
            events = self._parser.feed(ids, logprobs)
            if events:
                self._on_events(events)
        except Exception:
            self._note_fault()

    def _note_fault(self) -> None:
        """The output could not be read: that ends this turn; it must not reach the engine, which serves others."""
        logger.exception("the output could not be read")
        self._fault = ServerFault("Something went wrong on the server's side.")
        self.abort()

    def _ended(self, reason: EndReason, usage: Usage, detail: str) -> None:
        assert self._lease is not None
        if reason is EndReason.NEEDS_FULL_PROMPT and not self._sampled and not (self._aborted or self._is_settled):
            if "kv_lost" not in self.fallbacks:
                self._resubmit()
                return
            reason, detail = EndReason.UNAVAILABLE, "the engine lost the chain's KV twice"
        self._lease.is_busy = False
        if self._is_settled:  # discarded while it ran
            self._end = ModelEnd(reason, usage)
            self._give_lease_back()
            return
        if self._request.generate and self._fault is None:
            try:
                events = self._parser.finish(complete=reason is EndReason.STOP)
                if events:
                    self._on_events(events)
            except Exception:
                self._note_fault()
        error = self._fault or (None if reason is EndReason.STOP else _failure(reason, detail))
        self._end = ModelEnd(reason, usage, self._parser.reasoning_tokens, error)
        on_end = self._on_end
        self._run, self._on_events, self._on_end = None, _nobody_listens, _nobody_listens  # no cycle with the turn
        on_end(self._end)

    def _resubmit(self) -> None:
        """The handle lost its KV: open one for the whole prompt and go on with that."""
        assert self._lease is not None
        self.fallbacks.append("kv_lost")
        view = self._rendered.view
        handle = self._model.engine.open(view, parent=None, tenant=self._request.tenant)
        self._lease.replace_handle(handle, view)
        self._submit(view.length)


def _nobody_listens(said: object) -> None:
    """After the end nothing is called back."""


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
    if a[: len(b)] == b:
        return len(b)
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
