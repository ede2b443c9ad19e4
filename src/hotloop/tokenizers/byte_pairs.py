"""Byte-pair encoding by tiktoken's core: some ten times as fast as the alternatives, and off the GIL while it works."""

import base64
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

from hotloop.tokenizers.gguf_vocabulary import GgufVocabulary

# Those of files that list none, by id (mistral-common, `Tekkenizer.DEPRECATED_SPECIAL_TOKENS`).
_TEKKEN_SPECIALS = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip

# The library leaves the GIL alone, turning its answer into an array does not: 16,384 characters are a tenth of a millisecond.
PIECE_CHARS = 16_384
# With this in a pattern a word never reaches over a line's end to a letter or digit, nor from a letter over a blank to the
# next one, for the blank is the beginning of a word: a text may be cut there.
_LINE_ENDS = r"\s*[\r\n]+|"
_CUT = re.compile(r"[\r\n](?=[0-9A-Za-z])|[A-Za-z](?= [A-Za-z])")


def pieces_of(text: str, size: int | None) -> Iterator[str]:
    """`text` in pieces of about `size` characters, cut where no word goes across; whole without `size`."""
    start = 0
    while size is not None and len(text) - start > size:
        found = _CUT.search(text, start + size)
        if found is None:
            break
        yield text[start : found.end()]
        start = found.end()
    yield text[start:] if start else text


class BytePairs:
    """Encodes plain text.

    Args:
        ranks: bytes of every token by order of merging, all 256 bytes among them.
        pattern: cuts text into words; nothing merges across them.
        ids: the token of each rank; None if they are the same.
    """

    def __init__(self, ranks: dict[bytes, int], pattern: str, ids: Sequence[int] | None = None) -> None:
        self._encoding = tiktoken.Encoding("hotloop", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        self._ids = None if ids is None or list(ids) == list(range(len(ids))) else ids
        self._piece_chars = PIECE_CHARS if _LINE_ENDS in pattern else None

    def encode(self, text: str) -> "array[int]":
        """Ids of `text`; a lone surrogate becomes "?"."""
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # the library would write U+FFFD
        if self._piece_chars is None or len(text) <= self._piece_chars:
            return self._encode(text)
        out = array("I")
        for piece in pieces_of(text, self._piece_chars):
            out += self._encode(piece)
        return out

    def _encode(self, text: str) -> "array[int]":
        if len(text) > 2 * PIECE_CHARS:
            return self._encode_uncut(text)
        ranks = self._encoding.encode_ordinary(text)
        return array("I", ranks if self._ids is None else [*map(self._ids.__getitem__, ranks)])

    def _encode_uncut(self, text: str) -> "array[int]":
        """The same without a list of integers, which a long text without a place to cut would hold the GIL for."""
        ranks = self._encoding.encode_to_numpy(text, disallowed_special=())
        out = array("I")
        out.frombytes((ranks if self._ids is None else np.array(self._ids, dtype=np.uint32)[ranks]).tobytes())
        return out

    @classmethod
    def of_gguf(cls, vocabulary: GgufVocabulary, pattern: str) -> "BytePairs":
        """The vocabulary of a GGUF file."""
        return cls(vocabulary.ranks, pattern, vocabulary.ids)


class BytePairTokenizer:
    """Implements `seams.tokenizer.Tokenizer` over `BytePairs` alone: plain ids first, special ones by table."""

    def __init__(
        self, ranks: dict[bytes, int], pattern: str, specials: Mapping[str, int], *, first_id: int = 0
    ) -> None:
        ids = [first_id + rank for rank in range(len(ranks))] if first_id else None
        self._pairs = BytePairs(ranks, pattern, ids)
        self._special = dict(specials)
        self.vocabulary_size = max([first_id + len(ranks) - 1, *specials.values()]) + 1
        self._pieces = [b""] * self.vocabulary_size
        for piece, rank in ranks.items():
            self._pieces[first_id + rank] = piece
        for spelling, token in specials.items():
            self._pieces[token] = spelling.encode()

    def encode(self, text: str) -> "array[int]":
        """See `Tokenizer.encode`."""
        return self._pairs.encode(text)

    def special(self, text: str) -> int | None:
        """See `Tokenizer.special`."""
        return self._special.get(text)

    def piece(self, token: int) -> bytes:
        """See `Tokenizer.piece`."""
        return self._pieces[token]


def tiktoken_file(path: Path, pattern: str, specials: Mapping[str, int]) -> BytePairTokenizer:
    """A file of lines `base64 rank`, as tiktoken publishes them. Raises ValueError if it is none."""
    ranks: dict[bytes, int] = {}
    for line in path.read_bytes().splitlines():
        piece, _, rank = line.partition(b" ")
        ranks[base64.b64decode(piece, validate=True)] = int(rank)
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ValueError(f"{path}: ranks are not counted from 0 without gaps")
    return BytePairTokenizer(ranks, pattern, specials)


def tekken_file(path: Path) -> BytePairTokenizer:
    """Mistral's `tekken.json`: special tokens first, then the ranks that fit the vocabulary. Raises ValueError."""
    content: Any = json.loads(path.read_bytes())
    try:
        config = content["config"]
        reserved = int(config["default_num_special_tokens"])
        count = int(config["default_vocab_size"]) - reserved
        ranks = {base64.b64decode(entry["token_bytes"]): int(entry["rank"]) for entry in content["vocab"][:count]}
        listed = {str(entry["token_str"]): int(entry["rank"]) for entry in content.get("special_tokens") or ()}
        specials = listed or {spelling: index for index, spelling in enumerate(_TEKKEN_SPECIALS)}
        return BytePairTokenizer(ranks, config["pattern"], specials, first_id=reserved)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a tekken file: {error} is missing") from error
