"""What is judged before `response.created`: everything that can be without rendering (docs/design.md §1)."""

from collections.abc import Sequence

import msgspec

from hotloop.errors import InvalidRequest, PreviousResponseNotFound
from hotloop.protocol.echo import ContextEcho
from hotloop.protocol.items import CompactionTrigger, Item
from hotloop.protocol.offer import ToolChoice, offer_of, resolve_tool_choice
from hotloop.protocol.request import ResponseCreate, Text, TextJsonObject, TextJsonSchema
from hotloop.protocol.tools import decode_tools, echo_tools
from hotloop.protocol.wire import json_bytes
from hotloop.seams.model import Model, ModelRequest, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.chain import OpenCalls, named_outputs, pair_calls
from hotloop.session.chain_settings import NO_SETTINGS, ChainSettings
from hotloop.session.model_context import ContextCache, ContextKey
from hotloop.session.principal import Tenant
from hotloop.turns.bind import Parent
from hotloop.turns.history import History, ReadInput, continue_history
from hotloop.turns.services import ModelContext, TurnServices

_CONTEXT_COPIES = 4  # of its texts: the key, the decoded tools, the prompt, the echo


class AdmittedTurn(msgspec.Struct, frozen=True):
    """A request that will get a response. `release` it when the turn is over."""

    request: ResponseCreate
    model: Model
    context: ModelContext
    history: History
    open_calls: OpenCalls  # calls of the history and the input that may still be answered
    rules: CallRules
    wishes: SamplingWishes
    settings: ChainSettings  # of the chain, with what the input changes
    prefills_only: bool = False  # nothing is sampled, though the request asks for something
    is_compacted: bool = False  # the first output item stands in the history already: it is the compaction

    @property
    def compact_threshold(self) -> int | None:
        """Prompt tokens from which on the context is compacted first; None for never."""
        # A conversation holds all of its items: its compaction would be told, and undone with the next turn.
        if self.request.is_warm_up or self.request.conversation_id is not None:
            return None
        return self.request.compact_threshold(self.model.context_tokens)

    @property
    def new_items(self) -> Sequence[Item]:
        """Items of the request that are not known already."""
        return self.history.new_items

    def model_request(self, tenant: Tenant) -> ModelRequest:
        """The turn as the model takes it."""
        return ModelRequest(
            tenant=tenant,
            context=self.context.prompt,
            rules=self.rules,
            wishes=self.wishes,
            history=self.history.items,
            new_items=self.history.new_items,
            parent=self.history.model_state,
            generate=not (self.request.is_warm_up or self.prefills_only),
        )

    def release(self) -> None:
        """Let go of what the prefix index lent. Idempotent."""
        self.history.release()


def admit(
    services: TurnServices, tenant: Tenant, request: ResponseCreate, parent: Parent | None, given: ReadInput
) -> AdmittedTurn:
    """Check the request and its input against its parent and its model. Raises the ApiError that refuses it."""
    model = services.model(request.model)
    if request.previous_response_id is not None and parent is None:
        raise PreviousResponseNotFound(request.previous_response_id)
    settings = given.settings_behind(NO_SETTINGS if parent is None else parent.settings)
    context = _context_of(services, request, model, settings)
    choice = resolve_tool_choice(request.tool_choice, context.offer)
    history = continue_history(services.prefixes, tenant, context.prompt.digest, parent, given)
    try:
        new_items = named_outputs(history.open_calls, history.new_items)
        if new_items is not history.new_items:
            history = msgspec.structs.replace(history, new_items=new_items)
        open_calls = pair_calls(history.open_calls, new_items)
        _check_triggers(request, new_items)
    except BaseException:
        history.release()
        raise
    return AdmittedTurn(
        request=request,
        model=model,
        context=context,
        history=history,
        open_calls=open_calls,
        rules=_rules(request, choice, settings),
        wishes=_wishes(request),
        settings=settings,
    )


def _check_triggers(request: ResponseCreate, new_items: Sequence[Item]) -> None:
    """docs/protocol.md §4.2: a compaction is asked for by the last item; here, not of a conversation, which keeps all."""
    for index, item in enumerate(new_items):
        if isinstance(item, CompactionTrigger) and (index < len(new_items) - 1 or request.conversation_id is not None):
            raise InvalidRequest(
                "A 'compaction_trigger' is the last input item, and belongs to no conversation.", param="input"
            )


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
    return ModelContext(offer, prompt, ContextEcho(instructions, echo_tools(tools)))


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
