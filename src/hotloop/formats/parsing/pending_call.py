"""A tool call of which not all has been sampled yet."""

from hotloop.formats.parsing.call_syntax import ArgumentsReader
from hotloop.formats.parsing.item_stream import ItemStream


class PendingCall:
    """One call while it is read: raw text until its name is known, then arguments."""

    __slots__ = ("_is_forced", "_raw", "is_open", "leftover", "opening", "reader")

    def __init__(self, opening: str, reader: ArgumentsReader) -> None:
        self.opening = opening  # the marker and what separates it from the text before it
        self.reader = reader
        self.is_open = False
        self.leftover = ""  # what stood behind a whole call, before its end marker
        self._raw: list[str] = []
        self._is_forced = False  # what fits no call counts as arguments

    def read(self, text: str) -> str:
        """Read on; returns what cannot be read as part of the call."""
        if self.reader.is_broken:
            return text
        self.reader.feed(text)
        rest = self.reader.rest
        if not self.is_open:
            self._raw.append(text[: len(text) - len(rest)])
        return rest

    def read_mark(self, held: str, mark: str) -> str:
        """Read a marker that was one control token; returns what cannot be read as part of the call."""
        if self.reader.is_broken:
            return held + mark
        self.reader.feed_mark(held, mark)
        rest = self.reader.rest
        if not self.is_open:
            self._raw.append((held + mark).removesuffix(rest))
        return rest

    def raw(self) -> str:
        """All of a call without a name that was read behind its opening."""
        return "".join(self._raw)

    def report(self, stream: ItemStream) -> None:
        """Say what is new of the call, once its name is known."""
        if not self.is_open:
            if self.reader.name is None:
                return
            stream.open_call(self.reader.name)
            self.is_open = True
            self._raw.clear()
        stream.add_arguments(self.reader.take_arguments())

    def junk(self, text: str) -> None:
        """Text that fits no call: behind whole arguments it is a leftover, else it counts as arguments."""
        if self.reader.arguments_are_whole and not self._is_forced:
            self.reader.is_broken = True
            self.leftover += text
        else:
            self._is_forced = True
            self.reader.force_arguments(text)

    def finish(self, stream: ItemStream, *, ended: bool) -> bool:
        """Say the rest of the call; whether it is whole: `ended`, or read to its end before the output was cut off."""
        is_whole = ended or self.reader.is_over
        self.report(stream)
        stream.end_arguments(complete=is_whole)
        return is_whole
