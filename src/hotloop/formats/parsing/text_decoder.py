"""Token ids to text, without ever showing half a character.

Most tokens are whole characters by themselves: their text is looked up in a table shared by all parsers of a format. Only
around split characters the incremental UTF-8 decoder works.
"""

import codecs
from collections.abc import Callable

import msgspec

_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class PieceTable:
    """Text of every token seen so far; None for a token that is not whole characters. Bounded by the vocabulary."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self.piece = piece
        self._texts: dict[int, str | None] = {}

    def text(self, token: int) -> str | None:
        """The token's text if its bytes are whole characters."""
        try:
            return self._texts[token]
        except KeyError:
            pass
        try:
            text: str | None = self.piece(token).decode("utf-8")
        except UnicodeDecodeError:
            text = None
        self._texts[token] = text
        return text


class TextDecoder(msgspec.Struct):
    """Decodes one output. Bytes that are no UTF-8 become U+FFFD, the same however they are split."""

    _table: PieceTable
    is_split: bool = False  # the decoder holds the start of a character
    _utf8: codecs.IncrementalDecoder | None = None  # made when a character is split: few outputs have one

    def feed(self, token: int) -> str:
        """The text that `token` completes; may be empty."""
        if not self.is_split:
            text = self._table.text(token)
            if text is not None:
                return text
        utf8 = self._utf8
        if utf8 is None:
            utf8 = self._utf8 = _new_utf8_decoder("replace")
        text = utf8.decode(self._table.piece(token))
        self.is_split = bool(utf8.getstate()[0])
        return text

    def flush(self) -> str:
        """What a cut-off character leaves: U+FFFD or nothing."""
        if not self.is_split or self._utf8 is None:
            return ""
        self.is_split = False
        text = self._utf8.decode(b"", True)
        self._utf8.reset()
        return text
