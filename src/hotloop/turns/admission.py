"""What is judged before `response.created`: everything that can be without rendering (docs/design.md §1)."""

from collections.abc import Sequence

import msgspec

from hotloop.errors import InvalidRequest, PreviousResponseNotFound
from hotloop.protocol.hosted_tool import ServerTool
from hotloop.protocol.items import CompactionTrigger, Item
from hotloop.protocol.request import ResponseCreate
from hotloop.seams.model import Model, ModelRequest
from hotloop.session.chain import OpenCalls, named_outputs, pair_calls
from hotloop.session.chain_settings import NO_SETTINGS
from hotloop.session.principal import Tenant
from hotloop.turns.bind import Parent
from hotloop.turns.history import History, ReadInput, continue_history
from hotloop.turns.services import ModelContext, TurnServices
from hotloop.turns.terms import LaneTerms, Terms, terms_of


class AdmittedTurn(msgspec.Struct, frozen=True):
    """A request that will get a response. `release` it when the turn is over."""

    request: ResponseCreate
    terms: Terms
    model: Model
    context: ModelContext
    history: History
    open_calls: OpenCalls  # calls of the history and the input that may still be answered
    asks_compaction: bool = False  # without an item that says so
    prefills_only: bool = False  # nothing is sampled, though the request asks for something
    is_compacted: bool = False  # its compaction stands in the output, and in the history already
    answered: tuple[Item, ...] = ()  # output before the model's first word: lists of tools, calls that were allowed

    @property
    def unlisted(self) -> list[ServerTool]:
        """Servers whose tools the chain does not know."""
        known = {label for label, _ in self.terms.settings.listed}
        return [server for server in self.terms.servers if server.label not in known]

    @property
    def new_items(self) -> Sequence[Item]:
        """Items of the request that are not known already."""
        return self.history.new_items

    def model_request(self, tenant: Tenant) -> ModelRequest:
        """The turn as the model takes it."""
        terms, history = self.terms, self.history
        return ModelRequest(
            tenant=tenant,
            context=self.context.prompt,
            rules=terms.rules,
            wishes=terms.wishes,
            history=history.items,
            new_items=[*history.new_items, *self.answered] if self.answered else history.new_items,
            parent=history.model_state,
            generate=not (terms.is_warm_up or self.prefills_only),
        )

    def release(self) -> None:
        """Let go of what the prefix index lent. Idempotent."""
        self.history.release()


def admit(
    services: TurnServices,
    tenant: Tenant,
    request: ResponseCreate,
    parent: Parent | None,
    given: ReadInput,
    lane: LaneTerms | None = None,
    *,
    asks_compaction: bool = False,
) -> AdmittedTurn:
    """Check the request and its input against its parent and its model. Raises the ApiError that refuses it.

    `lane` is what the lane remembers of the terms before, if the request came on one; `asks_compaction` is as if the input
    ended with a trigger.
    """
    if request.previous_response_id is not None and parent is None:
        services.model(request.model)  # what is missing first is told first
        raise PreviousResponseNotFound(request.previous_response_id)
    settings = given.settings_behind(NO_SETTINGS if parent is None else parent.settings)
    terms = terms_of(services, request, settings) if lane is None else lane.of(services, request, settings)
    context = terms.context
    history = continue_history(services.prefixes, tenant, context.prompt.digest, parent, given)
    try:
        new_items = named_outputs(history.open_calls, history.new_items)
        if new_items is not history.new_items:
            history = msgspec.structs.replace(history, new_items=new_items)
        open_calls = pair_calls(history.open_calls, new_items)
        _check_triggers(terms, new_items, asks_compaction)
    except BaseException:
        history.release()
        raise
    return AdmittedTurn(request, terms, terms.model, context, history, open_calls, asks_compaction)


def with_answers(services: TurnServices, admitted: AdmittedTurn, answered: Sequence[Item]) -> AdmittedTurn:
    """The turn once its servers were asked, with the output that this made. Raises the ApiError that refuses it."""
    settings = admitted.terms.settings.behind(answered)
    terms = terms_of(services, admitted.request, settings, are_servers_asked=True)
    return msgspec.structs.replace(admitted, terms=terms, context=terms.context, answered=tuple(answered))


def _check_triggers(terms: Terms, new_items: Sequence[Item], asks_compaction: bool) -> None:
    """docs/protocol.md §4.2: a compaction is asked for by the last item; here, not of a conversation, which keeps all."""
    last = len(new_items) - 1
    is_refused = asks_compaction and terms.conversation_id is not None
    for index, item in enumerate(new_items):
        if isinstance(item, CompactionTrigger) and (index < last or terms.conversation_id is not None):
            is_refused = True
    if is_refused:
        raise InvalidRequest(
            "A 'compaction_trigger' is the last input item, and belongs to no conversation.", param="input"
        )
