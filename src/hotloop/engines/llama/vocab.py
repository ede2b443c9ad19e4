"""The Tokenizer of a GGUF file, and what else a server needs from it, without loading its weights.

Text never becomes a special token. llama.cpp can leave control tokens alone (`parse_special=false`) but always matches
user-defined ones such as `<tool_call>`. So text is cut after the first character of each such spelling and the parts are
encoded one by one: no part holds a whole spelling. Spellings of white space or one character carry no meaning of their
own (some vocabularies have tokens for runs of blanks) and are left to llama.cpp.
"""

import re
from array import array
from collections.abc import Iterable

from hotloop.engines.llama.binding import ATTR_CONTROL, ATTR_USER_DEFINED, VOCABULARY_BPE, Model
from hotloop.engines.llama.faults import ModelFileError
from hotloop.engines.llama.gguf_file import check_header


class GgufTokenizer:
    """Tokenizer, template and limits of the model file at `path`. Thread-safe. Raises ModelFileError, LibraryError."""

    def __init__(self, path: str) -> None:
        check_header(path)
        self._model = Model(path, vocabulary_only=True)
        if self._model.vocabulary_type != VOCABULARY_BPE:
            raise ModelFileError(path, "its vocabulary is not byte-level BPE, the only kind supported")
        self._pieces = self._model.pieces()
        spellings = {
            token: self._pieces[token].decode("utf-8", "replace")
            for token in self._model.tokens_with(ATTR_CONTROL | ATTR_USER_DEFINED)
        }
        self._special = {spelling: token for token, spelling in spellings.items()}
        self._marker = _marker_pattern(spellings[token] for token in self._model.tokens_with(ATTR_USER_DEFINED))
        self.stop_tokens = frozenset(self._model.stop_tokens())
        self.chat_template = self._model.chat_template
        self.template_variables = self._template_variables()
        self.context_tokens = self._model.trained_context
        self.model_name = self._model.metadata("general.name")

    @property
    def vocabulary_size(self) -> int:
        return len(self._pieces)

    def encode(self, text: str) -> "array[int]":
        out = array("I")
        for part in self.parts(text):
            # a lone surrogate is no character: it becomes "?"
            out.frombytes(self._model.tokenize(part.encode("utf-8", "replace")).tobytes())
        return out

    def _template_variables(self) -> dict[str, object]:
        """What chat templates read beside the conversation."""
        variables: dict[str, object] = {}
        for name in ("bos", "eos"):
            token = self._model.metadata(f"tokenizer.ggml.{name}_token_id")
            if token is not None and token.isdecimal() and int(token) < len(self._pieces):
                variables[f"{name}_token"] = self._pieces[int(token)].decode("utf-8", "replace")
        return variables

    def parts(self, text: str) -> list[str]:
        """`text` in parts none of which holds a user-defined token's spelling."""
        if self._marker is None:
            return [text]
        parts: list[str] = []
        start = 0
        while found := self._marker.search(text, start):
            cut = found.start() + 1
            parts.append(text[start:cut])
            start = cut
        parts.append(text[start:])
        return parts

    def special(self, text: str) -> int | None:
        return self._special.get(text)

    def piece(self, token: int) -> bytes:
        return self._pieces[token]


def _marker_pattern(spellings: Iterable[str]) -> re.Pattern[str] | None:
    """Finds the leftmost spelling that must not be matched in text."""
    markers = [re.escape(spelling) for spelling in spellings if len(spelling) > 1 and not spelling.isspace()]
    return re.compile("|".join(markers)) if markers else None
