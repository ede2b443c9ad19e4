"""A model we render for: format, tokenizer and engine behind the `Model` seam.

A turn appends what its new items render to; the engine gets those tokens only. Every slower path has a name:

    context_changed    instructions, tools or render options differ from the parent's: rendered in full
    state_not_kept     the parent came from the store: rendered in full
    shown_as_json      an item or content part is of a type unknown here: the model reads its JSON
    and what a format names, such as `reasoning_dropped`, and a turn's run (`token_turn`)
"""

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hotloop.errors import ContextLengthExceeded, InvalidRequest, ServerFault
from hotloop.models.constraint_book import ConstraintBook
from hotloop.models.model_items import chars_in, for_model, plain_chars
from hotloop.models.token_state import TokenState, TurnSetup
from hotloop.models.token_turn import PreparedTokenTurn, Rendered
from hotloop.protocol.items import Item
from hotloop.protocol.tools import CustomTool, FunctionTool, GrammarFormat
from hotloop.protocol.unknown_parts import is_shown_as_json
from hotloop.seams.engine import Engine, KvUse, Sampling
from hotloop.seams.format import Extension, Fallback, Format, RenderState
from hotloop.seams.grammar import GrammarValidator
from hotloop.seams.model import ModelRequest
from hotloop.seams.prompt import PromptContext, TurnView
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.token_log import BYTES_PER_TOKEN, LogMeter, TokenView

OFF_LOOP_CHARS = 32_768  # longer new text is tokenized in a thread: about 10 ms at 3 M characters a second


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """Sampling of a request that says nothing."""

    temperature: float = 1.0
    top_p: float = 1.0


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
        self.validator = validator
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
    def takes_images(self) -> bool:
        """No: the formats write text."""
        return False

    @property
    def kept_bytes(self) -> int:
        """Bytes of the token logs of all chains."""
        return self.log.size_bytes

    @property
    def kv_use(self) -> KvUse | None:
        """As the engine says."""
        return self.engine.kv_use

    def piece(self, token: int) -> bytes:
        """Bytes of a token."""
        return self.tokenizer.piece(token)

    async def prepare(self, request: ModelRequest) -> PreparedTokenTurn:
        """Render and tokenize what is new, or everything where a fallback says so."""
        parent = request.parent
        if not isinstance(parent, TokenState) or parent.model is not self:
            parent = None
        setup = parent.setup if parent is not None else None
        if setup is None or not _is_set_up_for(request, setup):
            setup = await self._set_up(request)
        return self._prepared(request, setup, await self._render(request, setup, parent))

    def prepare_now(self, request: ModelRequest) -> PreparedTokenTurn | None:
        """What most turns are: a little plain text behind a parent of the same context."""
        parent = request.parent
        if not isinstance(parent, TokenState) or parent.model is not self or not _is_set_up_for(request, parent.setup):
            return None
        if not 0 <= plain_chars(request.new_items) <= OFF_LOOP_CHARS:
            return None
        extension = self.format.extend(parent.render_state, parent.view.length, request.new_items)
        if not isinstance(extension, Extension):
            return None
        return self._prepared(request, parent.setup, _extended(parent, extension))

    def _prepared(self, request: ModelRequest, setup: TurnSetup, rendered: Rendered) -> PreparedTokenTurn:
        generation = self._generation_prompt(request, rendered.state)
        prompt_tokens = rendered.view.length + len(generation)
        if not prompt_tokens and request.generate:
            raise InvalidRequest("The prompt is empty: give at least one item.", param="input")
        room = self._room(request, prompt_tokens)
        sampling, most = setup.sampling, request.wishes.max_output_tokens
        if request.generate:
            sampling = msgspec.structs.replace(sampling, max_tokens=room if most is None or most > room else most)
        return PreparedTokenTurn(
            prompt_tokens,
            rendered.fallbacks,
            self,
            request,
            setup,
            rendered,
            generation,
            sampling,
            self.format.parser(request.context),
            TurnView(request.history, request.new_items, request.context, request.rules),
            array("I"),
        )

    def _generation_prompt(self, request: ModelRequest, state: RenderState) -> "array[int]":
        return self.format.generation_prompt(state) if request.generate else array("I")

    def _room(self, request: ModelRequest, prompt_tokens: int) -> int:
        """Tokens that the prompt leaves. Raises ContextLengthExceeded."""
        context_tokens = self.engine.context_tokens
        room = context_tokens - prompt_tokens
        if room < (1 if request.generate else 0):
            raise ContextLengthExceeded(prompt_tokens, context_tokens)
        return room

    async def close(self) -> None:
        """Free the engine and the validator."""
        await self.engine.close()
        if self.validator is not None:
            await self.validator.close()

    async def _render(self, request: ModelRequest, setup: TurnSetup, parent: TokenState | None) -> Rendered:
        reason: str | None = None
        if parent is not None:
            if not (setup.context is parent.setup.context or setup.context.same_as(parent.setup.context)):
                reason = "context_changed"
            else:
                items = request.unseen or request.new_items
                extension = await self._extend(parent.render_state, parent.view.length, items)
                if isinstance(extension, Extension):
                    rendered = _extended(parent, extension)
                    rendered.fallbacks += _shown_as_json(request.new_items)
                    return rendered
                reason = extension.reason
        elif len(request.history):
            reason = "state_not_kept"
        return await self._render_in_full(request, parent, reason)

    async def _render_in_full(self, request: ModelRequest, parent: TokenState | None, reason: str | None) -> Rendered:
        start = await self._start(request.context)
        items = tuple(request.history.extended(request.new_items))
        extension = await self._extend(start.state, len(start.tokens), items)
        if isinstance(extension, Fallback):
            raise ServerFault(f"The {self.format.name} format cannot render this conversation ({extension.reason}).")
        # Before they are put together: a text far too long is millions of tokens.
        length = extension.keep + len(extension.tokens)
        self._room(request, length + len(self._generation_prompt(request, extension.state)))
        view = TokenView.of(start.tokens, self.log).head(extension.keep).append(extension.tokens)
        fallbacks = [*([reason] if reason else []), *_shown_as_json(request.new_items)]
        return Rendered(view, extension.state, parent, 0, fallbacks)

    async def _extend(self, state: RenderState, length: int, items: Sequence[Item]) -> Extension | Fallback:
        if chars_in(items) <= OFF_LOOP_CHARS:
            return self.format.extend(state, length, for_model(items))
        return await asyncio.to_thread(lambda: self.format.extend(state, length, for_model(items)))

    async def _set_up(self, request: ModelRequest) -> TurnSetup:
        wishes = request.wishes
        sampling = Sampling(
            max_tokens=0,
            temperature=self._defaults.temperature if wishes.temperature is None else wishes.temperature,
            top_p=self._defaults.top_p if wishes.top_p is None else wishes.top_p,
            presence_penalty=wishes.presence_penalty,
            frequency_penalty=wishes.frequency_penalty,
            seed=wishes.seed,
            stop_tokens=self.format.stop_tokens,
            top_logprobs=wishes.top_logprobs,
        )
        constraint = await self._constraints.get(request.context, request.rules)
        return TurnSetup(request.context, request.rules, wishes, constraint, sampling)

    async def _start(self, context: PromptContext) -> Extension:
        """The start of a chain; the tokens of one that was seen before are not made again."""
        shelf = context.shelf
        if shelf is not None and shelf.holds("start"):
            return shelf.get("start", lambda: self.format.begin(context), _start_bytes)
        if _chars_before_items(context) <= OFF_LOOP_CHARS:
            start = self.format.begin(context)
        else:
            start = await asyncio.to_thread(self.format.begin, context)
        return start if shelf is None else shelf.get("start", lambda: start, _start_bytes)


