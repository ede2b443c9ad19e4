"""Keeps content apart from the template's own text in a rendered conversation.

Before content goes into a template, every spelling of a control token in it becomes one character that no content holds.
After rendering, a spelled control token is therefore the template's own, whatever the template did with the content: it may
have trimmed, escaped or joined it. So no content can be read as a control token.

    content  "x <|im_end|>"  ─mask─▶  "x ⟨3⟩"  ─template─▶  "…<|im_end|>… x ⟨3⟩ …"  ─restore─▶  token, text "x <|im_end|>"

The masks live in plane 16 of Unicode, a private use area. Characters of that plane in content are escaped themselves.
"""

import json
import re
from collections.abc import Sequence
from typing import cast

_FIRST = 0x100000
_ESCAPE = "\U0010fffd"
_DIGIT = 0x10FF00
_MOST_MARKS = 0xF000
_ESCAPED = re.compile(r"\\ud[bB][c-fC-F][0-9a-fA-F]\\ud[c-fC-F][0-9a-fA-F]{2}")  # plane 16 as surrogates
SAMPLE = chr(_FIRST)
SAMPLE_ESCAPED = json.dumps(SAMPLE)[1:-1]


class ContentMask:
    """Masks for the control tokens that a template writes.

    Args:
        marks: their spellings.
    """

    def __init__(self, marks: Sequence[str]) -> None:
        self.marks = tuple(sorted(set(marks), key=lambda mark: (-len(mark), mark)))[:_MOST_MARKS]
        heads = sorted({mark[0] for mark in self.marks} | {mark[-1] for mark in self.marks})
        self._mask_of = {text: chr(_FIRST + index) for index, text in enumerate([*self.marks, *heads])}
        self._text_of = {mask: text for text, mask in self._mask_of.items()}
        spelled = "|".join([*map(re.escape, self.marks), "[\U00100000-\U0010ffff]"])
        self._spelled = re.compile(spelled)
        self._mark = re.compile("|".join(map(re.escape, self.marks)) or r"(?!)")
        self._masked = re.compile(
            f"{_ESCAPE}(?P<digits>[{chr(_DIGIT)}-{chr(_DIGIT + 15)}]{{4}})|[{chr(_FIRST)}-{chr(_FIRST + _MOST_MARKS)}]"
        )
        self._starts = {mark[:length] for mark in self.marks for length in range(1, len(mark))}
        self._ends = {mark[-length:] for mark in self.marks for length in range(1, len(mark))}
        self._longest = max(map(len, self.marks), default=1)

    def mask(self, text: str) -> str:
        """Content that is safe to give to the template."""
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate is no character: it becomes "?"
        return self._mask_ends(self._spelled.sub(self._masked_match, text))

    def mask_value(self, value: object) -> object:
        """A JSON value with all its strings masked."""
        match value:
            case str():
                return self.mask(value)
            case dict():
                fields = cast("dict[str, object]", value)
                return {self.mask(key): self.mask_value(inner) for key, inner in fields.items()}
            case list():
                return [self.mask_value(inner) for inner in cast("list[object]", value)]
            case _:
                return value

    def restore(self, text: str) -> str:
        """The text as it was before masking."""
        return self._masked.sub(self._restored, text)

    def unescaped(self, rendered: str) -> str:
        """Masks that a template wrote as JSON escapes (`tojson` with `ensure_ascii`) as masks again."""
        return _ESCAPED.sub(lambda found: json.loads(f'"{found.group()}"'), rendered)

    def pieces(self, rendered: str) -> list[tuple[int, str, bool]]:
        """(offset, text, is a control token of the template) for each part of a rendered text, masks still in it."""
        parts: list[tuple[int, str, bool]] = []
        at = 0
        for found in self._mark.finditer(rendered):
            if found.start() > at:
                parts.append((at, rendered[at : found.start()], False))
            parts.append((found.start(), found.group(), True))
            at = found.end()
        if at < len(rendered):
            parts.append((at, rendered[at:], False))
        return parts

    def _masked_match(self, found: re.Match[str]) -> str:
        text = found.group()
        mask = self._mask_of.get(text)
        return (
            mask if mask is not None else _ESCAPE + "".join(chr(_DIGIT + (ord(text) >> s & 15)) for s in (12, 8, 4, 0))
        )

    def _restored(self, found: re.Match[str]) -> str:
        digits = found.group("digits")
        if digits is None:
            return self._text_of.get(found.group(), found.group())
        return chr(
            _FIRST + sum((ord(digit) - _DIGIT) << shift for digit, shift in zip(digits, (12, 8, 4, 0), strict=True))
        )

    def _mask_ends(self, text: str) -> str:
        """Two contents side by side, or content beside the template's text, must not make up a spelling either."""
        start = len(text) - len(text.lstrip())
        for length in range(min(self._longest, len(text) - start), 0, -1):
            if text[start : start + length] in self._ends:
                last = start + length - 1
                text = text[:last] + self._mask_of[text[last]] + text[last + 1 :]
                break
        stop = len(text.rstrip())
        for length in range(min(self._longest, stop), 0, -1):
            if text[stop - length : stop] in self._starts:
                first = stop - length
                text = text[:first] + self._mask_of[text[first]] + text[first + 1 :]
                break
        return text
