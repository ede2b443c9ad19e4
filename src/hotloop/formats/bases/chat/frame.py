"""What stands around a text that a message holds as it is: worked out once, so that the next text is one run to tokenize."""

from array import array
from collections.abc import Callable

import msgspec

from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.seams.tokenizer import Tokenizer

_TEXT = "\uffff text \uffff"
_PLACE = 2**32 - 1  # stands for the run with the text; no vocabulary has as many tokens


class Frame(msgspec.Struct, frozen=True):
    """Tokens of a message in front of the run that holds its text, the run around the text, tokens behind it."""

    head: "array[int]"
    before: str
    behind: str
    tail: "array[int]"


def frame_of(tokenizer: Tokenizer, write: Callable[[TokenWriter, str], None]) -> Frame:
    """The frame of what `write` writes around a text, which it must write once, as it is."""
    probe = _Probe(tokenizer)
    writer = TokenWriter(probe)
    write(writer, _TEXT)
    tokens = writer.tokens()
    at = tokens.index(_PLACE)
    return Frame(tokens[:at], probe.before, probe.behind, tokens[at + 1 :])


class _Probe:
    """A tokenizer that leaves a place open for the run that holds the text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocabulary_size = tokenizer.vocabulary_size
        self.before = self.behind = ""

    def encode(self, text: str) -> "array[int]":
        """See `Tokenizer.encode`."""
        before, found, behind = text.partition(_TEXT)
        if not found:
            return self._tokenizer.encode(text)
        self.before, self.behind = before, behind
        return array("I", [_PLACE])

    def special(self, text: str) -> int | None:
        """See `Tokenizer.special`."""
        return self._tokenizer.special(text)

    def piece(self, token: int) -> bytes:
        """See `Tokenizer.piece`."""
        return self._tokenizer.piece(token)
