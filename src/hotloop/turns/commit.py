"""What a finished turn leaves behind for the next one: a parent in the chain cache, a history in the prefix index."""

from collections.abc import Sequence

from hotloop.protocol.items import Item
from hotloop.seams.model import PreparedTurn
from hotloop.session.canonical import item_digest
from hotloop.session.chain import ModelState, TurnState, calls_in
from hotloop.session.item_log import ItemLog
from hotloop.session.prefix_index import HistoryPoint, PrefixIndex, extend_history
from hotloop.session.principal import Tenant
from hotloop.turns.admission import AdmittedTurn

LONG_INPUT_BYTES = 4096  # rendering as much again takes a millisecond; a point takes 2 KB and a tenth of a small turn


def state_behind(
    admitted: AdmittedTurn,
    given: ItemLog,
    output: Sequence[Item],
    *,
    response_id: str,
    model_state: ModelState | None,
    output_bytes: int,
) -> TurnState:
    """The turn as a parent. `given` is all in front of its output; `output_bytes` are those of the response object."""
    history = admitted.history
    places = extend_history(history.place, map(item_digest, output))
    calls = calls_in(output)
    size = history.new_bytes + output_bytes + (model_state.size_bytes if model_state is not None else 0)
    return TurnState(
        response_id=response_id,
        model=admitted.model.name,
        items=given.extended(output),
        open_calls={**admitted.open_calls, **calls} if calls else admitted.open_calls,
        model_state=model_state,
        size_bytes=size,
        history=places[-1] if places else history.place,
        context=admitted.context.prompt.digest,
        chain_bytes=history.chain_bytes + size,
        settings=admitted.terms.settings,
    )


def remember(
    index: PrefixIndex,
    tenant: Tenant,
    admitted: AdmittedTurn,
    given: ItemLog,
    prepared: PreparedTurn,
    state: TurnState,
) -> None:
    """Enter the turn into the index: behind its output, and behind its input, for a client that asks again.

    A small input behind a point that is known is left out: asked again, it is rendered again. The items in `given` have
    ids: a turn that recognises them shows them as its input.
    """
    if state.model_state is None:
        return
    history, context, response_id = admitted.history, state.context, state.response_id
    behind = history.behind
    took_kv = index.cool(context, behind)
    if (not took_kv or history.new_bytes >= LONG_INPUT_BYTES) and history.place not in (behind, state.history):
        input_state = prepared.input_state()
        if input_state is not None:
            chain_bytes = history.chain_bytes + history.new_bytes
            point = HistoryPoint(given, admitted.open_calls, input_state, chain_bytes)
            index.enter(tenant, context, history.place, point, behind=behind, warm=False, response_id=response_id)
            behind = history.place
    point = HistoryPoint(state.items, state.open_calls, state.model_state.share(), state.chain_bytes)
    index.enter(tenant, context, state.history, point, behind=behind, warm=True, response_id=response_id)
