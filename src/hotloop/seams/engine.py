"""The one interface between a token model and anything that runs a model on token ids.

A KV handle is the engine's memory of one chain. It knows nothing of items or text. All callbacks come on the event loop's
thread, as plain calls, once per engine step.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

import msgspec

from hotloop.seams.prompt import TurnView
from hotloop.session.principal import Tenant
from hotloop.session.token_log import TokenView


class EndReason(Enum):
    """Why a run ended."""

    STOP = "stop"  # a stop token was sampled; it is the last id of the last step
    LENGTH = "length"  # `max_tokens` reached, or the context is full
    ABORTED = "aborted"  # by `Run.abort`
    NEEDS_FULL_PROMPT = "needs_full_prompt"  # the handle lost its KV: open a new one with the whole chain
    CONSTRAINT = "constraint"  # the grammar could not be compiled; `detail` says why
    UNAVAILABLE = "unavailable"  # the engine died or cannot be reached
    TIMEOUT = "timeout"  # the engine did not answer in time


class Usage(msgspec.Struct, frozen=True):
    """What one run cost. Times are seconds of the engine's own clock."""

    prompt_tokens: int = 0  # keep + new
    cached_tokens: int = 0  # of these, found in the KV cache: not decoded again
    restored_tokens: int = 0  # of the cached ones, brought back to the KV cache from copies in other memory
    output_tokens: int = 0
    held_tokens: int = 0  # tokens of this chain whose KV the handle holds now, from the chain's start
    queue_s: float = 0.0  # waiting for a sequence or a place in the batch
    prefill_s: float = 0.0
    decode_s: float = 0.0


class KvUse(msgspec.Struct, frozen=True):
    """Memory that the KV of all chains takes now."""

    cells: int  # of the KV cache, one a token; what chains share counts once
    total_cells: int  # 0: tokens take none
    parked_bytes: int = 0  # of copies outside the cache
    parked_copies: int = 0


class TokenLogprob(msgspec.Struct, frozen=True):
    """Log-probability of a sampled token and of the likeliest alternatives, likeliest first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampling(msgspec.Struct, frozen=True):
    """How to pick tokens. `max_tokens == 0` is a prefill only."""

    max_tokens: int
    temperature: float = 1.0  # 0 is greedy
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop_tokens: frozenset[int] = frozenset()
    top_logprobs: int | None = None  # None: no log-probabilities; 0: of the sampled token only


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The whole output is JSON that fits `schema`."""

    schema: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StructuralTag:
    """The output fits xgrammar's structural tag `tag`, an object `{"type": "structural_tag", "format": …}` of JSON values."""

    tag: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NotExpressible:
    """No such form says what the grammar says. `reason` is a short stable name that is counted."""

    reason: str


Form = JsonSchema | StructuralTag | NotExpressible


class PassThrough(Protocol):
    """A constraint in the form that engines take which constrain themselves."""

    def form(self) -> Form:
        """Made when first asked for; cheap from then on. The same rules as the grammar's, over the same token ids."""
        ...


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the decoder may write, as an llguidance Lark grammar.

    With `trigger`, text is free until that token is sampled; the grammar then rules what follows it, up to the grammar's
    end, after which text is free again, or, with `once`, only a stop token may follow. Without `trigger` the grammar rules
    from the first token and only a stop token may follow its end. `pass_through` is for engines that run no such grammar.
    """

    grammar: str
    trigger: int | None = None
    once: bool = False
    pass_through: PassThrough | None = field(default=None, compare=False, repr=False)

    def without_pass_through(self) -> "Constraint":
        """The part that may leave the process."""
        return replace(self, pass_through=None)


# ids of one engine step in order, and their log-probabilities if asked for
StepCallback = Callable[[Sequence[int], Sequence[TokenLogprob] | None], None]
# reason, usage, and a detail for the log and the error message (never prompt text)
EndCallback = Callable[[EndReason, Usage, str], None]


class Run(Protocol):
    """One `generate` under way."""

    def abort(self) -> None:
        """Ask the engine to stop; returns at once. `on_end` still comes, once. No effect after the end."""
        ...


class KvHandle(Protocol):
    """The engine's KV cache of one chain. One run at a time."""

    @property
    def can_rewind(self) -> bool:
        """Keeping fewer tokens than are held needs no full prefill."""
        ...

    @property
    def can_fork(self) -> bool:
        """`Engine.open(parent=handle)` shares the common prefix's KV."""
        ...

    @property
    def survives_abort(self) -> bool:
        """After an abort the handle still holds what was computed."""
        ...

    def generate(
        self,
        keep: int,
        new: "array[int]",
        *,
        sampling: Sampling,
        constraint: Constraint | None,
        turn: TurnView,
        on_step: StepCallback,
        on_end: EndCallback,
    ) -> Run:
        """Keep the first `keep` tokens held, prefill `new`, then decode. `new` is empty only for a prefill.

        `on_step` comes once per engine step with the ids of that step, in order, stop token included; `on_end` exactly
        once, last. Neither is called before `generate` returns. A handle that holds fewer than `keep` tokens ends with
        `NEEDS_FULL_PROMPT`. `turn` says the same as the tokens, in items; an engine that runs a model ignores it.
        """
        ...

    def close(self) -> None:
        """Give the KV back (an engine may keep it for prefix reuse). Aborts a run under way. Idempotent."""
        ...


class Engine(Protocol):
    """Runs a model on token ids. A fault is never raised by `open` or `generate`: it is an `EndReason`."""

    @property
    def name(self) -> str:
        """Kind of engine, such as `llama`; shown in logs and benches."""
        ...

    @property
    def context_tokens(self) -> int:
        """Most tokens one chain may hold, prompt and output together."""
        ...

    @property
    def kv_use(self) -> KvUse | None:
        """Memory that KV takes; None where the engine has none, or does not say."""
        ...

    def open(self, tokens: TokenView, *, parent: KvHandle | None, tenant: Tenant) -> KvHandle:
        """A handle for the chain `tokens`, whose KV is taken from `parent` or from any idle chain of the tenant.

        The handle behaves as if it held all of `tokens`: the first `generate` passes `keep == len(tokens)` or less, and
        what no cache held is prefilled then. `tokens` is read before `open` returns and not kept.
        """
        ...

    async def close(self) -> None:
        """Stop every run with `ABORTED` and free everything. Idempotent."""
        ...
