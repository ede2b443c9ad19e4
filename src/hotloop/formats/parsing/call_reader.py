"""Reads the JSON of one tool call while it is being written.

    {"name": "edit", "arguments": {"path": "a.py", "line": 3}}
              ▲ name known          └──── passed on verbatim, piece by piece ────┘

Keys may come in any order: arguments before the name are held until it is known; other keys are skipped. The reader never
looks at a character twice and keeps no more than the key or name it is inside of. It checks structure only (strings and
nesting): whether the arguments are sound is for whoever runs the tool.
"""

import json
import re
from collections.abc import Callable

from hotloop.formats.parsing.argument_types import ArgumentTypes

_WHITESPACE = " \t\r\n"
_SCALAR_END = re.compile(r'[\s,{}\[\]"<]')
_IN_STRING = re.compile(r'["\\]')
_NESTING = re.compile(r'["{}\[\]<]')


class CallReader:
    """One call. After each `feed`, `name` and `take_arguments` say what is known.

    `is_broken` becomes true at the first character that fits no call; nothing is read from there on. `rest` is what was fed
    but not read: from the broken character on, or from `<` on when `<` stands where the call may end.
    """

    __slots__ = ("_argument_keys", "_arguments", "_depth", "_escape", "_key", "_read", "_text", "_value_of",
                 "has_arguments", "is_broken", "is_over", "name", "rest")  # fmt: skip

    def __init__(self, argument_keys: tuple[str, ...] = ("arguments",)) -> None:
        self._argument_keys = argument_keys
        self.name: str | None = None
        self.is_broken = False
        self.is_over = False  # the outer object is closed
        self.has_arguments = False  # the value of "arguments" has begun
        self.rest = ""
        self._read: _Step = CallReader._at_start
        self._text: list[str] = []  # the string being read, quotes included
        self._arguments: list[str] = []
        self._key = ""
        self._value_of = ""
        self._depth = 0
        self._escape = False

    @property
    def in_string(self) -> bool:
        """Inside a JSON string, where a marker's spelling is just text."""
        return self._read in _STRING_STEPS

    @property
    def arguments_are_whole(self) -> bool:
        """The value of "arguments" has been read to its end."""
        return self.has_arguments and self._read not in _VALUE_STEPS

    def take_arguments(self) -> str:
        """Arguments read since the last call of this."""
        if not self._arguments:
            return ""
        text = "".join(self._arguments)
        self._arguments.clear()
        return text

    def awaits(self, rest: str) -> bool:
        """See `ArgumentsReader`: nothing in JSON begins with `<`."""
        return False

    def feed_mark(self, held: str, mark: str) -> None:
        """See `ArgumentsReader`: markers are text here."""
        self.feed(held + mark)

    def end(self, held: str, *, ended: bool) -> str:
        """See `ArgumentsReader`: behind whole arguments `held` is the start of an end marker, and says nothing."""
        return "" if self.arguments_are_whole else held

    def force_arguments(self, text: str) -> None:
        """Count `text` as arguments as it stands; the reader reads no more."""
        self.is_broken = True
        self.has_arguments = True
        self._arguments.append(text)

    def feed(self, text: str) -> None:
        """Read on. Stops early at a broken character or at `<` outside of strings: see `rest`."""
        at = 0
        end = len(text)
        while at < end and not self.is_broken:
            if text[at] == "<" and not self.in_string:
                break
            at = self._read(self, text, at)
        self.rest = text[at:]

    # Each step reads from `at` and returns where it stopped; `_broken` returns `at` itself.

    def _broken(self, at: int) -> int:
        self.is_broken = True
        return at

    def _at_start(self, text: str, at: int) -> int:
        return self._expect(text, at, "{", CallReader._before_key)

    def _before_key(self, text: str, at: int) -> int:
        if text[at] == '"':
            self._text = ['"']
            self._read = CallReader._in_key
            return at + 1
        if text[at] == "}":
            return self._close_object(at)
        return self._skip_whitespace(text, at)

    def _in_key(self, text: str, at: int) -> int:
        at, key = self._string(text, at)
        if key is not None:
            self._key = key
            self._read = CallReader._before_colon
        return at

    def _before_colon(self, text: str, at: int) -> int:
        return self._expect(text, at, ":", CallReader._before_value)

    def _before_value(self, text: str, at: int) -> int:
        character = text[at]
        if character in _WHITESPACE:
            return at + 1
        self._value_of = self._key
        if self._key == "name" and self.name is None:
            if character != '"':
                return self._broken(at)
            self._text = ['"']
            self._read = CallReader._in_name
            return at + 1
        if character in ",}]":
            return self._broken(at)
        if self._key in self._argument_keys:
            self._value_of = "arguments"
            if self.has_arguments:
                self._value_of = ""  # a second one is skipped
            self.has_arguments = True
        self._depth = 0
        self._read = CallReader._in_value if character in '{["' else CallReader._in_scalar
        return at

    def _in_scalar(self, text: str, at: int) -> int:
        found = _SCALAR_END.search(text, at)
        stop = len(text) if found is None else found.start()
        self._pass_on(text[at:stop])
        if found is not None:
            self._read = CallReader._after_value
        return stop

    def _in_name(self, text: str, at: int) -> int:
        at, name = self._string(text, at)
        if name == "":
            return self._broken(at - 1)
        if name is not None:
            self.name = name
            self._read = CallReader._after_value
        return at

    def _in_value(self, text: str, at: int) -> int:
        found = _NESTING.search(text, at)
        if found is None:
            self._pass_on(text[at:])
            return len(text)
        stop = found.start()
        character = text[stop]
        if character == "<":
            self._pass_on(text[at:stop])
            return stop
        if character == '"':
            self._read = CallReader._in_value_string
        elif character in "{[":
            self._depth += 1
        else:
            self._depth -= 1
            if self._depth == 0:
                self._read = CallReader._after_value
        self._pass_on(text[at : stop + 1])
        return stop + 1

    def _in_value_string(self, text: str, at: int) -> int:
        stop, is_closed = self._string_end(text, at)
        self._pass_on(text[at:stop])
        if is_closed:
            self._read = CallReader._after_value if self._depth == 0 else CallReader._in_value
        return stop

    def _after_value(self, text: str, at: int) -> int:
        if text[at] == "}":
            return self._close_object(at)
        return self._expect(text, at, ",", CallReader._before_key)

    def _after_object(self, text: str, at: int) -> int:
        # A brace too many is a common slip and says nothing.
        return at + 1 if text[at] in "}]" + _WHITESPACE else self._broken(at)

    def _close_object(self, at: int) -> int:
        if self.name is None:
            return self._broken(at)
        self.is_over = True
        self._read = CallReader._after_object
        return at + 1

    def _expect(self, text: str, at: int, character: str, then: "_Step") -> int:
        if text[at] != character:
            return self._skip_whitespace(text, at)
        self._read = then
        return at + 1

    def _skip_whitespace(self, text: str, at: int) -> int:
        return at + 1 if text[at] in _WHITESPACE else self._broken(at)

    def _pass_on(self, text: str) -> None:
        if text and self._value_of == "arguments":
            self._arguments.append(text)

    def _string(self, text: str, at: int) -> tuple[int, str | None]:
        """Collect a string's text; its value once it is closed, empty if it is no JSON string."""
        stop, is_closed = self._string_end(text, at)
        self._text.append(text[at:stop])
        if not is_closed:
            return stop, None
        try:
            value = str(json.loads("".join(self._text)))
            return stop, value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        except ValueError:
            return stop, ""

    def _string_end(self, text: str, at: int) -> tuple[int, bool]:
        """Where the string ends in `text` (behind its quote), and whether it does."""
        while at < len(text):
            if self._escape:
                self._escape = False
                at += 1
                continue
            found = _IN_STRING.search(text, at)
            if found is None:
                return len(text), False
            at = found.end()
            if found.group() == '"':
                return at, True
            self._escape = True
        return at, False


_Step = Callable[[CallReader, str, int], int]
_STRING_STEPS = (CallReader._in_value_string, CallReader._in_key, CallReader._in_name)
_VALUE_STEPS = (CallReader._in_value, CallReader._in_scalar, CallReader._in_value_string)


class _JsonCalls:
    """Implements `call_syntax.CallSyntax` for calls that are one JSON object."""

    marks: tuple[str, ...] = ()
    is_loose = False

    def reader(self, types: ArgumentTypes, marks: frozenset[str]) -> CallReader:
        """See `CallSyntax`."""
        return CallReader()


JSON_CALLS = _JsonCalls()
