"""A model we render for: format, tokenizer and engine behind the `Model` seam.

A turn appends what its new items render to; the engine gets those tokens only. Every slower path has a name:

    context_changed    instructions, tools or render options differ from the parent's: rendered in full
    state_not_kept     the parent came from the store: rendered in full
    kv_lost            the engine dropped the chain's KV: the whole prompt travels again
    kv_forked          the parent's KV handle serves another turn: the chain continues on a fork
    cut_not_found      where the kept items of an interrupted output end could not be told: the next turn renders in full
    kv_not_held        the chain's tokens are known but it holds no KV handle: the whole prompt travels
    and what a format names, such as `reasoning_dropped`
"""

import asyncio
import logging
import weakref
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotloop.errors import (
    ApiError,
    ContextLengthExceeded,
    EngineTimeout,
    EngineUnavailable,
    InvalidRequest,
    SchemaTooComplex,
    ServerFault,
)
from hotloop.models.constraint_book import ConstraintBook
from hotloop.models.cut import length_of_items
from hotloop.models.kv_lease import KvLease
from hotloop.models.model_items import for_model
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    Reasoning,
    text_of,
)
from hotloop.seams.engine import Constraint, EndReason, Engine, Run, Sampling, TokenLogprob, Usage
from hotloop.seams.format import Extension, Fallback, Format, Parser, RenderState
from hotloop.seams.grammar import GrammarValidator
from hotloop.seams.model import EventsCallback, ModelEnd, ModelEndCallback, ModelRequest
from hotloop.seams.prompt import PromptContext, TurnView
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.item_log import ItemLog
from hotloop.session.token_log import BYTES_PER_TOKEN, LogMeter, TokenView

logger = logging.getLogger(__name__)

OFF_LOOP_CHARS = 32_768  # longer new text is tokenized in a thread: about 10 ms at 3 M characters a second


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """Sampling of a request that says nothing."""

    temperature: float = 1.0
    top_p: float = 1.0


