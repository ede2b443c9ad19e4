"""Cuts sampled ids into plain text and markers.

A marker that the vocabulary has as a control token is recognised by its id alone: its spelling in plain text stays text. Any
other marker is recognised by its spelling, over however many tokens; what may still become one is held back.
"""

import re
from collections.abc import Callable, Iterable

from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder

TextCallback = Callable[[str], None]
MarkCallback = Callable[[str], None]


def partial_end(text: str, mark: str) -> int:
    """Length of the longest end of `text` that `mark` could begin with, short of all of it."""
    start = text.find(mark[:1], max(0, len(text) - len(mark) + 1)) if mark else -1
    while start >= 0 and not mark.startswith(text[start:]):
        start = text.find(mark[0], start + 1)
    return len(text) - start if start >= 0 else 0


class MarkTable:
    """The markers of one family over one vocabulary, shared by all its scanners. Spelled markers begin with `<`."""

    def __init__(self, marks: Iterable[str], special: Callable[[str], int | None]) -> None:
        self.by_id: dict[int, str] = {}
        spelled: list[str] = []
        for mark in marks:
            token = special(mark)
            if token is None:
                spelled.append(mark)
            else:
                self.by_id[token] = mark
        self.longest = max(map(len, spelled), default=0)
        self.spelled = tuple(spelled)
        self.pattern = re.compile("|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))) if spelled else None

    def partial(self, text: str) -> int:
        """Length of the longest end of `text` that a spelled marker could begin with."""
        start = text.rfind("<", max(0, len(text) - self.longest + 1))
        if start < 0:
            return 0
        end = text[start:]
        return len(end) if any(mark.startswith(end) for mark in self.spelled) else 0


class MarkScanner:
    """Scans one output and reports what it finds, in order."""

    def __init__(self, pieces: PieceTable, marks: MarkTable, on_text: TextCallback, on_mark: MarkCallback) -> None:
        self._decoder = TextDecoder(pieces)
        self._marks = marks
        self._on_text = on_text
        self._on_mark = on_mark
        self._held = ""

    def feed(self, token: int) -> None:
        """Read one id."""
        mark = self._marks.by_id.get(token)
        if mark is None:
            text = self._decoder.feed(token)
            if text:
                self._scan(text)
        else:
            self.finish()
            self._on_mark(mark)

    def finish(self) -> None:
        """Report what is held back."""
        text = self._decoder.flush()
        if text:
            self._scan(text)
        self._report(len(self._held))

    def _scan(self, text: str) -> None:
        self._held += text
        if self._marks.pattern is None:
            self._report(len(self._held))
            return
        while (found := self._marks.pattern.search(self._held)) is not None:
            rest = self._held[found.end() :]
            self._report(found.start())
            self._held = rest
            self._on_mark(found.group())
        self._report(len(self._held) - self._marks.partial(self._held))

    def _report(self, count: int) -> None:
        text = self._held[:count]
        self._held = self._held[count:]
        if text:
            self._on_text(text)
