"""What of a turn's input is known already (docs/design.md §2).

A client that resends its whole history pays for what is new in it only: the raw items are hashed, the longest remembered
beginning is found in the prefix index, and only the rest is parsed. Why more had to be done has a name:

    history_unknown    a history was sent, nothing of its beginning is remembered
    history_changed    the beginning is remembered, but not up to the model's last answer
    context_changed    it is remembered under other instructions, tools or render options
"""

import asyncio
from collections.abc import Sequence

import msgspec

from hotloop.protocol.item_view import with_id
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    Reasoning,
)
from hotloop.protocol.request import decode_item, split_input
from hotloop.seams.sealer import Sealer
from hotloop.session.canonical import canonical_size, item_digest
from hotloop.session.chain import ModelState, OpenCalls
from hotloop.session.chain_settings import ChainSettings, changes_settings
from hotloop.session.input_survey import InputSurvey
from hotloop.session.item_log import ItemLog
from hotloop.session.prefix_index import PrefixIndex, extend_history, extend_place, history_start
from hotloop.session.principal import Principal, Tenant
from hotloop.turns.bind import Parent, resolve_reference
from hotloop.turns.sealing import opened
from hotloop.turns.services import TurnServices

STRETCH_BYTES = 128 * 1024  # of an input are worked on without a break: half a millisecond
_ITEM_BYTES = 1024  # what looking at an item costs besides its text, in bytes of text


class History(msgspec.Struct, frozen=True):
    """Where a turn starts. `release` it when the turn is over."""

    items: ItemLog  # before the new items
    open_calls: OpenCalls
    model_state: ModelState | None  # of `items`
    new_items: Sequence[Item]
    recognised: int  # items of the request that are among `items`
    behind: bytes  # place of `items` in the prefix index
    place: bytes  # and with the new items
    chain_bytes: int  # of `items`
    new_bytes: int  # of the new items, as they came
    missed: str | None  # why not all that could be known was known
    share: ModelState | None = None  # of the prefix index's model state

    def release(self) -> None:
        """Let go of what the index lent. Idempotent."""
        if self.share is not None:
            self.share.release()


class ReadInput(msgspec.Struct):
    """A request's input, parsed no further than needed."""

    raws: "list[msgspec.Raw]"
    sealer: Sealer
    tenant: Tenant
    sizes: list[int] = []  # bytes of each
    digests: list[bytes] = []  # canonical
    # Those that were not known by their bytes, references resolved, sealed ones opened; and all that change settings.
    parsed: dict[int, Item] = {}
    places: list[bytes] = []  # in the prefix index, behind each item; where no parent stands before them
    survey: InputSurvey | None = None  # of the input, if there is one

    def items(self, start: int) -> list[Item]:
        """The items from `start` on. Raises the ApiError that names an invalid one."""
        return [self.parsed.get(index) or self.read(index) for index in range(start, len(self.raws))]

    def read(self, index: int) -> Item:
        """One item, parsed here unless that was done already."""
        param, raw = f"input[{index}]", self.raws[index]
        known = None if self.survey is None else self.survey.read_item(index, raw)
        item = decode_item(raw, param) if known is None else known
        return item if type(item) in _NEVER_SEALED else opened(self.sealer, self.tenant, item, param)

    def settings_behind(self, before: ChainSettings) -> ChainSettings:
        """What the input makes of the chain's settings. Raises the ApiError that names an invalid item."""
        return before.behind(self.parsed.values()) if self.parsed else before


_NEVER_SEALED = frozenset({Message, FunctionCall, FunctionCallOutput, CustomToolCall, CustomToolCallOutput})


def read_at_once(services: TurnServices, principal: Principal, raw: msgspec.Raw) -> ReadInput | None:
    """`read_input` of a short input that refers to nothing in the store; None for any other."""
    if len(memoryview(raw)) > STRETCH_BYTES:
        return None
    tenant = principal.tenant
    given = ReadInput(split_input(raw), services.sealer, tenant)
    for index, raw_item in enumerate(given.raws):
        text = bytes(raw_item)
        given.sizes.append(len(text))
        digest = services.item_digests.find(tenant, text) if services.remembers else None
        if digest is None:
            item = given.parsed[index] = given.read(index)
            if type(item) is ItemReference:
                return None
            if not services.remembers:
                continue
            digest = _learn(services, tenant, text, item)
        given.digests.append(digest)
    return given


async def read_input(
    services: TurnServices,
    principal: Principal,
    raw: msgspec.Raw,
    survey: InputSurvey | None = None,
    parent: Parent | None = None,
) -> ReadInput:
    """Split the input and know each item by its content. Raises the ApiError that names an invalid item.

    Waits for the store, if there is an `item_reference`; and lets the loop go on between one stretch of a long input and
    the next. With a survey of it only what is not in the history is parsed.
    """
    tenant = principal.tenant
    surveyed = survey if survey is not None and survey.raw is raw else None
    given = ReadInput([], services.sealer, tenant, survey=surveyed)
    pace = Pace()
    place = history_start(tenant)
    for index, raw_item in enumerate(split_input(raw) if surveyed is None else surveyed.items()):
        given.raws.append(raw_item)
        size = memoryview(raw_item).nbytes
        given.sizes.append(size)
        if pace.is_over(size):
            await asyncio.sleep(0)
        digest = _told(services, tenant, raw_item, None if surveyed is None else surveyed.digest(index))
        if digest is None:
            item = given.read(index)
            if isinstance(item, ItemReference):
                item = await resolve_reference(services.store, principal, item, f"input[{index}]")
                digest = item_digest(item)
            elif services.remembers:
                digest = _learn(services, tenant, bytes(raw_item), item)
            given.parsed[index] = item
        if digest is not None:
            given.digests.append(digest)
            if parent is None:
                place = extend_place(place, digest)
                given.places.append(place)
    if surveyed is not None and surveyed.error is not None:
        raise surveyed.error
    await _parse_new(services, given, pace)
    return given


