"""What makes two items the same: their content, whatever ids, status, key order or null fields they travel with.

A client that resends its history sends what it got, written anew by its own JSON library; some re-write the arguments of a
call too. Digests of the canonical form are equal for such items and, BLAKE2b being what it is, for no others.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from hotloop.protocol.hosted_items import APPROVAL_REQUEST
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    ItemFacts,
    ItemReference,
    Message,
    OpaqueItem,
    OutputText,
    RawItem,
    Reasoning,
    TypedCall,
    TypedCallOutput,
    UnknownPart,
)
from hotloop.session.principal import Tenant

DIGEST_BYTES = 32
ENTRY_BYTES = 384  # around a remembered text: key, digest, place in the table; CPython 3.11: 360

_encode = msgspec.json.Encoder(order="deterministic", enc_hook=lambda value: msgspec.Raw(value.canonical)).encode
# A number keeps its spelling where decoding could lose digits of it.
_json_decode = msgspec.json.Decoder(float_hook=lambda text: msgspec.Raw(text.encode())).decode
_object_decode = msgspec.json.Decoder(dict[str, Any], float_hook=lambda text: msgspec.Raw(text.encode())).decode


def item_digest(item: Item) -> bytes:
    """32 bytes that are equal for items of equal content only."""
    known = _facts_of(item)
    if known is not None and known.digest is not None:
        return known.digest
    return blake2b(_encode(_content(item)), digest_size=DIGEST_BYTES).digest()


def canonical_size(item: Item) -> int:
    """Bytes of the item's content."""
    if _facts_of(item) is not None and isinstance(item, RawItem):
        return len(item.raw)
    return len(_encode(_content(item)))


def _facts_of(item: Item) -> ItemFacts | None:
    return item.facts if isinstance(item, OpaqueItem | TypedCall | TypedCallOutput) else None


def _content(item: Item) -> tuple[Any, ...]:
    match item:
        case Message():
            return ("message", item.role, _parts(item.content), item.phase)
        case TypedCall():
            return (item.kind, item.call_id, _arguments(item.arguments))
        case TypedCallOutput():
            return (f"{item.kind}_output", item.call_id, item.output)
        case FunctionCall():
            return ("function_call", item.call_id, item.name, _arguments(item.arguments), item.namespace)
        case FunctionCallOutput():
            return ("function_call_output", item.call_id, _parts(item.output))
        case CustomToolCall():
            return ("custom_tool_call", item.call_id, item.name, item.input, item.namespace)
        case CustomToolCallOutput():
            return ("custom_tool_call_output", item.call_id, _parts(item.output))
        case Reasoning():
            # What was sealed is what the content says; where only the sealed text is known, it is the content.
            return ("reasoning", item.summary, item.content or [], None if item.content else item.encrypted_content)
        case ItemReference():
            return ("item_reference", item.id)
        case OpaqueItem():
            # What asks for consent is answered by its id.
            return ("opaque", item.kind, _opaque(item.raw, keeps_id=item.kind == APPROVAL_REQUEST))


def _parts(content: str | Sequence[object]) -> object:
    if isinstance(content, str):
        return content
    for part in content:
        if type(part) is not InputText and (type(part) is not OutputText or part.logprobs is not None):
            return [_part(one) for one in content]
    return content


def _part(part: object) -> object:
    """Log-probabilities are measurements of the text, no part of it; clients drop them. What is only JSON counts by value."""
    if isinstance(part, UnknownPart):
        held = part.json
        if held.canonical is None:
            held.canonical = _encode(_arguments(held.text))
        return ("unknown", msgspec.Raw(held.canonical))
    if isinstance(part, OutputText) and part.logprobs is not None:
        return msgspec.structs.replace(part, logprobs=None)
    return part


def _arguments(text: str) -> object:
    """Arguments that are JSON count by value: some clients parse them and write them again. Others count as text."""
    try:
        return [_json_decode(text)]
    except (msgspec.DecodeError, RecursionError):
        return text


def _opaque(raw: bytes, *, keeps_id: bool) -> object:
    try:
        fields = _object_decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return raw.decode("utf-8", "replace")
    left_out = ("status",) if keeps_id else ("id", "status")
    return {key: value for key, value in fields.items() if key not in left_out and value is not None}


class ItemDigests:
    """Canonical digests by raw JSON text: an item that comes again unchanged is neither parsed nor canonicalised.

    Least recently used first out, bounded in bytes. The text itself is the key: comparing it costs less than a digest of it.
    Keyed by tenant too, so that no tenant can tell from a turn's time what another one has sent.
    """

    def __init__(self, max_bytes: int = 64 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._digests: OrderedDict[tuple[Tenant, bytes], bytes] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, tenant: Tenant, raw: bytes) -> bytes | None:
        """The canonical digest of a raw item seen before."""
        key = (tenant, raw)
        digest = self._digests.get(key)
        if digest is not None:
            self._digests.move_to_end(key)
        return digest

    def put(self, tenant: Tenant, raw: bytes, digest: bytes) -> None:
        """Remember a new pair; the newest stays even if it alone is over the bound."""
        self._digests[tenant, raw] = digest
        self.size_bytes += len(raw) + ENTRY_BYTES
        while self.size_bytes > self._max_bytes and len(self._digests) > 1:
            (_, oldest), _ = self._digests.popitem(last=False)
            self.size_bytes -= len(oldest) + ENTRY_BYTES
