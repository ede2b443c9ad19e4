"""What the turn pipeline sees of a model: items in, parsed item events out.

prepared = await model.prepare(request)     render and tokenize what is new; nothing is sampled
prepared.start(on_events, on_end)           submit to the engine; callbacks on the event loop, by plain calls
state = prepared.commit(output)             what the next turn of this chain continues from
prepared.discard()                          or: the turn leaves nothing behind
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.items import Item
from hotloop.seams.engine import EndReason, KvUse, Usage
from hotloop.seams.format import ParsedEvent
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.chain import ModelState
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Tenant


class SamplingWishes(msgspec.Struct, frozen=True):
    """Sampling as the request asks for it; None is the model's default."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int | None = None  # None: no log-probabilities
    seed: int | None = None


class ModelRequest(msgspec.Struct, frozen=True):
    """One turn for a model. `history` is everything before `new_items`; `parent` what was kept of that history.

    `unseen` is what stands at the end of `history` already and is new to `parent`: the outputs of calls that it wrote.
    """

    tenant: Tenant
    context: PromptContext
    rules: CallRules
    wishes: SamplingWishes
    history: ItemLog
    new_items: Sequence[Item]
    parent: ModelState | None
    generate: bool = True
    unseen: Sequence[Item] = ()


class ModelEnd(msgspec.Struct, frozen=True):
    """How a turn's sampling ended. `error` is set when it failed; `usage` counts what was done until then."""

    reason: EndReason
    usage: Usage
    reasoning_tokens: int = 0
    error: ApiError | None = None


EventsCallback = Callable[[Sequence[ParsedEvent]], None]
ModelEndCallback = Callable[[ModelEnd], None]


class PreparedTurn(Protocol):
    """A turn ready to run. Exactly one of `commit` and `discard` ends it."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the whole prompt."""
        ...

    @property
    def fallbacks(self) -> Sequence[str]:
        """Names of the slower paths taken so far; grows while the turn runs."""
        ...

    def start(self, on_events: EventsCallback, on_end: ModelEndCallback) -> None:
        """Submit. `on_end` comes exactly once, last; neither callback is called before `start` returns."""
        ...

    def abort(self) -> None:
        """Stop sampling as soon as the engine can; `on_end` still comes. No effect before `start` or after the end."""
        ...

    def commit(self, output: Sequence[Item], *, is_cut: bool = False, is_rewritten: bool = False) -> ModelState | None:
        """Keep the chain with the model's `output` behind it. After `on_end` only.

        `is_cut`: `output` is only the first whole items of what was sampled. The rest is not kept; None if the model
        cannot tell where it begins. `is_rewritten`: `output` does not say what was sampled, and is what counts.
        """
        ...

    def input_state(self) -> ModelState | None:
        """The chain with this turn's input behind it and no output, without KV: for a client that asks again."""
        ...

    def discard(self) -> None:
        """Keep nothing of this turn; the parent stays as it was. Idempotent."""
        ...


class Model(Protocol):
    """A model under one name."""

    @property
    def name(self) -> str:
        """The name clients ask for."""
        ...

    @property
    def context_tokens(self) -> int:
        """Most tokens of prompt and output together."""
        ...

    @property
    def default_temperature(self) -> float:
        """What a request without `temperature` gets."""
        ...

    @property
    def takes_images(self) -> bool:
        """Images may stand among the items; else a request with one is refused before anything is fetched or rendered."""
        ...

    @property
    def kept_bytes(self) -> int:
        """Bytes of rendered state kept now, over all chains; what chains share counts once."""
        ...

    @property
    def kv_use(self) -> KvUse | None:
        """Memory that the engine's KV takes; None where that is not known."""
        ...

    def piece(self, token: int) -> bytes:
        """Bytes of a token, for log-probability entries."""
        ...

    async def prepare(self, request: ModelRequest) -> PreparedTurn:
        """Render and tokenize. Raises ApiError for what the model cannot take, ContextLengthExceeded among it."""
        ...

    def prepare_now(self, request: ModelRequest) -> PreparedTurn | None:
        """As `prepare`, or None where that may wait: for a thread, a grammar, another process."""
        ...

    async def close(self) -> None:
        """Free the engine. Idempotent."""
        ...
