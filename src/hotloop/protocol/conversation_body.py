"""The bodies of requests that change a conversation (docs/protocol.md §11.4)."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from hotloop.protocol.decoding import check_utf8, decode_as
from hotloop.protocol.request import Metadata, check_metadata

MAX_ITEMS = 20  # docs/protocol.md §11.4: of one request

_Items = Annotated[list[msgspec.Raw], Meta(max_length=MAX_ITEMS)]


class ConversationBody(msgspec.Struct, frozen=True):
    """What such a body says; its items are still raw."""

    items: Sequence[msgspec.Raw] = ()
    metadata: Metadata | None = None


class _Create(msgspec.Struct):
    items: _Items | None = None
    metadata: Metadata | None = None


class _Update(msgspec.Struct):
    metadata: Metadata | None


class _Addition(msgspec.Struct):
    items: _Items


_create_decoder = msgspec.json.Decoder(_Create)
_update_decoder = msgspec.json.Decoder(_Update)
_addition_decoder = msgspec.json.Decoder(_Addition)


def decode_conversation(body: bytes) -> ConversationBody:
    """Of `POST /v1/conversations`; nothing at all asks for an empty one. Raises the ApiError that names the field."""
    check_utf8(body)
    wanted = decode_as(_create_decoder, body or b"{}")
    check_metadata(wanted.metadata)
    return ConversationBody(wanted.items or (), wanted.metadata)


def decode_conversation_update(body: bytes) -> ConversationBody:
    """Of `POST /v1/conversations/{id}`. Raises the ApiError that names the field."""
    check_utf8(body)
    wanted = decode_as(_update_decoder, body)
    check_metadata(wanted.metadata)
    return ConversationBody(metadata=wanted.metadata)


def decode_added_items(body: bytes) -> ConversationBody:
    """Of `POST /v1/conversations/{id}/items`. Raises the ApiError that names the field."""
    check_utf8(body)
    return ConversationBody(decode_as(_addition_decoder, body).items)
