"""DSML, the XML-like call syntax of DeepSeek V3.2 and V4: how it is written, and how its calls are read as JSON.

    <｜DSML｜function_calls>
    <｜DSML｜invoke name="edit">
    <｜DSML｜parameter name="path" string="true">a.py</｜DSML｜parameter>
    <｜DSML｜parameter name="line" string="false">3</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

`｜DSML｜` is one token of the vocabulary. The item's arguments are the object that the parameters mean, as `json.dumps` writes
it: a string streams while it is written, any other value comes whole.
"""

import json
from collections.abc import Callable
from typing import NoReturn, cast

from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.writing.token_writer import TokenWriter

DSML = "｜DSML｜"
INVOKE = f'<{DSML}invoke name="'
INVOKE_END = f"</{DSML}invoke>"
PARAMETER = f'<{DSML}parameter name="'
PARAMETER_END = f"</{DSML}parameter>"
_TYPED = {'" string="true"': True, '" string="false"': False}


def section(name: str) -> str:
    """The tag around all calls of an answer."""
    return f"<{DSML}{name}>"


def section_end(name: str) -> str:
    """The end of it."""
    return f"</{DSML}{name}>"


def dsml_marks(name: str) -> tuple[str, ...]:
    """All tags, with a section of this name."""
    return (section(name), section_end(name), INVOKE, INVOKE_END, PARAMETER, PARAMETER_END)


def write_invoke(writer: TokenWriter, name: str, arguments: str, *, without_parameters: str = "") -> None:
    """One call; `without_parameters` stands in place of any. Arguments that are no JSON object become the one parameter
    `arguments`."""
    values = _values(arguments)
    _tag(writer, "<", f'invoke name="{name}">\n')
    for key, value in values.items():
        is_text = isinstance(value, str)
        _tag(writer, "<", f'parameter name="{key}" string="{"true" if is_text else "false"}">')
        writer.text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        _tag(writer, "</", "parameter>\n")
    writer.text("" if values else without_parameters)
    _tag(writer, "</", "invoke>\n")


def write_tag(writer: TokenWriter, tag: str) -> None:
    """A tag of the template, its DSML token as that token."""
    start, _, rest = tag.partition(DSML)
    _tag(writer, start, rest)


def _tag(writer: TokenWriter, start: str, rest: str) -> None:
    writer.text(start)
    writer.mark(DSML)
    writer.text(rest)


def _values(arguments: str) -> dict[str, object]:
    try:
        value: object = json.loads(arguments or "{}")
    except ValueError:
        value = None
    return cast("dict[str, object]", value) if isinstance(value, dict) else {"arguments": arguments}


class DsmlCalls:
    """Implements `bases.answers.parser.CallsReader`.

    Args:
        stream: gets the items.
        name: of the section around the calls.
    """

    def __init__(self, stream: ItemStream, name: str) -> None:
        self._stream = stream
        self._section = section(name)
        self._section_end = section_end(name)
        self._read: _Step = DsmlCalls._between
        self._raw = ""  # what has been read and is not part of an item yet
        self._part = ""  # of a tag, or of a value that is no string
        self._is_text = True  # the parameter being read is a string
        self._has_parameters = False

    def opens(self, mark: str) -> bool:
        """See `CallsReader.opens`. A call may stand without a section."""
        return mark in (self._section, INVOKE)

    def begin(self, before: str, mark: str) -> None:
        """See `CallsReader.begin`."""
        self._raw = before + mark
        self._part = ""
        self._read = DsmlCalls._name if mark == INVOKE else DsmlCalls._between

    def text(self, text: str) -> str | None:
        """See `CallsReader.text`."""
        return self._read(self, text)

    def mark(self, mark: str) -> str | None:
        """See `CallsReader.mark`."""
        if self._read is DsmlCalls._value:
            if mark == PARAMETER_END:
                self._end_parameter()
                return None
            return self._value(mark)
        if self._read is DsmlCalls._parameters:
            return self._mark_in_call(mark)
        if self._read is DsmlCalls._head:
            return self._head(mark)
        if self._read is DsmlCalls._name:
            return self._give_up(mark)
        if mark == INVOKE:
            self._raw += mark
            self._part = ""
            self._read = DsmlCalls._name
            return None
        if mark == self._section_end and not self._raw.strip():
            return ""
        return self._give_up(mark)

    def finish(self, *, ended: bool) -> str:
        """See `CallsReader.finish`."""
        if self._read in _IN_CALL:
            self._stream.end_arguments(complete=ended)
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

    def _name(self, text: str) -> str | None:
        self._raw += text
        self._part += text
        name, end, rest = self._part.partition('">')
        if not end:
            return None
        if not name:
            return self._give_up("")
        self._stream.open_call(name)
        self._raw = self._part = ""
        self._has_parameters = False
        self._read = DsmlCalls._parameters
        self._stream.add_arguments("{")
        return self._parameters(rest)

    def _parameters(self, text: str) -> str | None:
        if text.strip():
            self._stream.add_arguments(text)  # it fits no call: whoever runs the tool gets to see it
        return None

    def _head(self, text: str) -> str | None:
        self._part += text
        head, end, rest = self._part.partition(">")
        if not end:
            return None
        key = head.removesuffix('"')
        self._is_text = True
        for typed, is_text in _TYPED.items():
            if head.endswith(typed):
                key, self._is_text = head.removesuffix(typed), is_text
        self._stream.add_arguments((", " if self._has_parameters else "") + json.dumps(key, ensure_ascii=False) + ": ")
        self._stream.add_arguments('"' if self._is_text else "")
        self._has_parameters = True
        self._part = ""
        self._read = DsmlCalls._value
        return self._value(rest)

    def _value(self, text: str) -> str | None:
        if self._is_text:
            self._stream.add_arguments(json.dumps(text, ensure_ascii=False)[1:-1])
        else:
            self._part += text
        return None

    # --- tags inside a call ---

    def _mark_in_call(self, mark: str) -> str | None:
        if mark == PARAMETER:
            self._part = ""
            self._read = DsmlCalls._head
            return None
        if mark == INVOKE_END:
            self._end_call()
            return None
        if mark in (self._section_end, INVOKE):  # the call was not ended
            self._end_call()
            return self.mark(mark)
        return self._parameters(mark)

    def _end_parameter(self) -> None:
        self._stream.add_arguments('"' if self._is_text else _json_or_text(self._part))
        self._part = ""
        self._read = DsmlCalls._parameters

    def _end_call(self) -> None:
        self._stream.add_arguments("}")
        self._stream.end_arguments(complete=True)
        self._stream.close()
        self._read = DsmlCalls._between

    def _give_up(self, more: str) -> str:
        """No call: everything since the last one is text."""
        raw = self._raw + more
        self._raw = self._part = ""
        self._read = DsmlCalls._between
        return raw


def _json_or_text(value: str) -> str:
    """The value as JSON: as it stands if it is JSON, else as a string."""
    value = value.strip()
    try:
        json.loads(value, parse_constant=_refuse)
    except ValueError:
        return json.dumps(value, ensure_ascii=False)
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and the infinities are no JSON


_Step = Callable[[DsmlCalls, str], str | None]
_IN_CALL = (DsmlCalls._parameters, DsmlCalls._head, DsmlCalls._value)
