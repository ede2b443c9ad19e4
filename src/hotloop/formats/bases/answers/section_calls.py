"""Calls whose arguments are JSON between control tokens: DeepSeek's up to V3.1, and Kimi's.

    SECTION  CALL header SEPARATOR arguments CALL_END  CALL … CALL_END  SECTION_END

The name stands in the header, or, for DeepSeek R1, behind the separator in front of a fenced block:
`function SEPARATOR name⏎```json⏎ arguments ⏎``` `.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from hotloop.formats.parsing.item_stream import ItemStream

FENCE = "```json\n"
FENCE_END = "\n```"
_MAY_END_FENCE = re.compile(r"\n`{0,3}\s*\Z")


@dataclass(frozen=True, slots=True)
class CallMarks:
    """The markers around calls."""

    section: str
    section_end: str
    call: str
    separator: str
    call_end: str

    @property
    def all(self) -> tuple[str, ...]:
        """Every one of them."""
        return (self.section, self.section_end, self.call, self.separator, self.call_end)


class SectionCalls:
    """Implements `parser.CallsReader`.

    Args:
        stream: gets the items.
        marks: the family's markers.
        name_of: the tool's name by the header; empty if it names none. Not used if `fenced`.
        fenced: the name stands behind the separator, the arguments in a fenced block.
    """

    def __init__(
        self,
        stream: ItemStream,
        marks: CallMarks,
        name_of: Callable[[str], str],
        *,
        fenced: bool,
    ) -> None:
        self._stream = stream
        self._marks = marks
        self._name_of = name_of
        self._fenced = fenced
        self._read: _Step = SectionCalls._between
        self._raw = ""  # what has been read and is not part of an item yet
        self._part = ""  # of the header, or of the name and fence
        self._held = ""  # may be the end of the fence

    def opens(self, mark: str) -> bool:
        """See `CallsReader.opens`. A call may stand without a section."""
        return mark in (self._marks.section, self._marks.call)

    def begin(self, before: str, mark: str) -> None:
        """See `CallsReader.begin`."""
        self._raw = before + mark
        self._part = ""
        self._read = SectionCalls._header if mark == self._marks.call else SectionCalls._between

    def text(self, text: str) -> str | None:
        """See `CallsReader.text`."""
        return self._read(self, text)

    def mark(self, mark: str) -> str | None:
        """See `CallsReader.mark`."""
        marks = self._marks
        if self._read is SectionCalls._arguments:
            return self._mark_in_arguments(mark)
        if self._read is SectionCalls._named:
            if mark == marks.call_end and self._part.strip():
                self._open(self._part.strip())
                self._close()
                return None
            return self._give_up(mark)
        if self._read is SectionCalls._header:
            return self._mark_in_header(mark)
        if mark == marks.call:
            self._raw += mark
            self._part = ""
            self._read = SectionCalls._header
            return None
        if mark == marks.section_end and not self._raw.strip():
            return ""
        return self._give_up(mark)

    def finish(self, *, ended: bool) -> str:
        """See `CallsReader.finish`."""
        if self._read is SectionCalls._arguments:
            self._finish_arguments(ended=ended)
            if ended:
                self._stream.close()
            return ""
        return self._raw if self._raw.strip() else ""

    # --- steps over text ---

    def _between(self, text: str) -> str | None:
        if text.isspace():
            self._raw += text
            return None
        return self._give_up(text)

    def _header(self, text: str) -> str | None:
        self._raw += text
        self._part += text
        return None

    def _named(self, text: str) -> str | None:
        self._raw += text
        self._part += text
        name, line_end, rest = self._part.partition("\n")
        if not line_end:
            return None
        if not name.strip():
            return self._give_up("")
        if FENCE.startswith(rest) and rest != FENCE:
            return None  # the fence is not whole yet
        self._open(name.strip())
        return self._arguments(rest.removeprefix(FENCE))

    def _arguments(self, text: str) -> str | None:
        if self._fenced:
            text = self._held + text
            end = _MAY_END_FENCE.search(text)
            sure = len(text) if end is None else end.start()
            self._held = text[sure:]
            text = text[:sure]
        self._stream.add_arguments(text)
        return None

    # --- markers ---

    def _mark_in_header(self, mark: str) -> str | None:
        if mark != self._marks.separator:
            return self._give_up(mark)
        if self._fenced:
            self._raw += mark
            self._part = ""
            self._read = SectionCalls._named
            return None
        name = self._name_of(self._part)
        if not name:
            return self._give_up(mark)
        self._open(name)
        return None

    def _mark_in_arguments(self, mark: str) -> str | None:
        marks = self._marks
        if mark == marks.call_end:
            self._close()
            return None
        if mark in (marks.call, marks.section_end):  # the call was not ended
            self._close()
            return self.mark(mark)
        return self._arguments(mark)

    # --- items ---

    def _open(self, name: str) -> None:
        self._stream.open_call(name)
        self._raw = self._part = self._held = ""
        self._read = SectionCalls._arguments

    def _close(self) -> None:
        self._finish_arguments(ended=True)
        self._stream.close()
        self._read = SectionCalls._between

    def _finish_arguments(self, *, ended: bool) -> None:
        if "`" not in self._held:
            self._stream.add_arguments(self._held)
        self._held = ""
        self._stream.end_arguments(complete=ended)

    def _give_up(self, more: str) -> str:
        """No call: everything since the last one is text."""
        raw = self._raw + more
        self._raw = self._part = ""
        self._read = SectionCalls._between
        return raw


_Step = Callable[[SectionCalls, str], str | None]
