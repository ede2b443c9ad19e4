"""Vocabularies for tests: the toy one with any special tokens, and real ones from `.assets`, loaded once per process."""

import base64
import json
from array import array
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import tiktoken
from tests.support.real_templates import asset
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.engines.llama import GgufTokenizer
from hotloop.seams.tokenizer import Tokenizer
from hotloop.tokenizers.tokenizer_json import JsonTokenizer


class SpyTokenizer:
    """Implements `Tokenizer` over another one: counts the work and writes ids as text again.

    `special_ids` are those of `specials` that the vocabulary has.
    """

    def __init__(self, tokenizer: Tokenizer, specials: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        ids = {special: tokenizer.special(special) for special in specials}
        self.special_ids = {special: token for special, token in ids.items() if token is not None}
        # Of all ids written as text so far.
        self._pieces = {token: special.encode() for special, token in self.special_ids.items()}
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
        pieces = self._pieces
        for token in set(ids).difference(pieces):
            pieces[token] = self._tokenizer.piece(token)
        return b"".join(map(pieces.__getitem__, ids)).decode("utf-8", "replace")

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


class TiktokenVocabulary:
    """Implements `Tokenizer` over byte-pair ranks as tiktoken reads them."""

    def __init__(self, pattern: str, ranks: dict[bytes, int], specials: dict[str, int]) -> None:
        self._encoding = tiktoken.Encoding("test", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)
        self._specials = specials

    @property
    def vocabulary_size(self) -> int:
        return self._encoding.n_vocab

    def encode(self, text: str) -> "array[int]":
        return array("I", self._encoding.encode_ordinary(text))

    def special(self, text: str) -> int | None:
        return self._specials.get(text)

    def piece(self, token: int) -> bytes:
        try:
            return self._encoding.decode_single_token_bytes(token)
        except KeyError:  # ids between the special ones stand for nothing
            return b""


# The pattern of o200k_base, as published with tiktoken; special tokens as openai-harmony has them.
_O200K_PATTERN = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)
HARMONY_IDS = {
    "<|startoftext|>": 199998,
    "<|endoftext|>": 199999,
    "<|return|>": 200002,
    "<|constrain|>": 200003,
    "<|channel|>": 200005,
    "<|start|>": 200006,
    "<|end|>": 200007,
    "<|message|>": 200008,
    "<|call|>": 200012,
}


@cache
def o200k_harmony() -> Tokenizer:
    """The vocabulary of gpt-oss."""
    lines = asset("tokenizers/o200k_base.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in (line.split() for line in lines)}
    return TiktokenVocabulary(_O200K_PATTERN, ranks, HARMONY_IDS)


@cache
def hugging_face(path: str) -> Tokenizer:
    """A `tokenizer.json` under `.assets/tokenizers`."""
    return JsonTokenizer(asset(f"tokenizers/{path}"))


MISTRAL_MARKS = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]",
    "[THINK]", "[/THINK]",
)  # fmt: skip


def tekken_file() -> Path:
    """The vocabulary of Mistral Nemo, as it comes with mistral-common."""
    return Path(str(files("mistral_common").joinpath("data/tekken_240718.json")))


@cache
def tekken() -> Tokenizer:
    """The vocabulary of Mistral's models. The newer special tokens have ids of our choice: only Nemo's file is to be had."""
    data = json.loads(tekken_file().read_bytes())
    reserved = int(data["config"]["default_num_special_tokens"])  # special tokens come first
    size = int(data["config"]["default_vocab_size"]) - reserved
    entries = [entry for entry in data["vocab"] if entry["rank"] < size]
    ranks = {base64.b64decode(entry["token_bytes"]): int(entry["rank"]) for entry in entries}
    specials = {mark: size + index for index, mark in enumerate(MISTRAL_MARKS)}
    return TiktokenVocabulary(data["config"]["pattern"], ranks, specials)
