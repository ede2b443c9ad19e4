"""The byte-pair vocabulary in a GGUF file: tokens, their kinds and the merges, which libllama does not hand out.

header (magic, version, tensors, entries) · entries (key, type, value)* · …
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotloop.tokenizers.byte_symbols import token_bytes

NORMAL = 1  # llama_token_type
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_WANTED = ("tokens", "token_type", "merges", "pre", "model")


class NoVocabulary(ValueError):
    """The file holds no byte-level vocabulary with merges. The message says what is missing."""


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """`ranks`: bytes of every plain token by order of merging; `ids`: the token of each rank."""

    pre_tokenizer: str
    ranks: dict[bytes, int]
    ids: list[int]


def read_vocabulary(path: Path) -> GgufVocabulary:
    """Read it. Raises NoVocabulary, OSError."""
    return _ordered(read_entries(path))


def read_entries(path: Path) -> dict[str, Any]:
    """What the file says of a byte-level vocabulary, by the last word of its key. Raises NoVocabulary, OSError."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            found = _entries(data)
        except (struct.error, IndexError) as error:
            raise NoVocabulary("its metadata cannot be read") from error
    if found.get("model") != "gpt2" or not found.get("merges"):
        raise NoVocabulary("it has no byte-level merges")
    return found


def _ordered(found: dict[str, Any]) -> GgufVocabulary:
    tokens: list[str] = found["tokens"]
    kinds: list[int] = found.get("token_type") or [NORMAL] * len(tokens)
    plain = {token: index for index, token in enumerate(tokens) if kinds[index] == NORMAL}
    ranks: dict[bytes, int] = {}
    ids: list[int] = []

    def add(token: str) -> None:
        written = token_bytes(token)
        index = plain.get(token)
        if index is not None and written is not None and written not in ranks:
            ranks[written] = len(ids)
            ids.append(index)

    for token in plain:
        if len(token) == 1:
            add(token)
    for merge in found["merges"]:
        first, _, second = merge.partition(" ")
        add(first + second)
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise NoVocabulary("it has no token for some byte")
    return GgufVocabulary(found.get("pre", "default"), ranks, ids)


def _entries(data: mmap.mmap) -> dict[str, Any]:
    if data[:4] != b"GGUF":
        raise NoVocabulary("it is no GGUF file")
    *_, count = struct.unpack_from("<4sIQQ", data, 0)
    at = struct.calcsize("<4sIQQ")
    found: dict[str, Any] = {}
    for _ in range(count):
        key, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        prefix, _, name = key.rpartition(".")
        value, at = _value(data, at + 4, kind, keep=prefix == "tokenizer.ggml" and name in _WANTED)
        if value is not None:
            found[name] = value
    return found


def _string(data: mmap.mmap, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + size].decode("utf-8", "replace"), at + 8 + size


def _value(data: mmap.mmap, at: int, kind: int, *, keep: bool) -> tuple[Any, int]:
    if kind in _SCALARS:
        size = struct.calcsize(_SCALARS[kind])
        return (struct.unpack_from("<" + _SCALARS[kind], data, at)[0] if keep else None), at + size
    if kind == _STRING:
        text, at = _string(data, at)
        return (text if keep else None), at
    if kind != _ARRAY:
        raise NoVocabulary("its metadata cannot be read")
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner in _SCALARS:
        form = f"<{count}{_SCALARS[inner]}"
        return (list(struct.unpack_from(form, data, at)) if keep else None), at + struct.calcsize(form)
    items: list[Any] = []
    for _ in range(count):
        value, at = _value(data, at, inner, keep=keep)
        if keep:
            items.append(value)
    return (items if keep else None), at
