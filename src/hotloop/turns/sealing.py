"""Sealed items: what leaves closed and comes back from a client (docs/protocol.md §4.5, §7.4)."""

import msgspec

from hotloop.errors import InvalidEncryptedContent
from hotloop.protocol.decoding import decode_as
from hotloop.protocol.items import Compaction, Item, Reasoning, ReasoningText, SealedItem
from hotloop.protocol.wire import json_bytes
from hotloop.seams.sealer import Sealer
from hotloop.session.principal import Tenant

SUMMARY_HEAD = "Summary of the conversation so far, which it replaces:\n\n"


def opened(sealer: Sealer, tenant: Tenant, item: Item, param: str) -> Item:
    """The item with what was sealed in it; any other as it is. Raises InvalidEncryptedContent.

    What was sealed counts, whatever text a client shows beside it.
    """
    match item:
        case Reasoning(encrypted_content=str() as sealed):
            text = sealer.open(tenant, "reasoning", sealed)
            if text is None:
                raise InvalidEncryptedContent(param)
            return msgspec.structs.replace(item, content=[ReasoningText(text=text)])
        case SealedItem():
            wire = decode_as(_decoder, item.raw, param)
            text = sealer.open(tenant, "compaction", wire.encrypted_content)
            if text is None:
                raise InvalidEncryptedContent(param)
            return compaction(wire.id, text, item.raw)
        case _:
            return item


def compaction(item_id: str | None, summary: str, raw: bytes) -> Compaction:
    """The item that stands for a conversation; `raw` is its JSON."""
    return Compaction(id=item_id, role="developer", content=SUMMARY_HEAD + summary, raw=raw)


def sealed_compaction(sealer: Sealer, tenant: Tenant, item_id: str, summary: str) -> Compaction:
    """A new compaction item, as it leaves."""
    sealed = sealer.seal(tenant, "compaction", summary)
    raw = json_bytes({"id": item_id, "type": "compaction", "encrypted_content": sealed})
    return compaction(item_id, summary, raw)


class _Sealed(msgspec.Struct, frozen=True):
    encrypted_content: str
    id: str | None = None


_decoder = msgspec.json.Decoder(_Sealed)
