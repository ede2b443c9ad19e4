"""The terms a turn runs on: what follows from its request's settings, everything but its input and what it continues.

An agent sends the same settings with every turn. They are compared, value by value, with those of the create before it on
its lane, over HTTP with those of its tenant's create before; as long as they are equal nothing that follows from them is
worked out again.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from hotloop.errors import ApiError, InvalidRequest, UnsupportedValue
from hotloop.protocol.echo import ContextEcho, around_previous
from hotloop.protocol.hosted_items import tools_listed
from hotloop.protocol.hosted_tool import ServerTool
from hotloop.protocol.offer import ToolChoice, offer_of, resolve_tool_choice
from hotloop.protocol.request import ResponseCreate, Text, TextJsonObject, TextJsonSchema
from hotloop.protocol.tools import Tool, decode_tools, echo_tools, without_secrets
from hotloop.protocol.wire import json_bytes
from hotloop.seams.model import Model, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.chain_settings import ChainSettings
from hotloop.session.model_context import ContextCache, ContextKey
from hotloop.session.principal import Tenant
from hotloop.turns.services import ModelContext, TurnServices

OFF_LOOP_BYTES = 262_144  # of texts: reading and copying as much takes two milliseconds
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
    leaves_nothing: bool  # nothing goes to the store
    seals_reasoning: bool
    compact_threshold: int | None  # prompt tokens from which on the context is compacted first; None for never
    servers: tuple[ServerTool, ...] = ()  # whose tools may be called, with what they are shown to be let in


def terms_of(
    services: TurnServices, request: ResponseCreate, settings: ChainSettings, *, are_servers_asked: bool = False
) -> Terms:
    """The request's terms on a chain of these settings. Raises the ApiError that refuses it.

    Until its tool servers were asked, a request may choose tools that nobody knows yet.
    """
    model = services.model(request.model)
    context, servers = _context_of(services, request, model, settings)
    if servers and not are_servers_asked and not _are_all_listed(servers, settings):
        choice = _choice_so_far(request, context)
    else:
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
        leaves_nothing=not request.stores and request.conversation_id is None,
        seals_reasoning=request.seals_reasoning,
        compact_threshold=_compact_threshold(request, model),
        servers=servers,
    )


async def prepare_context(services: TurnServices, request: ResponseCreate, settings: ChainSettings) -> None:
    """Work out in a thread what follows from long instructions and tools, so that `terms_of` finds it.

    What is wrong with them `terms_of` will say.
    """
    size = len(request.instructions or "") + memoryview(request.tools).nbytes + sum(map(len, settings.added_tools))
    if size < OFF_LOOP_BYTES or not services.remembers:
        return
    contexts = services.contexts
    with contextlib.suppress(ApiError, _NamesServers):
        key = _context_key(request, services.model(request.model), settings)
        if key not in contexts:
            made = await asyncio.to_thread(_make_context, key, contexts)
            contexts.get(key, lambda: made, lambda made: _CONTEXT_COPIES * key.size_bytes)


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
        if services.remembers and _is_plain(request) and not terms.servers:
            # The context's own copy of the tools: a raw value keeps the whole message alive.
            self._asked = (*asked[:_TOOLS], terms.context.tools, *asked[_TOOLS + 1 :])
            self._terms = terms
        return terms


class TenantTerms:
    """For creates that come on no lane: what is remembered of each tenant's latest, as of a lane's.

    Tenants that asked for nothing for the longest time are forgotten first.
    """

    def __init__(self, tenants: int = 16) -> None:
        self._most = tenants
        self._lanes: OrderedDict[Tenant, LaneTerms] = OrderedDict()

    def of(self, tenant: Tenant) -> LaneTerms:
        """The tenant's."""
        found = self._lanes.get(tenant)
        if found is None:
            found = self._lanes[tenant] = LaneTerms()
            if len(self._lanes) > self._most:
                self._lanes.popitem(last=False)
        else:
            self._lanes.move_to_end(tenant)
        return found


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


class _NamesServers(Exception):
    """The request's tools name servers: what a client shows them must not be kept with the context."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self.tools = tools


def _context_of(
    services: TurnServices, request: ResponseCreate, model: Model, settings: ChainSettings
) -> tuple[ModelContext, tuple[ServerTool, ...]]:
    """The context, and the servers that the request names."""
    key = _context_key(request, model, settings)
    contexts = services.contexts
    try:
        return contexts.get(
            key, lambda: _make_context(key, contexts), lambda made: _CONTEXT_COPIES * key.size_bytes
        ), ()
    except _NamesServers as named:
        servers = _admitted_servers(services, named.tools)
        labels = {server.label for server in servers}
        listed = tuple(entry for entry in settings.listed if entry[0] in labels)
        shown = msgspec.structs.replace(key, tools=without_secrets(key.tools, named.tools), listed=listed)
        size = _CONTEXT_COPIES * shown.size_bytes
        return contexts.get(shown, lambda: _make_context(shown, contexts), lambda made: size), servers


def _admitted_servers(services: TurnServices, tools: Sequence[Tool]) -> tuple[ServerTool, ...]:
    """The servers among the tools. Raises the ApiError that refuses one."""
    servers: dict[str, ServerTool] = {}
    for index, tool in enumerate(tools):
        if not isinstance(tool, ServerTool):
            continue
        place = f"tools[{index}]"
        if tool.label in servers:
            raise InvalidRequest(f"Two MCP servers are labelled '{tool.label}'.", param=f"{place}.server_label")
        if services.tool_servers is None:
            raise UnsupportedValue("This server connects to no MCP servers: none are configured.", param=place)
        services.tool_servers.check(tool, place)
        servers[tool.label] = tool
    return tuple(servers.values())


def _are_all_listed(servers: Sequence[ServerTool], settings: ChainSettings) -> bool:
    known = {label for label, _ in settings.listed}
    return all(server.label in known for server in servers)


def _choice_so_far(request: ResponseCreate, context: ModelContext) -> ToolChoice:
    """What can be said of `tool_choice` before the servers have told their tools."""
    match request.tool_choice:
        case {"type": "mcp", "server_label": str(label)} if label in context.offer.servers:
            return ToolChoice()
        case "required" | {"type": "allowed_tools"}:
            return ToolChoice()
        case choice:
            return resolve_tool_choice(choice, context.offer)


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
    if key.listed is None and any(isinstance(tool, ServerTool) for tool in tools):
        raise _NamesServers(tools)
    # docs/protocol.md §4.6: hosted tools nobody runs here are dropped softly; they stay in the echo.
    added = [decode_tools(array, "input.tools", takes_servers=False) for array in key.added_tools]
    offer = offer_of(tools, added, {label: tools_listed(listed) for label, listed in key.listed or ()})
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