def _told(services: TurnServices, tenant: Tenant, raw: msgspec.Raw, surveyed: bytes | None) -> bytes | None:
    """The digest of an item as far as it is known without looking into it. A long text is not even hashed to be looked up."""
    if not services.remembers:
        return None
    known = services.item_digests
    if surveyed is not None and memoryview(raw).nbytes >= STRETCH_BYTES:
        return surveyed
    text = bytes(raw)
    digest = known.find(tenant, text)
    if digest is None and surveyed is not None:
        known.put(tenant, text, surveyed)
        return surveyed
    return digest


def _learn(services: TurnServices, tenant: Tenant, text: bytes, item: Item) -> bytes:
    """The digest of an item that was not known by its text."""
    digest = item_digest(item)
    if not changes_settings(item):  # those are read every time
        services.item_digests.put(tenant, text, digest)
    return digest


async def _parse_new(services: TurnServices, given: ReadInput, pace: "Pace") -> None:
    """Parse now what stands in no history, a stretch at a time: at once it would hold up everybody.

    Each gets its id here for the same reason.
    """
    is_whole = len(given.places) == len(given.raws)  # all have a digest, and no parent stands before them
    known = services.prefixes.known_length(given.places) if is_whole else 0
    for index in range(known, len(given.raws)):
        if pace.is_over(given.sizes[index]):
            await asyncio.sleep(0)
        given.parsed[index] = with_id(given.parsed.get(index) or given.read(index), services.new_id)


class Pace:
    """When work on a long text is to be interrupted."""

    def __init__(self) -> None:
        self._left = STRETCH_BYTES

    def is_over(self, size: int) -> bool:
        """So many bytes more are worked on; a stretch ends before them."""
        self._left -= size + _ITEM_BYTES
        if self._left > 0:
            return False
        self._left = STRETCH_BYTES
        return True


def continue_history(
    prefixes: PrefixIndex, tenant: Tenant, context: bytes, parent: Parent | None, given: ReadInput
) -> History:
    """What the request continues: its parent, or the longest beginning of its input that is remembered."""
    if parent is not None and parent.history:
        start, start_bytes = parent.history, parent.chain_bytes
    else:
        start, start_bytes = _start(tenant, parent)
    places = given.places if parent is None and given.places else extend_history(start, given.digests)
    # A parent whose tokens cannot be continued here may be remembered in this context all the same.
    is_usable = parent is None or (parent.model_state is not None and parent.context == context)
    # One that can be continued is not looked for: it has the KV, a point behind the same input has none.
    ahead = places if parent is None else () if is_usable else [start, *places]
    found = prefixes.find(tenant, context, ahead) if ahead else None
    known = 0 if found is None else found.length - (not is_usable)
    new_items = given.items(known)
    origin = parent or Parent(ItemLog(), {}, None)
    if found is not None:
        point = found.point
        origin, start_bytes = Parent(point.items, point.open_calls, point.model_state), point.chain_bytes
    return History(
        items=origin.items,
        open_calls=origin.open_calls,
        model_state=origin.model_state,
        new_items=new_items,
        recognised=known,
        behind=places[known - 1] if known else start,
        place=places[-1] if places else start,
        chain_bytes=start_bytes,
        new_bytes=sum(given.sizes[known:]),
        missed=None if parent is not None else _miss(prefixes, places[known:], known, new_items),
        share=found.point.model_state if found is not None else None,
    )


def replaced_history(tenant: Tenant, items: Sequence[Item]) -> History:
    """A chain that begins anew with `items`, as if a client had sent them."""
    start = history_start(tenant)
    places = extend_history(start, map(item_digest, items))
    return History(
        items=ItemLog(),
        open_calls={},
        model_state=None,
        new_items=items,
        recognised=0,
        behind=start,
        place=places[-1] if places else start,
        chain_bytes=0,
        new_bytes=sum(canonical_size(item) for item in items),
        missed=None,
    )


def _miss(prefixes: PrefixIndex, ahead: Sequence[bytes], known: int, new_items: Sequence[Item]) -> str | None:
    if not any(map(_is_written_by_a_model, new_items)):
        return None
    if prefixes.is_known_elsewhere(ahead):
        return "context_changed"
    return "history_changed" if known else "history_unknown"


def _start(tenant: Tenant, parent: Parent | None) -> tuple[bytes, int]:
    """The place in the index, and the bytes of the chain, of a parent that does not know them, or of none."""
    start = history_start(tenant)
    if parent is None:
        return start, 0
    # Out of the store: everything is rendered again, so looking at every item adds little.
    places = extend_history(start, map(item_digest, parent.items))
    return places[-1] if places else start, sum(canonical_size(item) for item in parent.items)


def _is_written_by_a_model(item: Item) -> bool:
    match item:
        case Message():
            return item.role == "assistant"
        case Reasoning() | FunctionCall() | CustomToolCall():
            return True
        case _:
            return False
