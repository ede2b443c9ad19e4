"""Where the items of an input stand in its text, and what they are the same as: found out once, wherever that is done.

A survey reads everything and keeps little: who has it need not look at an item whose digest is in the history, and takes the
few that are long to read as they were read (`session.packed_items`).
"""

import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.items import Item, ItemReference, Reasoning, SealedItem
from hotloop.protocol.request import decode_item, split_input, text_message
from hotloop.session.canonical import DIGEST_BYTES, item_digest
from hotloop.session.chain_settings import changes_settings
from hotloop.session.packed_items import pack_long, unpacked

UNTOLD = bytes(DIGEST_BYTES)  # the digest of an item that has to be looked at: sealed, a reference, a setting
_BETWEEN = re.compile(rb"[ \t\r\n,]*")


def _offsets() -> "array[int]":
    return array("I")


@dataclass(frozen=True, slots=True)
class InputSurvey:
    """What was found. It holds for `raw` only."""

    raw: msgspec.Raw
    starts: "array[int]" = field(default_factory=_offsets)  # of the items, within `raw`
    ends: "array[int]" = field(default_factory=_offsets)
    digests: bytes = b""  # canonical, one behind the other
    is_text: bool = False  # the input is a string: one item, which stands nowhere in it
    error: ApiError | None = None  # of the item behind the last one, or of the whole
    packed: Mapping[int, bytes | memoryview] = field(default_factory=dict[int, "bytes | memoryview"])  # by index

    def __len__(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    def items(self) -> Iterator[msgspec.Raw]:
        """The texts of the items, each made when it is asked for."""
        view = memoryview(self.raw)
        if self.is_text:
            yield from [msgspec.Raw(text_message(bytes(view)))] * len(self)
        for start, end in zip(self.starts, self.ends, strict=True):
            yield msgspec.Raw(view[start:end])

    def digest(self, index: int) -> bytes | None:
        """The canonical digest of an item; None if only the item itself tells."""
        digest = self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
        return None if digest == UNTOLD else digest

    def read_item(self, index: int, raw: msgspec.Raw | bytes) -> Item | None:
        """An item that was read; None of one that is quick to read. `raw` is its text."""
        packed = self.packed.get(index)
        return None if packed is None else unpacked(packed, raw)


def survey_input(raw: msgspec.Raw, param: str = "input") -> InputSurvey:
    """Read an input, which is the member `param`, to its end, or to its first error."""
    view = memoryview(raw)
    is_text = bytes(view[:1]) == b'"'
    starts, ends, digests = _offsets(), _offsets(), bytearray()
    packed: dict[int, bytes | memoryview] = {}
    error: ApiError | None = None
    at = 1  # behind the bracket
    try:
        for index, item in enumerate(split_input(raw, param)):
            read = decode_item(item, f"{param}[{index}]")
            digests += _digest(read)
            long = pack_long(read, item)
            if long is not None:
                packed[index] = long
            if not is_text:
                between = _BETWEEN.match(view, at)
                assert between is not None
                starts.append(between.end())
                at = between.end() + memoryview(item).nbytes
                ends.append(at)
    except ApiError as found:
        error = found
    return InputSurvey(raw, starts, ends, bytes(digests), is_text, error, packed)


def _digest(item: Item) -> bytes:
    if isinstance(item, ItemReference | SealedItem) or changes_settings(item):
        return UNTOLD
    if isinstance(item, Reasoning) and item.encrypted_content is not None:
        return UNTOLD
    return item_digest(item)
