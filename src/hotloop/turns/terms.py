"""The terms a turn runs on: what follows from its request's settings, everything but its input and what it continues.

An agent sends the same settings with every turn. They are compared, value by value, with those of the create before it on
its lane; as long as they are equal nothing that follows from them is worked out again.
"""

from operator import attrgetter
from typing import Any, Final

import msgspec

from hotloop.protocol.echo import ContextEcho, around_previous
from hotloop.protocol.offer import ToolChoice, offer_of, resolve_tool_choice
from hotloop.protocol.request import ResponseCreate, Text, TextJsonObject, TextJsonSchema
from hotloop.protocol.tools import decode_tools, echo_tools
from hotloop.protocol.wire import json_bytes
from hotloop.seams.model import Model, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.chain_settings import ChainSettings
from hotloop.session.model_context import ContextCache, ContextKey
from hotloop.turns.services import ModelContext, TurnServices

_CONTEXT_COPIES = 4  # of its texts: the key, the decoded tools, the prompt, the echo
_NOT_SETTINGS = frozenset({"input", "previous_response_id", "stream_id"})
_SETTINGS: Final = tuple(name for name in ResponseCreate.__struct_fields__ if name not in _NOT_SETTINGS)
_settings_of: Final = attrgetter(*_SETTINGS)
_TOOLS: Final = _SETTINGS.index("tools")


class Terms(msgspec.Struct, frozen=True):
    """What a turn is to be, apart from its items."""

    model: Model
    context: ModelContext
    rules: CallRules
    wishes: SamplingWishes
    settings: ChainSettings  # of the chain, with what the turn's input changes
    echo: tuple[bytes, bytes]  # around the value of `previous_response_id` in the response object
    stores: bool
    conversation_id: str | None
    is_warm_up: bool
    seals_reasoning: bool
    compact_threshold: int | None  # prompt tokens from which on the context is compacted first; None for never

    @property
    def leaves_nothing(self) -> bool:
        """Nothing goes to the store."""
        return not self.stores and self.conversation_id is None


def terms_of(services: TurnServices, request: ResponseCreate, settings: ChainSettings) -> Terms:
    """The request's terms on a chain of these settings. Raises the ApiError that refuses it."""
    model = services.model(request.model)
    context = _context_of(services, request, model, settings)
    choice = resolve_tool_choice(request.tool_choice, context.offer)
    return Terms(
        model=model,
        context=context,
        rules=_rules(request, choice, settings),
        wishes=_wishes(request),
        settings=settings,
        echo=around_previous(request, request.model or "", context.echo, model.default_temperature),
        stores=request.stores,
        conversation_id=request.conversation_id,
        is_warm_up=request.is_warm_up,
        seals_reasoning=request.seals_reasoning,
        compact_threshold=_compact_threshold(request, model),
    )


class LaneTerms:
    """The latest settings of a lane, and their terms."""

    __slots__ = ("_asked", "_terms")

    def __init__(self) -> None:
        self._asked: tuple[Any, ...] = ()
        self._terms: Terms | None = None

    def of(self, services: TurnServices, request: ResponseCreate, settings: ChainSettings) -> Terms:
        """As `terms_of`, without its work where the lane's create before asked for the same of the same model."""
        asked = _settings_of(request)
        known = self._terms
        if (
            known is not None
            and asked == self._asked
            and settings is known.settings
            and services.model(request.model) is known.model
        ):
            return known
        terms = terms_of(services, request, settings)
        if services.remembers and _is_plain(request):
            # The context's own copy of the tools: a raw value keeps the whole message alive.
            self._asked = (*asked[:_TOOLS], terms.context.tools, *asked[_TOOLS + 1 :])
            self._terms = terms
        return terms


def _is_plain(request: ResponseCreate) -> bool:
    """Equal settings are the same JSON, and none of them is big or raw: dictionaries have an order, schemas are raw."""
    return (
        not request.metadata
        and request.text is None
        and request.prompt is None
        and not isinstance(request.tool_choice, dict)
        and request.conversation is None
    )


def _compact_threshold(request: ResponseCreate, model: Model) -> int | None:
    # A conversation holds all of its items: its compaction would be told, and undone with the next turn.
    if request.is_warm_up or request.conversation_id is not None:
        return None
    return request.compact_threshold(model.context_tokens)


def _context_of(services: TurnServices, request: ResponseCreate, model: Model, settings: ChainSettings) -> ModelContext:
    key = _context_key(request, model, settings)
    contexts = services.contexts
    return contexts.get(key, lambda: _make_context(key, contexts), lambda made: _CONTEXT_COPIES * key.size_bytes)


def _context_key(request: ResponseCreate, model: Model, settings: ChainSettings) -> ContextKey:
    reasoning = request.reasoning
    return ContextKey(
        model=model.name,
        instructions=request.instructions,
        tools=bytes(request.tools),
        reasoning_effort=(reasoning.effort if reasoning is not None else None) or settings.effort,
        keep_reasoning=reasoning is not None and reasoning.context == "all_turns",
        added_tools=settings.added_tools,
    )


def _make_context(key: ContextKey, contexts: ContextCache) -> ModelContext:
    tools = decode_tools(key.tools)
    # docs/protocol.md §4.6: hosted tools nobody runs here are dropped softly; they stay in the echo.
    offer = offer_of(tools, [decode_tools(added, "input.tools") for added in key.added_tools])
    digest = key.digest()
    prompt = PromptContext(
        instructions=key.instructions,
        tools=offer.tools,
        tool_places=offer.places,
        reasoning_effort=key.reasoning_effort,
        keep_reasoning=key.keep_reasoning,
        digest=digest,
        shelf=contexts.shelf(digest),
    )
    instructions = b"null" if key.instructions is None else json_bytes(key.instructions)
    return ModelContext(offer, prompt, ContextEcho(instructions, echo_tools(tools)), msgspec.Raw(key.tools))


def _rules(request: ResponseCreate, choice: ToolChoice, settings: ChainSettings) -> CallRules:
    is_named = choice.mode == "required" and choice.names is not None and len(choice.names) == 1
    return CallRules(
        choice="named" if is_named else choice.mode,
        allowed=choice.names,
        parallel=request.parallel_tool_calls is not False,
        text_schema=_text_schema(request.text or settings.text),
    )


def _text_schema(text: Text | None) -> bytes | None:
    match text.format if text is not None else None:
        case TextJsonSchema(schema=schema):
            return bytes(schema)
        case TextJsonObject():
            return b"{}"
        case _:
            return None


def _wishes(request: ResponseCreate) -> SamplingWishes:
    return SamplingWishes(
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        top_logprobs=(request.top_logprobs or 0) if request.wants_logprobs else None,
        seed=request.seed,
    )
