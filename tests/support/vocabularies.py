"""Vocabularies for tests: the toy one with any special tokens, and real ones from `.assets`, loaded once per process."""

from array import array
from collections.abc import Sequence
from functools import cache

from tests.support.real_templates import asset
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.engines.llama import GgufTokenizer
from hotloop.seams.tokenizer import Tokenizer


class SpyTokenizer:
    """Implements `Tokenizer` over another one: counts the work and writes ids as text again.

    `special_ids` are those of `specials` that the vocabulary has.
    """

    def __init__(self, tokenizer: Tokenizer, specials: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        ids = {special: tokenizer.special(special) for special in specials}
        self.special_ids = {special: token for special, token in ids.items() if token is not None}
        self._spellings = {token: special.encode() for special, token in self.special_ids.items()}
        self.encode_calls = 0
        self.encoded_chars = 0

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.vocabulary_size

    def encode(self, text: str) -> "array[int]":
        self.encode_calls += 1
        self.encoded_chars += len(text)
        return self._tokenizer.encode(text)

    def special(self, text: str) -> int | None:
        return self._tokenizer.special(text)

    def piece(self, token: int) -> bytes:
        return self._tokenizer.piece(token)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; special tokens as their spelling."""
        pieces = (self._spellings.get(token) or self._tokenizer.piece(token) for token in ids)
        return b"".join(pieces).decode("utf-8", "replace")

    def whole(self, text: str) -> "array[int]":
        """Ids of a text without attacks in it: every spelled special token is one."""
        ids = array("I")
        while text:
            at, mark = min((text.find(mark) % (len(text) + 1), mark) for mark in self.special_ids)
            if at:
                ids.extend(self.encode(text[:at]))
            if at < len(text):
                ids.append(self.special_ids[mark])
            text = text[at + len(mark) :]
        return ids


@cache
def toy(specials: tuple[str, ...]) -> Tokenizer:
    """The toy vocabulary with these special tokens."""
    return ToyTokenizer(specials)


@cache
def gguf(name: str) -> Tokenizer:
    """`.assets/vocabularies/NAME.gguf`."""
    return GgufTokenizer(str(asset(f"vocabularies/{name}.gguf")))
