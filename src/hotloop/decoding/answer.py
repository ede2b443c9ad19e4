"""What the decode process says of a message, as bytes on a pipe.

    a line of JSON (`Answer`) │ head │ starts │ ends │ digests │ packed items │ texts

The head is what was read without its long members, as JSON. Where those stand is said by offsets into the message, or, where
they had to be written anew, into the texts that end the answer. `forms.py` says what is in it for each kind of message.
"""

from array import array
from dataclasses import dataclass
from typing import Any

import msgspec

from hotloop.errors import ApiError, InvalidRequest
from hotloop.session.canonical import DIGEST_BYTES
from hotloop.session.input_survey import InputSurvey

_OFFSET_BYTES = array("I").itemsize


class WireError(msgspec.Struct):
    """An ApiError."""

    kind: str
    message: str
    param: str | None = None


class Span(msgspec.Struct, array_like=True):
    """Where a long member stands."""

    start: int
    end: int


class Answer(msgspec.Struct, omit_defaults=True):
    """The line. Without `head_bytes` nothing of the message is asked for any more."""

    kind: str = ""
    lane: str | None = None
    error: WireError | None = None
    head_bytes: int = 0
    input: Span | None = None  # of what was surveyed
    tools: Span | None = None
    text_bytes: int = 0  # of the texts; if there are any, the spans are theirs
    items: int = 0
    packed: list[tuple[int, int]] = []  # items that were read: which, and how many bytes
    is_text: bool = False
    item_error: WireError | None = None
    is_exhausted: bool = False  # there was not enough memory for it
    is_failed: bool = False  # by a bug: whoever asked reads the message itself

    @property
    def rest_bytes(self) -> int:
        """Of what follows the line."""
        return self.head_bytes + self.survey_bytes + self.text_bytes

    @property
    def survey_bytes(self) -> int:
        """Of offsets, digests and packed items."""
        return self.told_bytes + sum(size for _, size in self.packed)

    @property
    def told_bytes(self) -> int:
        """Of offsets and digests."""
        spans = 0 if self.is_text else 2 * _OFFSET_BYTES * self.items
        return spans + DIGEST_BYTES * self.items


_line_decoder = msgspec.json.Decoder(Answer)


def line_of(answer: Answer) -> bytes:
    """The answer's first line."""
    return msgspec.json.encode(answer) + b"\n"


def line_from(line: bytes) -> Answer:
    """The answer's first line."""
    return _line_decoder.decode(line)


def add_survey(answer: Answer, survey: InputSurvey) -> list[bytes]:
    """Note what was found out about the input; the bytes are what says it behind the line."""
    answer.items, answer.is_text, answer.item_error = len(survey), survey.is_text, wire(survey.error)
    answer.packed = [(index, len(text)) for index, text in survey.packed.items()]
    return [survey.starts.tobytes(), survey.ends.tobytes(), survey.digests, *map(bytes, survey.packed.values())]


@dataclass(frozen=True, slots=True)
class Told:
    """An answer on its way out: what came over the pipe, and the message it is about."""

    answer: Answer
    rest: bytes | bytearray
    message: bytes | memoryview

    @property
    def head(self) -> memoryview:
        """What was read, without its long members."""
        return memoryview(self.rest)[: self.answer.head_bytes]

    @property
    def error(self) -> ApiError | None:
        """What refuses the message."""
        return error_from(self.answer.error)

    def text(self, span: Span) -> msgspec.Raw:
        """A long member; not a copy."""
        answer, view = self.answer, memoryview(self.message)
        if answer.text_bytes:
            view = memoryview(self.rest)[answer.head_bytes + answer.survey_bytes :]
        return msgspec.Raw(view[span.start : span.end])

    def survey(self, raw: msgspec.Raw) -> InputSurvey:
        """What was found out about the input, which is `raw`."""
        answer = self.answer
        survey = memoryview(self.rest)[answer.head_bytes : answer.head_bytes + answer.survey_bytes]
        size = 0 if answer.is_text else _OFFSET_BYTES * answer.items
        starts, ends = array("I"), array("I")
        starts.frombytes(survey[:size])
        ends.frombytes(survey[size : 2 * size])
        digests = bytes(survey[2 * size : answer.told_bytes])
        packed: dict[int, bytes | memoryview] = {}
        at = answer.told_bytes
        for index, length in answer.packed:
            packed[index] = survey[at : at + length]
            at += length
        return InputSurvey(raw, starts, ends, digests, answer.is_text, error_from(answer.item_error), packed)


# --- errors ---


def wire(error: ApiError | None) -> WireError | None:
    """An error, for the pipe."""
    return None if error is None else WireError(type(error).__name__, error.message, error.param)


def error_from(wire_error: WireError | None) -> ApiError | None:
    """The same error."""
    if wire_error is None:
        return None
    kind = _KINDS[wire_error.kind]
    error = kind.__new__(kind)
    ApiError.__init__(error, wire_error.message, param=wire_error.param)  # what the class takes is in the message
    return error


def _kinds(base: type[ApiError]) -> dict[str, Any]:
    found = {base.__name__: base}
    for kind in base.__subclasses__():
        found |= _kinds(kind)
    return found


_KINDS: dict[str, type[ApiError]] = _kinds(InvalidRequest)
