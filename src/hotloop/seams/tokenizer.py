"""Text to token ids and token ids to bytes, for one vocabulary."""

from array import array
from typing import Protocol


class Tokenizer(Protocol):
    """One model's vocabulary. Thread-safe; `encode` may release the GIL on long text."""

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids; every id is below it."""
        ...

    def encode(self, text: str) -> "array[int]":
        """Ids of plain text. A special token's spelling inside `text` stays text: it never becomes that token."""
        ...

    def special(self, text: str) -> int | None:
        """Id of the single token that the template writes as `text` (`<|im_start|>`), or None if there is none."""
        ...

    def piece(self, token: int) -> bytes:
        """Bytes the token stands for in output text; may be a part of a UTF-8 character. Control tokens: their spelling."""
        ...