class TokenState:
    """What a turn keeps of its chain: the token log's view, the format's state, a share of the KV lease (or None).

    Without a share it remembers who has the KV of its chain, its `kin`: a fork of that lease shares the chain's beginning.
    """

    def __init__(
        self,
        model: "TokenModel",
        context: PromptContext,
        view: TokenView,
        render_state: RenderState,
        lease: KvLease | None,
        kin: KvLease | None = None,
    ) -> None:
        self.model = model
        self.context = context
        self.view = view
        self.render_state = render_state
        self.lease = lease
        self.size_bytes = 0
        self._kin = _weak(lease or kin)

    @property
    def kin(self) -> KvLease | None:
        """The lease that holds KV of this chain, whoever keeps it open."""
        kin = self._kin()
        return kin if kin is not None and kin.is_open else None

    @property
    def token_count(self) -> int:
        """Tokens of the chain."""
        return len(self.view)

    def share(self) -> "TokenState":
        """The same for one more holder."""
        if self.lease is not None:
            self.lease.retain()
        return TokenState(self.model, self.context, self.view, self.render_state, self.lease, self._kin())

    def release_kv(self) -> None:
        """Keep the tokens only. Idempotent."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()

    def release(self) -> None:
        """Let go of the lease. Idempotent."""
        self.release_kv()


def _weak(lease: KvLease | None) -> "Callable[[], KvLease | None]":
    return (lambda: None) if lease is None else weakref.ref(lease)


class TokenModel:
    """Implements `seams.model.Model` over an engine that takes token ids."""

    def __init__(
        self,
        name: str,
        *,
        format: Format,
        tokenizer: Tokenizer,
        engine: Engine,
        defaults: ModelDefaults | None = None,
        validator: GrammarValidator | None = None,
    ) -> None:
        self.name = name
        self.format = format
        self.tokenizer = tokenizer
        self.engine = engine
        self._defaults = defaults or ModelDefaults()
        self.log = LogMeter()  # of the token logs of all chains
        self._validator = validator
        self._constraints = ConstraintBook(format, validator)

    @property
    def context_tokens(self) -> int:
        """Most tokens of prompt and output together."""
        return self.engine.context_tokens

    @property
    def default_temperature(self) -> float:
        """What a request without `temperature` gets."""
        return self._defaults.temperature

    @property
    def kept_bytes(self) -> int:
        """Bytes of the token logs of all chains."""
        return self.log.size_bytes

    def piece(self, token: int) -> bytes:
        """Bytes of a token."""
        return self.tokenizer.piece(token)

    async def prepare(self, request: ModelRequest) -> "PreparedTokenTurn":
        """Render and tokenize what is new, or everything where a fallback says so."""
        constraint = await self._constraints.get(request.context, request.rules)
        rendered = await self._render(request)
        generation = self.format.generation_prompt(rendered.state) if request.generate else array("I")
        prompt_tokens = len(rendered.view) + len(generation)
        if not prompt_tokens and request.generate:
            raise InvalidRequest("The prompt is empty: give at least one item.", param="input")
        room = self.context_tokens - prompt_tokens
        if room < (1 if request.generate else 0):
            raise ContextLengthExceeded(prompt_tokens, self.context_tokens)
        sampling = self._sampling(request, room)
        return PreparedTokenTurn(self, request, rendered, generation, sampling, constraint)

    async def close(self) -> None:
        """Free the engine and the validator."""
        await self.engine.close()
        if self._validator is not None:
            await self._validator.close()

    async def _render(self, request: ModelRequest) -> "_Rendered":
        parent = request.parent
        reason: str | None = None
        if isinstance(parent, TokenState) and parent.model is self:
            if not parent.context.same_as(request.context):
                reason = "context_changed"
            else:
                extension = await self._extend(parent.render_state, len(parent.view), request.new_items)
                if isinstance(extension, Extension):
                    view = parent.view.head(extension.keep).append(extension.tokens)
                    fallbacks = [extension.reason] if extension.reason else []
                    return _Rendered(view, extension.state, parent, extension.keep, fallbacks)
                reason = extension.reason
        elif len(request.history):
            reason = "state_not_kept"
        items = request.history.extended(request.new_items)
        start = self._start(request.context)
        extension = await self._extend(start.state, len(start.tokens), items)
        if isinstance(extension, Fallback):
            raise ServerFault(f"The {self.format.name} format cannot render this conversation ({extension.reason}).")
        view = TokenView.of(start.tokens, self.log).head(extension.keep).append(extension.tokens)
        kept_parent = parent if isinstance(parent, TokenState) and parent.model is self else None
        return _Rendered(view, extension.state, kept_parent, 0, [reason] if reason else [])

    async def _extend(self, state: RenderState, length: int, items: "Sequence[Item] | ItemLog") -> Extension | Fallback:
        sequence = for_model(items if isinstance(items, Sequence) else tuple(items))
        if _text_chars(sequence) > OFF_LOOP_CHARS:
            return await asyncio.to_thread(self.format.extend, state, length, sequence)
        return self.format.extend(state, length, sequence)

    def _sampling(self, request: ModelRequest, room: int) -> Sampling:
        wishes = request.wishes
        wanted = room if wishes.max_output_tokens is None else min(wishes.max_output_tokens, room)
        return Sampling(
            max_tokens=wanted if request.generate else 0,
            temperature=self._defaults.temperature if wishes.temperature is None else wishes.temperature,
            top_p=self._defaults.top_p if wishes.top_p is None else wishes.top_p,
            presence_penalty=wishes.presence_penalty,
            frequency_penalty=wishes.frequency_penalty,
            seed=wishes.seed,
            stop_tokens=self.format.stop_tokens,
            top_logprobs=wishes.top_logprobs,
        )

    def _start(self, context: PromptContext) -> Extension:
        """The start of a chain; the tokens of one that was seen before are not made again."""
        if context.shelf is None:
            return self.format.begin(context)
        return context.shelf.get("start", lambda: self.format.begin(context), _start_bytes)


@dataclass(slots=True)
class _Rendered:
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
        model: TokenModel,
        request: ModelRequest,
        rendered: _Rendered,
        generation: "array[int]",
        sampling: Sampling,
        constraint: Constraint | None,
    ) -> None:
        self.prompt_tokens = len(rendered.view) + len(generation)
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
            self._submit(min(lease.held, self._common_with_lease()))
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

    def commit(self, output: Sequence[Item], *, is_cut: bool = False) -> TokenState | None:
        """Keep the chain with the output behind it."""
        assert self._end is not None and not self._is_settled and self._lease is not None
        sampled = self._sampled
        if is_cut:
            length = length_of_items(lambda: self._model.format.parser(self._request.context), sampled, len(output))
            if length is None:
                self.fallbacks.append("cut_not_found")
                return None
            sampled = sampled[:length]
        self._is_settled = True
        rendered, lease = self._rendered, self._lease
        view, state = rendered.view, rendered.state
        held_in_view = len(view)
        if self._request.generate and (output or not is_cut):
            extension = self._model.format.commit(state, len(view), sampled, for_model(output))
            view = view.head(extension.keep).append(extension.tokens)
            state = extension.state
            if extension.reason is not None:
                self.fallbacks.append(extension.reason)
            held_in_view = extension.keep
            if held_in_view == self.prompt_tokens - len(self._generation):  # else other tokens stand there in the KV
                held_in_view += _common_prefix(extension.tokens, self._generation + self._sampled)
        lease.held = min(self._end.usage.held_tokens, held_in_view)
        lease.tip = view
        if not self._owns_lease:
            lease.retain()
        kept = TokenState(self._model, self._request.context, view, state, lease)
        grown = len(view) - rendered.keep
        kept.size_bytes = max(grown, 0) * BYTES_PER_TOKEN
        return kept

    def input_state(self) -> TokenState:
        """The chain with the input behind it."""
        rendered = self._rendered
        return TokenState(
            self._model, self._request.context, rendered.view, rendered.state, lease=None, kin=self._lease
        )

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

    def _common_with_lease(self) -> int:
        return len(self._rendered.view) if self._owns_lease else self._rendered.keep

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

    def _read_end(self, *, complete: bool) -> None:
        try:
            events = self._parser.finish(complete=complete)
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
            self._read_end(complete=reason is EndReason.STOP)
        error = self._fault or _failure(reason, detail)
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
        self._submit(len(view))


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


def _start_bytes(start: Extension) -> int:
    return len(start.tokens) * BYTES_PER_TOKEN


def _text_chars(items: Sequence[Item]) -> int:
    total = 0
    for item in items:
        match item:
            case Message():
                total += len(text_of(item.content))
            case FunctionCallOutput() | CustomToolCallOutput():
                total += len(text_of(item.output))
            case FunctionCall():
                total += len(item.arguments)
            case CustomToolCall():
                total += len(item.input)
            case Reasoning():
                total += len(text_of(item.content or item.summary))
            case _:
                total += 64
    return total


def _common_prefix(a: "array[int]", b: "array[int]") -> int:
    if a[: len(b)] == b:
        return len(b)
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
