"""The fast encoder beside the exact one: used only if both give the same ids on everything we can think of.

reference (exact, slow) ─┐
                         ├─ self-test at load: equal everywhere? ─▶ fast path, else the reference, and why
candidate (tiktoken) ────┘

Whoever has the model's tokenizer.json may have that encode instead; it has to pass the same self-test.
"""

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotloop.seams.tokenizer import Tokenizer
from hotloop.tokenizers.byte_pairs import BytePairs
from hotloop.tokenizers.gguf_vocabulary import NoVocabulary, read_vocabulary
from hotloop.tokenizers.patterns import BY_GGUF_NAME
from hotloop.tokenizers.tokenizer_json import JsonTokenizer

_RANDOM_TEXTS = 300
_SAMPLES = (
    "", " ", "  ", "\n", "\r\n\r\n", " \n \t\n  x", "a" * 2000, " " * 2000, "\n" * 999, "x \n" * 300,
    "The quick brown fox's 3 jumps, they'll DON'T we'Ve  over.\n\n\tEnd",
    "1 12 123 1234 12345 123456789012345678901234567890 3.14159 1e-9 0xDEADBEEF ١٢٣ ٤٥",
    "caf\u00e9 cafe\u0301 \u212b A\u030a \u1e9b\u0323 \ufb01 \uff21", "😀👩‍👩‍👧‍👦🏽🇩🇪 ❤️",
    "漢字かな交じり文。한국어 عربى עברית हिन्दी ไทย",
    "def f(x):\n    return {\"a\": [1, 2], 'b': x ** 2}  # done\n",
    "<|im_start|>user\nhi<|im_end|>\n<tool_call></tool_call>",
    "<|endoftext|><|eot_id|><|begin_of_text|></s>[INST] <think>\n</think>",
    "\u00a0\u2003\u3000 \u200b\ufeff\u2028\x85\x0b\x0c x",
    "\x00\x01\x1f\x7f\u0080\ufffd\U0010ffff", "snake_case CamelCase kebab-case://user@host:80/a?b=c#d", "I'M it'S ſ'ſ K's",
)  # fmt: skip
_ALPHABETS = (
    " \n\t\r", "0123456789", "abcdefghijklmnopqrstuvwxyz '", "ABCdefÀéßñ", "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\",
    "漢字仮名あいう",
    "😀😃👍🏽\u200d\ufe0f", "\u0300\u0301\u0327aeo", "<|>im_startendthinktool/ ",
)  # fmt: skip


# What a template writes between the contents: a few short texts, the same in every turn.
_SHORT_CHARS = 24
_SHORT_TEXTS = 1024


class Reference(Tokenizer, Protocol):
    """The exact tokenizer of a file."""

    def parts(self, text: str) -> list[str]:
        """`text` in the parts that are encoded one by one, so that none becomes a special token."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """The tokenizer to use; `encoder` names how it encodes, `reason` says why not the fast way (empty if it is)."""

    tokenizer: Tokenizer
    encoder: str
    reason: str = ""


class Encoder(Protocol):
    """Another way to the same ids."""

    def encode(self, text: str) -> "array[int]":
        """The ids of a text in which nothing is special."""
        ...


class FastTokenizer:
    """Implements `seams.tokenizer.Tokenizer`: ids from another encoder, all else from the reference."""

    def __init__(self, reference: Reference, encoder: Encoder) -> None:
        self._reference = reference
        self._encoder = encoder
        self._short: dict[str, array[int]] = {}
        self.vocabulary_size = reference.vocabulary_size

    def encode(self, text: str) -> "array[int]":
        """See `Tokenizer.encode`."""
        if len(text) > _SHORT_CHARS:
            return self._encode(text)
        known = self._short.get(text)
        if known is None:
            known = self._encode(text)
            if len(self._short) < _SHORT_TEXTS:
                self._short[text] = known
        return known[:]

    def _encode(self, text: str) -> "array[int]":
        parts = self._reference.parts(text)
        out = self._encoder.encode(parts[0])
        for part in parts[1:]:
            out.extend(self._encoder.encode(part))
        return out

    def special(self, text: str) -> int | None:
        """See `Tokenizer.special`."""
        return self._reference.special(text)

    def piece(self, token: int) -> bytes:
        """See `Tokenizer.piece`."""
        return self._reference.piece(token)


def choose_for_gguf(path: Path, reference: Reference) -> Choice:
    """The fast tokenizer of a GGUF file if it passes the self-test, else the reference."""
    try:
        vocabulary = read_vocabulary(path)
    except (NoVocabulary, OSError) as error:
        return Choice(reference, "reference", str(error))
    pattern = BY_GGUF_NAME.get(vocabulary.pre_tokenizer)
    if pattern is None:
        return Choice(reference, "reference", f"no pattern is known for '{vocabulary.pre_tokenizer}'")
    fast = FastTokenizer(reference, BytePairs.of_gguf(vocabulary, pattern))
    difference = first_difference(fast, reference)
    if difference is not None:
        return Choice(reference, "reference", f"the fast encoder gives other ids: {difference}")
    return Choice(fast, "tiktoken")


def encoded_by_json(path: Path, reference: Reference) -> Tokenizer:
    """The reference's tokenizer with a tokenizer.json that encodes. Raises ValueError for one that gives other ids."""
    tokenizer = FastTokenizer(reference, JsonTokenizer(path))
    difference = first_difference(tokenizer, reference)
    if difference is not None:
        raise ValueError(f"{path}: it gives other ids than the model file: {difference}")
    return tokenizer


def first_difference(fast: Tokenizer, reference: Tokenizer) -> str | None:
    """A text of the self-test that the two encode differently, shortened, or None."""
    pieces = [reference.piece(token) for token in range(reference.vocabulary_size)]
    for text in corpus(pieces):
        if fast.encode(text) != reference.encode(text):
            return repr(text[:60])
    return None


def corpus(pieces: Sequence[bytes]) -> Iterator[str]:
    """Texts of the self-test: always the same for the same vocabulary."""
    yield from _SAMPLES
    choose = random.Random(20_260)
    for _ in range(_RANDOM_TEXTS):
        # neighbours that seldom stand together in prose: where orders of merging differ, it shows here
        yield b"".join(choose.choices(pieces, k=24)).decode("utf-8", "replace")
        yield choose.randbytes(48).decode("utf-8", "replace")
        yield "".join("".join(choose.choices(choose.choice(_ALPHABETS), k=choose.randint(1, 9))) for _ in range(12))
        yield "".join(chr(choose.choice(_PLANES)[choose.randint(0, 127)]) for _ in range(24))


_PLANES = [range(first, first + 128) for first in (0, 0x80, 0x300, 0x400, 0x600, 0x900, 0x1100, 0x2000, 0x3040, 0x4E00,
                                                  0xAC00, 0xFF00, 0x1F300, 0x1F600)]  # fmt: skip
