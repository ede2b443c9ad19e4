"""A `tokenizer.json`, through the tokenizers library.

Its special tokens are taken out before loading, so that no text can become one; `encode_batch_fast` is the one entry that
leaves the GIL alone (plain `encode` holds it for up to 300 ms).
"""

import json
from array import array
from pathlib import Path
from typing import Any

import tokenizers

from hotloop.tokenizers.byte_symbols import token_bytes


class JsonTokenizer:
    """Implements `seams.tokenizer.Tokenizer`. Raises ValueError for a file that is none or is not byte-level."""

    def __init__(self, path: Path) -> None:
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
            added: list[dict[str, Any]] = content.pop("added_tokens", None) or []
            content["added_tokens"], content["post_processor"] = [], None
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path}: not a tokenizer.json: {str(error).splitlines()[0][:200]}") from error
        self._special = {str(entry["content"]): int(entry["id"]) for entry in added}
        plain: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=False)
        self.vocabulary_size = max([*plain.values(), *self._special.values()]) + 1
        self._pieces = [b""] * self.vocabulary_size
        for token, index in plain.items():
            self._pieces[index] = token_bytes(token) or token.encode()
        for spelling, index in self._special.items():
            self._pieces[index] = spelling.encode()
        if any(self._tokenizer.token_to_id(symbol) is None for symbol in ("Ġ", "Ċ", "a")):
            raise ValueError(f"{path}: its vocabulary is not byte-level")

    def encode(self, text: str) -> "array[int]":
        """See `Tokenizer.encode`."""
        if not text:
            return array("I")
        whole = text.encode("utf-8", "replace").decode()
        (encoding,) = self._tokenizer.encode_batch_fast([whole], add_special_tokens=False)
        return array("I", encoding.ids)

    def special(self, text: str) -> int | None:
        """See `Tokenizer.special`."""
        return self._special.get(text)

    def piece(self, token: int) -> bytes:
        """See `Tokenizer.piece`."""
        return self._pieces[token]
