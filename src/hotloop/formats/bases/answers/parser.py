"""Reads an answer of reasoning, text and calls as items, for families whose calls stand between markers of their own.

    THINK ──</think>──▶ TEXT ──marker that opens calls──▶ CALLS ──their end──▶ TEXT …
      ▲──────<think>─────┘

How calls are written is the business of a `CallsReader`. What turns out to be no call comes out as message text, markers
included: nothing is lost.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from hotloop.formats.bases.answer import THINK, THINK_END
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.mark_scanner import MarkScanner, MarkTable
from hotloop.formats.parsing.text_decoder import PieceTable
from hotloop.protocol.tools import Tool
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ParsedEvent


class CallsReader(Protocol):
    """Reads the calls of one answer and writes them into the item stream.

    `text` and `mark` return None while the calls go on; else the text that does not belong to them.
    """

    def opens(self, mark: str) -> bool:
        """The marker begins calls."""
        ...

    def begin(self, before: str, mark: str) -> None:
        """Calls begin with `mark`; `before` is the separator in front of it, in case this turns out to be no call."""
        ...

    def text(self, text: str) -> str | None:
        """Read text."""
        ...

    def mark(self, mark: str) -> str | None:
        """Read a marker."""
        ...

    def finish(self, *, ended: bool) -> str:
        """The output is over, or cut off if not `ended`. Returns what was no call; a call cut off stays open."""
        ...


class AnswerParser:
    """Implements `seams.format.Parser` for one response.

    Args:
        pieces, marks: the vocabulary.
        stops: ids that end the output.
        tools: the tools offered.
        calls: makes the reader of calls.
        in_think: the generation prompt opened a think block.
        think_lines: line ends around reasoning belong to the think block.
        separator: white space that the family puts between text and calls.
    """

    def __init__(
        self,
        pieces: PieceTable,
        marks: MarkTable,
        stops: frozenset[int],
        tools: Sequence[Tool],
        calls: Callable[[ItemStream], CallsReader],
        *,
        in_think: bool,
        think_lines: bool,
        separator: str,
    ) -> None:
        self._scanner = MarkScanner(pieces, marks, self._text, self._mark)
        self._stops = stops
        self._stream = ItemStream(tools)
        self._calls = calls(self._stream)
        self._think_lines = think_lines
        self._separator = separator
        self._mode: Literal["think", "text", "calls"] = "think" if in_think else "text"
        self._held = ""  # line ends that may belong to what follows
        self._skips = ""  # characters left out until another one comes
        self._reasoning_tokens = 0

    @property
    def reasoning_tokens(self) -> int:
        """Ids of think blocks, `</think>` included."""
        return self._reasoning_tokens

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        """See `Parser.feed`."""
        for index, token in enumerate(ids):
            if token in self._stops:
                continue
            was_thinking = self._mode == "think"
            if logprobs is not None:
                self._stream.logprobs.append(logprobs[index])
            self._scanner.feed(token)
            if was_thinking or self._mode == "think":
                self._reasoning_tokens += 1
            if self._mode != "text":
                self._stream.logprobs.clear()
        return self._stream.take()

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        """See `Parser.finish`."""
        self._scanner.finish()
        if self._mode == "calls":
            rest = self._calls.finish(ended=complete)
            if rest:
                self._mode = "text"
                self._stream.say(rest)
        elif self._mode == "text":
            self._stream.say(self._take_held())
        self._stream.close(complete=complete)
        return self._stream.take()

    # --- what the scanner finds ---

    def _text(self, text: str) -> None:
        if self._mode == "calls":
            self._after_calls(self._calls.text(text))
            return
        if self._skips:
            text = text.lstrip(self._skips)
            if not text:
                self._stream.logprobs.clear()
                return
            self._skips = ""
        if self._mode == "think":
            self._think(text)
            return
        text = self._take_held() + text
        sure = max(len(text.rstrip("\n")), len(text) - len(self._separator))
        self._held = text[sure:]
        self._stream.say(text[:sure])

    def _mark(self, mark: str) -> None:
        if self._mode == "calls":
            self._after_calls(self._calls.mark(mark))
        elif self._calls.opens(mark):
            self._begin_calls(mark)
        elif self._mode == "think" and mark == THINK_END:
            self._end_thought()
        elif mark == THINK and self._mode == "text":
            self._begin_thought()
        elif not (mark == THINK and self._stream.kind is None):  # a block that is open already may be opened again
            self._text(mark)

    # --- reasoning ---

    def _think(self, text: str) -> None:
        if not self._think_lines:
            self._say_thought(text)
            return
        text = self._take_held() + text
        sure = len(text.rstrip("\n"))
        self._held = text[sure:]
        self._say_thought(text[:sure])

    def _say_thought(self, text: str) -> None:
        if self._stream.kind is None:
            text = self._stream.take_lead() + text
            if not text.strip():
                self._stream.lead = text
                return
            self._stream.open("reasoning")
            if self._think_lines:
                text = text.lstrip("\n")
        self._stream.add(text)

    def _begin_thought(self) -> None:
        self._stream.say(self._take_held())
        self._stream.close()
        self._stream.lead = ""
        self._mode = "think"

    def _end_thought(self) -> None:
        self._held = self._stream.lead = ""
        self._stream.close()
        self._stream.logprobs.clear()
        self._mode = "text"
        self._skips = "\n" if self._think_lines else ""

    # --- text and calls ---

    def _begin_calls(self, mark: str) -> None:
        if self._mode == "think":  # some models forget to end the block
            self._end_thought()
        before = self._stream.take_lead() + self._take_held()
        self._mode = "calls"
        self._calls.begin(before, mark)

    def _after_calls(self, rest: str | None) -> None:
        if rest is None:
            return
        self._mode = "text"
        self._skips = "" if rest else " \t\r\n"
        if rest:
            self._text(rest)

    def _take_held(self) -> str:
        held = self._held
        self._held = ""
        return held
