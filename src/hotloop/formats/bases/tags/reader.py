"""Reads a call that is written in tags while it is being written, as the JSON arguments it means.

    <function=edit>\n<parameter=path>\na.py\n</parameter>\n</function>       Qwen3-Coder, Qwen3.5
    edit\n<arg_key>path</arg_key>\n<arg_value>a.py</arg_value>\n             GLM
     ▲ name known                    └── {"path": "a.py"}, string values piece by piece

A string value is passed on while it is written; any other value once it is whole, because only then is known what it means
(`argument_types`). White space between tags says nothing.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from hotloop.formats.parsing.argument_types import ANY, ArgumentTypes, as_json, is_text_only

_MOST_NAME_CHARS = 512  # a longer name or key is none; also bounds what is read again while a tag is incomplete


@dataclass(frozen=True, slots=True)
class TagSyntax:
    """How one family writes calls in tags. Implements `call_syntax.CallSyntax`.

    Args:
        name_start, name_end: around the tool's name; an empty end: at a line end or the next tag.
        key_start, key_end: around an argument's name.
        value_start: in front of its value, behind `key_end`; may be empty.
        value_end: behind its value.
        call_end: behind all arguments; may be empty.
        pads_values: a line end stands around every value.
        python: values that are no text are written as Python writes them, and unknown ones are text.
    """

    name_start: str
    name_end: str
    key_start: str
    key_end: str
    value_start: str
    value_end: str
    call_end: str
    pads_values: bool
    python: bool
    marks: tuple[str, ...] = ()

    @property
    def is_loose(self) -> bool:
        """See `CallSyntax`."""
        return not self.name_start

    def reader(self, types: ArgumentTypes, marks: frozenset[str]) -> "TagReader":
        """See `CallSyntax`."""
        return TagReader(self, types, is_value_end_a_token=self.value_end in marks)


class TagReader:
    """One call. Implements `call_syntax.ArgumentsReader`."""

    __slots__ = ("_arguments", "_count", "_is_text", "_key", "_most_unsure", "_pad", "_read", "_syntax", "_types", "_value",
                 "_value_end", "_value_tails", "_value_types", "_waits", "has_arguments", "is_broken", "is_over", "name",
                 "rest")  # fmt: skip

    def __init__(self, syntax: TagSyntax, types: ArgumentTypes, *, is_value_end_a_token: bool) -> None:
        self.name: str | None = None
        self.is_broken = False
        self.is_over = False
        self.has_arguments = False
        self.rest = ""
        self._syntax = syntax
        self._types = types
        self._pad = "\n" if syntax.pads_values else ""
        # Where the end of a value is a control token, its spelling inside the value is text.
        self._value_end = "" if is_value_end_a_token else syntax.value_end
        self._value_tails = () if is_value_end_a_token else _value_tails(syntax)
        self._most_unsure = max(map(len, self._value_tails), default=0)
        self._read: _Step = TagReader._before_name
        self._arguments: list[str] = []
        self._count = 0  # arguments begun
        self._key = ""
        self._value: list[str] = []  # of a value that is not passed on yet
        self._value_types = ANY
        self._is_text = False
        self._waits = False  # what is unread may become a tag

    @property
    def arguments_are_whole(self) -> bool:
        """The end of the arguments was written."""
        return self._read is TagReader._after_end

    def take_arguments(self) -> str:
        """See `ArgumentsReader`."""
        if not self._arguments:
            return ""
        text = "".join(self._arguments)
        self._arguments.clear()
        return text

    def force_arguments(self, text: str) -> None:
        """See `ArgumentsReader`."""
        self.is_broken = True
        self.has_arguments = True
        self._arguments.append(text)

    def awaits(self, rest: str) -> bool:
        """See `ArgumentsReader`."""
        return self._waits and not self.is_broken

    def feed(self, text: str) -> None:
        """See `ArgumentsReader`. `rest` is an incomplete tag, or what fits no call."""
        at = 0
        while at < len(text) and not self.is_broken:
            step = self._read
            self._waits = False
            stop = step(self, text, at)
            if stop == at and self._read is step:
                break
            at = stop
        self.rest = text[at:]

    def feed_mark(self, held: str, mark: str) -> None:
        """See `ArgumentsReader`."""
        if self._read is not TagReader._in_value:
            self.feed(held + mark)
            return
        self.rest = ""
        if mark == self._syntax.value_end:
            self._take_value(held.removesuffix(self._pad))
            self._end_value()
        else:
            self._take_value(held + mark)

    def end(self, held: str, *, ended: bool) -> str:
        """See `ArgumentsReader`. What was left open is closed, unless the output was cut off."""
        if self._read is TagReader._in_value:
            self._take_value(_before_tails(held, self._value_tails) if ended else held)
            held = ""
            if ended:
                self._end_value()
        if not ended or self.is_broken:
            return held
        if self._read is TagReader._before_name and not self._syntax.name_end:
            self._before_name(held + "\n", 0)  # the name stood right before the end
            held = ""
        if self.name is not None:
            self._end_arguments()
        return "" if self._is_tag_begun(held) else held

    # Each step reads from `at` and returns where it stopped; `at` itself: it needs more, or nothing fits.

    def _before_name(self, text: str, at: int) -> int:
        syntax = self._syntax
        at = _skip_white_space(text, at)
        if not text.startswith(syntax.name_start, at):
            return self._needs(text, at, syntax.name_start)
        begin = at + len(syntax.name_start)
        found = _NAME_END.search(text, begin) if not syntax.name_end else None
        stop = text.find(syntax.name_end, begin) if syntax.name_end else (found.start() if found else -1)
        name = text[begin : len(text) if stop < 0 else stop].rstrip()
        if _NO_NAME.search(name) or len(name) > _MOST_NAME_CHARS or (stop >= 0 and not name):
            self.is_broken = True
            return at
        if stop < 0:
            self._waits = True
            return at
        self.name = name
        self._read = TagReader._between
        return stop + len(syntax.name_end)

    def _between(self, text: str, at: int) -> int:
        syntax = self._syntax
        at = _skip_white_space(text, at)
        if syntax.call_end and text.startswith(syntax.call_end, at):
            self._end_arguments()
            return at + len(syntax.call_end)
        if not text.startswith(syntax.key_start, at):
            unread = text[at:]
            self._waits = bool(unread) and (syntax.key_start.startswith(unread) or syntax.call_end.startswith(unread))
            return at
        begin = at + len(syntax.key_start)
        stop = text.find(syntax.key_end, begin)
        key = text[begin : len(text) if stop < 0 else stop]
        if len(key) > _MOST_NAME_CHARS:
            self.is_broken = True
        if stop < 0 or self.is_broken:
            self._waits = True
            return at
        self._key = key
        self._read = TagReader._before_value
        return stop + len(syntax.key_end)

    def _before_value(self, text: str, at: int) -> int:
        start = self._syntax.value_start
        if start:
            at = _skip_white_space(text, at)
            if not text.startswith(start, at):
                return self._needs(text, at, start)
            at += len(start)
        elif text.startswith("\n", at):
            at += 1
        self._begin_value()
        return at

    def _in_value(self, text: str, at: int) -> int:
        end = self._value_end
        stop = text.find(end, at) if end else -1
        if stop >= 0:
            self._take_value(text[at:stop].removesuffix(self._pad))
            self._end_value()
            return stop + len(end)
        sure = len(text) - self._unsure(text[at:])
        self._take_value(text[at:sure])
        self._waits = True
        return sure

    def _after_end(self, text: str, at: int) -> int:
        return _skip_white_space(text, at)

    def _needs(self, text: str, at: int, tag: str) -> int:
        self._waits = tag.startswith(text[at:])
        self.is_broken = not self._waits
        return at

    def _unsure(self, text: str) -> int:
        """Length of the longest end of a value's text that the tags behind a value may begin with."""
        tail = text[-self._most_unsure :] if self._most_unsure else ""
        for at, character in enumerate(tail):
            if character in "\n<" and any(tags.startswith(tail[at:]) for tags in self._value_tails):
                return len(tail) - at
        return 0

    def _begin_value(self) -> None:
        self._arguments.append("{" if self._count == 0 else ", ")
        self._arguments.append(_string(self._key) + ": ")
        self._count += 1
        self.has_arguments = True
        assert self.name is not None, "an argument stands behind the name"
        self._value_types = self._types.of(self.name, self._key)
        self._is_text = is_text_only(self._value_types) or (self._syntax.python and self._value_types == ANY)
        if self._is_text:
            self._arguments.append('"')
        self._read = TagReader._in_value

    def _take_value(self, text: str) -> None:
        if self._is_text:
            self._arguments.append(_string(text)[1:-1])
        else:
            self._value.append(text)

    def _end_value(self) -> None:
        if self._is_text:
            self._arguments.append('"')
        else:
            self._arguments.append(as_json("".join(self._value), self._value_types, python=self._syntax.python))
            self._value.clear()
        self._read = TagReader._between

    def _end_arguments(self) -> None:
        if self._read is not TagReader._after_end:
            if self._count:
                self._arguments.append("}")
            self.is_over = True
            self._read = TagReader._after_end

    def _is_tag_begun(self, held: str) -> bool:
        """What is held could have become a tag; it says nothing any more."""
        tags = (self._syntax.key_start, self._syntax.value_start, self._syntax.call_end)
        held = held.lstrip()
        return any(tag.startswith(held) or (tag and held.startswith(tag)) for tag in tags)


_Step = Callable[[TagReader, str, int], int]
_NAME_END = re.compile(r"[\n<]")
_NO_NAME = re.compile(r'[<>{}"\s]')
_WHITE_SPACE = re.compile(r"\s*")


def _skip_white_space(text: str, at: int) -> int:
    found = _WHITE_SPACE.match(text, at)
    return at if found is None else found.end()


def _value_tails(syntax: TagSyntax) -> tuple[str, ...]:
    """What may stand behind a value: its end, or the call's end where its own was forgotten."""
    pad = "\n" if syntax.pads_values else ""
    tails = [syntax.value_end, syntax.call_end + pad] if syntax.call_end else [syntax.value_end]
    return tuple(tail for end in tails for tail in dict.fromkeys((pad + end, end)))


def _before_tails(held: str, tails: tuple[str, ...]) -> str:
    """`held` without what was held for a tag that does not come."""
    return "" if any(tail.startswith(held) for tail in tails) else held


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
