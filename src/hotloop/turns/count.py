"""How long a request's prompt is: the turn pipeline up to the engine, and nothing of it kept (docs/protocol.md §11)."""

from hotloop.errors import ContextLengthExceeded
from hotloop.protocol.request import ResponseCreate
from hotloop.session.input_survey import InputSurvey
from hotloop.session.principal import Principal
from hotloop.turns.admission import admit
from hotloop.turns.attachments import attached, has_attachments
from hotloop.turns.bind import Parent, bind_conversation, bind_previous
from hotloop.turns.history import read_input
from hotloop.turns.services import TurnServices


async def count_tokens(
    services: TurnServices, principal: Principal, request: ResponseCreate, survey: InputSurvey | None = None
) -> int:
    """Tokens of the prompt that a create of this request would send. Raises the ApiError that would refuse it."""
    parent: Parent | None
    if request.conversation_id is not None:
        parent = await bind_conversation(services.store, services.chains, principal, None, request.conversation_id)
    else:
        parent = await bind_previous(services, principal, None, request.previous_response_id)
    try:
        given = await read_input(services, principal, request.input, survey, parent)
        admitted = admit(services, principal.tenant, request, parent, given)
        try:
            if has_attachments(admitted.new_items):
                admitted = await attached(services.remote, admitted)
            prepared = await admitted.model.prepare(admitted.model_request(principal.tenant))
        finally:
            admitted.release()
    except ContextLengthExceeded as error:
        return error.prompt_tokens
    finally:
        if parent is not None:
            parent.release()
    prepared.discard()
    return prepared.prompt_tokens
