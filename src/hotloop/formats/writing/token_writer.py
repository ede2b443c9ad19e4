"""Puts a rendered text into tokens: control tokens by id, everything between them as the longest runs of plain text.

Long runs matter: a byte-pair vocabulary merges across the seam between a template's text and the content behind it.
"""

from array import array
from collections.abc import Callable, Iterable

from hotloop.seams.tokenizer import Tokenizer


class TokenWriter:
    """Collects one stretch of a chain.

    Args:
        tokenizer: gives the ids. A mark without an id of its own is written as plain text.
        base: tokens of the chain in front of this stretch.
    """

    __slots__ = ("_base", "_run", "_tokenizer", "_tokens", "checkpoints")

    def __init__(self, tokenizer: Tokenizer, base: int = 0) -> None:
        self._tokenizer = tokenizer
        self._base = base
        self._tokens = array("I")
        self._run: list[str] = []
        self.checkpoints: list[int] = []

    def text(self, text: str) -> None:
        """Plain text; never becomes a control token."""
        self._run.append(text)

    def mark(self, text: str) -> None:
        """A marker of the template: its control token, if the vocabulary has one."""
        token = self._tokenizer.special(text)
        if token is None:
            self._run.append(text)
        else:
            if self._run:
                self._end_run()
            self._tokens.append(token)

    def put(self, tokens: "array[int]") -> None:
        """Tokens that were written before, from a control token to a control token."""
        if self._run:
            self._end_run()
        self._tokens += tokens

    def template(self, text: str, marks: tuple[str, ...]) -> None:
        """Fixed text of the template with `marks` in it."""
        while True:
            found = [(at, mark) for mark in marks if (at := text.find(mark)) >= 0]
            if not found:
                self._run.append(text)
                return
            at, mark = min(found)
            self._run.append(text[:at])
            self.mark(mark)
            text = text[at + len(mark) :]

    def checkpoint(self) -> int:
        """The chain's length here, remembered as a place to rewind to."""
        length = self._base + len(self.tokens())
        self.checkpoints.append(length)
        return length

    def tokens(self) -> "array[int]":
        """Everything written so far."""
        if self._run:
            self._end_run()
        return self._tokens

    def _end_run(self) -> None:
        run = "".join(self._run)
        self._run.clear()
        if run:
            self._tokens += self._tokenizer.encode(run)


def written(tokenizer: Tokenizer, write: Callable[[TokenWriter], None]) -> "array[int]":
    """The tokens that `write` writes."""
    writer = TokenWriter(tokenizer)
    write(writer)
    return writer.tokens()


def required_token(tokenizer: Tokenizer, mark: str, family: str) -> int:
    """The control token of a mark that the family cannot do without. Raises ValueError if the vocabulary has none."""
    token = tokenizer.special(mark)
    if token is None:
        raise ValueError(f"the vocabulary has no control token {mark!r}, which the {family} format needs")
    return token


def known_tokens(tokenizer: Tokenizer, marks: Iterable[str]) -> frozenset[int]:
    """The control tokens of those marks that the vocabulary has."""
    tokens = map(tokenizer.special, marks)
    return frozenset(token for token in tokens if token is not None)
