"""`truncation: auto`: items go from the start of a conversation until the rest fits the model's context.

A call goes with its output. Instructions, tools and the newest item stay. It is counted as `truncated`.
"""

from collections.abc import Sequence

import msgspec

from hotloop.errors import ContextLengthExceeded
from hotloop.protocol.hosted_items import read_call, read_request, read_response
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    HostedItem,
    Item,
    SettingItem,
)
from hotloop.seams.model import PreparedTurn
from hotloop.session.canonical import canonical_size
from hotloop.session.principal import Tenant
from hotloop.turns.admission import AdmittedTurn
from hotloop.turns.history import replaced_history

_ROOM_SHARE = 8  # an eighth of the context is left for the answer
_MAX_TRIES = 16


async def prepare_truncated(
    admitted: AdmittedTurn, tenant: Tenant, error: ContextLengthExceeded
) -> tuple[AdmittedTurn, PreparedTurn]:
    """The turn without as many of its oldest items as it takes. Raises `error` again if even the newest does not fit."""
    items: Sequence[Item] = tuple(admitted.history.items.extended(admitted.new_items))
    limit = admitted.model.context_tokens
    too_long = error
    for _ in range(_MAX_TRIES):
        excess = too_long.prompt_tokens - limit + limit // _ROOM_SHARE
        shorter = without_oldest(items, excess / too_long.prompt_tokens)
        if len(shorter) == len(items):
            raise error
        items = shorter
        short = msgspec.structs.replace(admitted, history=replaced_history(tenant, items))
        try:
            return short, await short.model.prepare(short.model_request(tenant))
        except ContextLengthExceeded as still:
            too_long = still
    raise error


def without_oldest(items: Sequence[Item], share: float) -> list[Item]:
    """The items without the oldest that make up `share` of the whole, and without the outputs of calls among them."""
    sizes = [0 if isinstance(item, SettingItem) else canonical_size(item) for item in items]
    to_drop = share * sum(sizes)
    dropped_calls: set[str | None] = set()
    kept: list[Item] = []
    gone = 0.0
    for index, (item, size) in enumerate(zip(items, sizes, strict=True)):
        if isinstance(item, SettingItem):
            kept.append(item)
            continue
        if _call_answered_by(item) in dropped_calls or (gone < to_drop and index < len(items) - 1):
            gone += size
            dropped_calls.add(_call_asked_by(item))
            continue
        kept.append(item)
    return kept


def _call_asked_by(item: Item) -> str | None:
    """The id that what answers the item names, if it is a call."""
    match item:
        case FunctionCall() | CustomToolCall():
            return item.call_id
        case HostedItem():
            request = read_request(item)
            return None if request is None else request.id
        case _:
            return None


def _call_answered_by(item: Item) -> str:
    """The id of the call, or of the request for consent, that the item belongs to; empty: to none."""
    match item:
        case FunctionCallOutput() | CustomToolCallOutput():
            return item.call_id
        case HostedItem():
            call, response = read_call(item), read_response(item)
            if call is not None:
                return call.approval_request_id or ""
            return "" if response is None else response.approval_request_id
        case _:
            return ""