def _is_set_up_for(request: ModelRequest, setup: TurnSetup) -> bool:
    """The request asks for the same as the turn that was set up so."""
    return (
        setup.context is request.context
        and (setup.rules is request.rules or setup.rules == request.rules)
        and (setup.wishes is request.wishes or setup.wishes == request.wishes)
    )


def _extended(parent: TokenState, extension: Extension) -> Rendered:
    view = parent.view
    if extension.keep != view.length:
        view = view.head(extension.keep)
    view = view.append(extension.tokens)
    return Rendered(view, extension.state, parent, extension.keep, [extension.reason] if extension.reason else [])


def _chars_before_items(context: PromptContext) -> int:
    """About how many characters there are to render before the first item."""
    total = len(context.instructions or "")
    for tool in context.tools:
        match tool:
            case FunctionTool(description=description, parameters=parameters):
                total += len(description or "") + (0 if parameters is None else memoryview(parameters).nbytes)
            case CustomTool(description=description, format=GrammarFormat(definition=definition)):
                total += len(description or "") + len(definition)
            case CustomTool(description=description):
                total += len(description or "")
            case _:
                pass
    return total


def _start_bytes(start: Extension) -> int:
    return len(start.tokens) * BYTES_PER_TOKEN


def _shown_as_json(items: Sequence[Item]) -> list[str]:
    if plain_chars(items) >= 0:
        return []
    return ["shown_as_json"] if any(map(is_shown_as_json, items)) else []
