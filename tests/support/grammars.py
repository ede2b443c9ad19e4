"""Compiles a `Constraint` with llguidance over the toy vocabulary and tells which texts it lets through."""

from collections.abc import Sequence

import llguidance
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.seams.engine import Constraint

# Tools that grammars are made for.
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "line": {"type": "integer"}},
    "required": ["path", "line"],
    "additionalProperties": False,
}
EDIT: dict[str, object] = {"type": "function", "name": "edit", "strict": True, "parameters": SCHEMA}
LOOSE: dict[str, object] = {"type": "function", "name": "loose", "parameters": SCHEMA}
PYTHON: dict[str, object] = {"type": "custom", "name": "python"}
DIGITS: dict[str, object] = {
    "type": "custom",
    "name": "digits",
    "format": {"type": "grammar", "syntax": "regex", "definition": "[0-9]+"},
}
HOSTED: dict[str, object] = {"type": "web_search"}
ANSWER = b'{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}'


class _Vocabulary:
    """What `llguidance.TokenizerWrapper` asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokenizer: ToyTokenizer, end: str) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.special_ids[end]
        self.tokens = tokenizer.pieces
        self.special_token_ids = list(tokenizer.special_ids.values())

    def __call__(self, text: bytes) -> list[int]:
        return list(self._tokenizer.encode(text.decode()))


class Grammars:
    """One vocabulary, ready for matching; `end` is the family's stop token."""

    def __init__(self, tokenizer: ToyTokenizer, end: str = "<|im_end|>") -> None:
        self.tokenizer = tokenizer
        self._ll = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Vocabulary(tokenizer, end)))

    def error(self, constraint: Constraint) -> str:
        """What the compiler says against the grammar; empty if it compiles."""
        return str(llguidance.LLMatcher.validate_grammar(constraint.grammar, self._ll))

    def accepts(self, constraint: Constraint, ids: Sequence[int]) -> bool:
        """The grammar lets exactly `ids` be written and may end there."""
        matcher = llguidance.LLMatcher(self._ll, constraint.grammar)
        assert not matcher.is_error(), matcher.get_error()
        return bool(matcher.try_consume_tokens(list(ids)) == len(ids) and matcher.is_accepting())

    def ids(self, text: str) -> list[int]:
        """`text` with every spelled control token as that token."""
        ids: list[int] = []
        while text:
            hits = [(at, mark) for mark in self.tokenizer.special_ids if (at := text.find(mark)) >= 0]
            at, mark = min(hits, default=(len(text), ""))
            ids += self.tokenizer.encode(text[:at])
            if mark:
                ids.append(self.tokenizer.special_ids[mark])
            text = text[at + len(mark) :]
        return ids
