"""A small vocabulary that behaves like a real byte-level one, for tests.

The 256 bytes, a few hundred merged pieces (some end inside a UTF-8 character, some cross the seams between template text
and content), and special tokens. `encode` takes the longest piece at every step, so how a text is cut into runs shows in
the ids.
"""

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence

QWEN_SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
)

GLM_SPECIALS = (
    "<|endoftext|>",
    "[gMASK]",
    "<sop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "/nothink",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<tool_response>",
    "</tool_response>",
)

_WORDS_TEXT = """
the of and to in is you that it for with on as are be this have from or one had by not what all were when your can said
there use an each which she do how their if will up other about out many then them these so some her would make like him
into time has look two more write go see number no way could people my than first water been call who oil its now find long
down day did get come made may part system user assistant tools tool function name type arguments description parameters
object properties required string shell command file path read edit test run list error result output input response think
answer text json line value return def class import print self None True False
"""
_WORDS = _WORDS_TEXT.split()
_SYMBOLS = ("\n\n", "\n\n\n", "  ", "    ", "\n  ", '{"', '":', '": ', '", "', '"}', '"}}', '"}}\n', "}\n", "</", "/>", ">\n",
            "</tool", "_call", "_call>", "<tool", "<th", "ink>", "think>", "</think", ">\n\n", "<|", "|>", "im_", "_start",
            "user\n", "assistant\n", "system\n", "\\n", '\\"', "\\u", ": {", '{"name": "', '", "arguments": {', "()", "):",
            "...", ", ", ". ", "!\n", "\n<", "123", "00")  # fmt: skip
_BYTES = (
    b"\xc3\xa9",
    b" \xe2\x82",
    b"\xac ",
    b"\xf0\x9f",
    b"\x98\x80",
    b"\xf0\x9f\x98",
    b"\xe4\xb8",
    b"\xad\xe6",
    b"\x96\x87",
)


class ToyTokenizer:
    """Implements `seams.tokenizer.Tokenizer`. `encode_calls` and `encoded_chars` count the work done."""

    def __init__(self, specials: Sequence[str] = QWEN_SPECIALS) -> None:
        merged = [word.encode() for word in _WORDS] + [b" " + word.encode() for word in _WORDS]
        merged += [symbol.encode() for symbol in _SYMBOLS]
        plain = dict.fromkeys([bytes([byte]) for byte in range(256)] + merged + list(_BYTES))
        self.pieces: list[bytes] = [*plain, *(special.encode() for special in specials)]
        self.special_ids = {special: len(plain) + index for index, special in enumerate(specials)}
        self._ids = {piece: token for token, piece in enumerate(plain)}
        self._piece = re.compile(_longest_of(plain), re.DOTALL)
        self.encode_calls = 0
        self.encoded_chars = 0

    @property
    def vocabulary_size(self) -> int:
        return len(self.pieces)

    def encode(self, text: str) -> "array[int]":
        self.encode_calls += 1
        self.encoded_chars += len(text)
        return array("I", map(self._ids.__getitem__, self._piece.findall(text.encode("utf-8", "replace"))))

    def special(self, text: str) -> int | None:
        return self.special_ids.get(text)

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; control tokens as their spelling."""
        return b"".join(self.pieces[token] for token in ids).decode("utf-8", "replace")


def _longest_of(pieces: Iterable[bytes]) -> bytes:
    """A pattern of the longest piece, by first bytes: tried one after the other they would take most of a test's time."""
    ends: dict[bytes, list[bytes]] = defaultdict(list)
    for piece in pieces:
        ends[piece[:1]].append(piece[1:])
    many = [
        re.escape(first) + b"(?:" + b"|".join(map(re.escape, sorted(rest, key=len, reverse=True))) + b")"
        for first, rest in ends.items()
        if len(rest) > 1
    ]
    firsts = b"".join(re.escape(first) for first, rest in ends.items() if len(rest) > 1)
    return b"(?=[" + firsts + b"])(?:" + b"|".join(many) + b")|."
