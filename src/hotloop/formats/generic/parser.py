"""Reads the output of a model by the syntax its template writes (`syntax`).

    START ──think──▶ THINK ──▶ TEXT ──trigger──▶ HEAD ─▶ NAME ─▶ MIDDLE ─▶ ARGUMENTS ─▶ AFTER ──between──▶ NAME …
                                 ▲                └─────── no call: its text is text ───┘  └──last──▶ TEXT

Control tokens count as what they spell, so a marker may be one token or many. Inside a JSON string a spelled marker is
text. What may still become a marker, or white space that the template puts there itself, is held back. A call that cannot
be one comes out as message text, marker included: nothing is lost.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotloop.formats.generic.syntax import NEVER, PARTLY, CallSyntax, Literal
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.mark_scanner import partial_end
from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder
from hotloop.protocol.tools import Tool
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ParsedEvent

_NAME_END = re.compile(r"[^A-Za-z0-9_.\-/]")
_NESTING = re.compile(r'["{}\[\]<]')
_IN_STRING = re.compile(r'["\\]')
_SCALAR_END = re.compile(r"[\s,}\]<]")
_SLIPS = "}] \t\r\n"  # a bracket too many behind arguments is a common slip and says nothing


@dataclass(frozen=True, slots=True)
class ThinkMarks:
    """What stands around reasoning. `is_open`: the generation prompt ends inside the block."""

    opening: str
    closing: str
    is_open: bool = False


class JsonEnd:
    """Finds the end of one JSON value, piece by piece. Strings and nesting only."""

    __slots__ = ("_depth", "_escape", "_in_string", "_is_scalar", "_started", "is_over")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escape = self._is_scalar = self._started = False
        self.is_over = False

    def read(self, text: str) -> int:
        """How much of `text` belongs to the value. Stops behind its last character, or at `<` outside of strings."""
        at = 0
        while at < len(text):
            if self._in_string:
                at = self._read_string(text, at)
                continue
            if self._depth == 0 and self._started:
                self.is_over = True
                return at
            at = self._read_value(text, at)
            if self.is_over:
                return at
        self.is_over = self._started and self._depth == 0 and not self._in_string
        return at

    def _read_value(self, text: str, at: int) -> int:
        if not self._started and (self._is_scalar or text[at] not in '"{['):
            self._is_scalar = True
            found = _SCALAR_END.search(text, at)
            self.is_over = found is not None
            return len(text) if found is None else found.start()
        found = _NESTING.search(text, at)
        if found is None:
            return len(text)
        character = found.group()
        if character == "<":
            self.is_over = True
            return found.start()
        self._started = True
        if character == '"':
            self._in_string = True
        else:
            self._depth += 1 if character in "{[" else -1
        return found.end()

    def _read_string(self, text: str, at: int) -> int:
        if self._escape:
            self._escape = False
            return at + 1
        found = _IN_STRING.search(text, at)
        if found is None:
            return len(text)
        self._in_string = found.group() != '"'
        self._escape = found.group() == "\\"
        return found.end()


class GenericParser:
    """Implements `seams.format.Parser` for one response.

    Args:
        table: texts of tokens, shared.
        stops: ids that end the output.
        think: marks of reasoning; None: there is none.
        syntax: of calls; None: everything is text.
        tools: the tools offered.
    """

    def __init__(
        self,
        table: PieceTable,
        stops: frozenset[int],
        think: ThinkMarks | None,
        syntax: CallSyntax | None,
        tools: Sequence[Tool],
    ) -> None:
        self._decoder = TextDecoder(table)
        self._stops = stops
        self._think = think
        self._syntax = syntax
        self._stream = ItemStream(tools)
        self._step: _Step = GenericParser._start
        if think is not None and think.is_open:
            self._step = GenericParser._thinking
        self._text: str = ""  # read, but not yet understood
        self._raw: str = ""  # of a call without a name yet
        self._name: str = ""
        self._json = JsonEnd()
        self._has_arguments = False
        self._is_final = False
        self._reasoning_tokens = 0

    @property
    def reasoning_tokens(self) -> int:
        """Ids from the opening to the closing mark, both included."""
        return self._reasoning_tokens

    def feed(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> list[ParsedEvent]:
        """See `Parser.feed`."""
        for index, token in enumerate(ids):
            if token in self._stops:
                continue
            was_thinking = self._step is GenericParser._thinking
            if logprobs is not None:
                self._stream.logprobs.append(logprobs[index])
            text = self._decoder.feed(token)
            if text:
                self._read(text)
            is_thinking = self._step is GenericParser._thinking
            if was_thinking or is_thinking:
                self._reasoning_tokens += 1
            if is_thinking or self._step in _CALL_STEPS:
                self._stream.logprobs.clear()
        return self._stream.take()

    def finish(self, *, complete: bool) -> list[ParsedEvent]:
        """See `Parser.finish`."""
        self._is_final = True
        self._read(self._decoder.flush())
        if self._step is GenericParser._arguments:
            self._end_call(complete=complete)
        elif self._step is GenericParser._thinking:
            self._say_thought(self._take().rstrip("\n"))
        elif self._step in _HEAD_STEPS:
            self._stream.say(self._raw)
        self._stream.say(self._take())
        self._stream.close(complete=complete)
        return self._stream.take()

    def _read(self, text: str) -> None:
        self._text += text
        while self._step(self):
            pass

    # --- each step says whether to go on with what is left ---

    def _start(self) -> bool:
        visible = self._text.lstrip()
        if self._think is not None:
            if visible.startswith(self._think.opening):
                self._text = visible[len(self._think.opening) :]
                self._step = GenericParser._thinking
                return True
            if self._think.opening.startswith(visible) and not self._is_final:
                return False
        if self._syntax is not None and not self._syntax.trigger:
            if not visible and not self._is_final:
                return False
            if visible.startswith(self._syntax.first.text[0]):
                self._raw = self._text[: len(self._text) - len(visible)]
                self._text = visible
                self._step = GenericParser._head
                return True
        self._step = GenericParser._reading
        return True

    def _thinking(self) -> bool:
        assert self._think is not None
        closing = self._think.closing
        end = self._text.find(closing)
        if end >= 0:
            self._say_thought(self._text[:end].rstrip("\n"))
            self._text = self._text[end + len(closing) :]
            self._stream.close()
            self._stream.logprobs.clear()
            self._step = GenericParser._after_think
            return True
        sure = len(self._text) - partial_end(self._text, closing)
        sure = len(self._text[:sure].rstrip("\n"))
        self._say_thought(self._text[:sure])
        self._text = self._text[sure:]
        return False

    def _after_think(self) -> bool:
        self._text = self._text.lstrip("\n")
        if not self._text:
            self._stream.logprobs.clear()
            return False
        is_bare = self._syntax is not None and not self._syntax.trigger
        self._think = None
        self._step = GenericParser._start if is_bare else GenericParser._reading
        return True

    def _reading(self) -> bool:
        syntax = self._syntax
        if syntax is None or not syntax.trigger:
            self._stream.say(self._take())
            return False
        at = self._text.find(syntax.trigger)
        if at >= 0:
            before = self._text[:at]
            said = before.removesuffix(syntax.lead)
            self._stream.say(said)
            self._raw = self._stream.take_lead() + before[len(said) :]
            self._text = self._text[at:]
            self._step = GenericParser._head
            return True
        sure = len(self._text) - partial_end(self._text, syntax.trigger)
        for length in range(len(syntax.lead), 0, -1):
            if self._text.endswith(syntax.lead[:length], 0, sure):
                sure -= length
                break
        self._stream.say(self._text[:sure])
        self._text = self._text[sure:]
        return False

    def _head(self) -> bool:
        assert self._syntax is not None
        stop = self._syntax.first.match(self._text)
        if stop == NEVER or (stop == PARTLY and self._is_final):
            self._give_up(self._syntax.trigger or self._text[:1])
        if stop < 0:
            return stop == NEVER
        self._eat(stop)
        self._step = GenericParser._in_name
        return True

    def _in_name(self) -> bool:
        found = _NAME_END.search(self._text)
        if found is None:
            return False
        self._name = self._text[: found.start()]
        if not self._name:
            self._give_up("")
            return True
        self._eat(found.start())
        self._step = GenericParser._in_middle
        return True

    def _in_middle(self) -> bool:
        assert self._syntax is not None
        stop = self._syntax.middle.match(self._text)
        if stop == NEVER:
            self._give_up("")
            return True
        if stop == PARTLY:
            return False
        self._text = self._text[stop:]
        self._raw = ""
        self._stream.open_call(self._name)
        self._json = JsonEnd()
        self._has_arguments = False
        self._step = GenericParser._arguments
        return True

    def _arguments(self) -> bool:
        if not self._has_arguments:
            self._text = self._text.lstrip()
        if not self._text:
            return False
        stop = self._json.read(self._text)
        text, self._text = self._text[:stop], self._text[stop:]
        self._has_arguments = self._has_arguments or bool(text)
        self._stream.add_arguments(text)
        if not self._json.is_over:
            return False
        self._end_call(complete=True)
        self._step = GenericParser._after_call
        return True

    def _after_call(self) -> bool:
        syntax = self._syntax
        assert syntax is not None
        for is_lenient, (between, last) in enumerate(((syntax.between, syntax.last), self._lenient())):
            if is_lenient:
                self._text = self._text.lstrip(_SLIPS)
            next_call = NEVER if between is None else between.match(self._text)
            end = last.match(self._text)
            if next_call >= 0:
                self._eat(next_call)
                self._step = GenericParser._in_name
                return True
            if next_call == PARTLY and not self._is_final:
                return False
            if end == PARTLY and not self._is_final:
                return False
            if end != NEVER or next_call == PARTLY:
                self._text = self._text[end:] if end >= 0 else ""
                break
        self._text = self._text.lstrip(_SLIPS)
        if self._text or self._is_final:
            self._step = GenericParser._reading
        else:
            self._step = GenericParser._after_calls
        return bool(self._text)

    def _after_calls(self) -> bool:
        self._text = self._text.lstrip(_SLIPS)
        if not self._text:
            self._stream.logprobs.clear()
            return False
        self._step = GenericParser._reading
        return True

    # --- what the steps share ---

    def _lenient(self) -> tuple[Literal | None, Literal]:
        assert self._syntax is not None
        between = self._syntax.between
        return None if between is None else between.without_closers(), self._syntax.last.without_closers()

    def _take(self) -> str:
        text, self._text = self._text, ""
        return text

    def _eat(self, length: int) -> None:
        self._raw += self._text[:length]
        self._text = self._text[length:]

    def _give_up(self, eaten: str) -> None:
        """No call: all of it is text, and what follows is read anew behind `eaten`."""
        raw, self._raw = self._raw + self._text[: len(eaten)], ""
        self._text = self._text[len(eaten) :]
        self._step = GenericParser._reading
        self._stream.say(raw)

    def _end_call(self, *, complete: bool) -> None:
        self._stream.end_arguments(complete=complete)
        self._stream.close(complete=complete)

    def _say_thought(self, text: str) -> None:
        if self._stream.kind is None:
            text = text.lstrip("\n")
            if not text:
                return
            self._stream.open("reasoning")
        self._stream.add(text)


_Step = Callable[[GenericParser], bool]
_HEAD_STEPS = (GenericParser._head, GenericParser._in_name, GenericParser._in_middle)
_CALL_STEPS = (*_HEAD_STEPS, GenericParser._arguments, GenericParser._after_call)
