"""What the decode process says of a message, as bytes on a pipe.

    a line of JSON (`_Answer`) │ head │ starts │ ends │ digests

The head is the create without its two long members, as JSON; where those stand is said by offsets into the message.
"""

from array import array
from typing import Any

import msgspec

from hotloop.errors import ApiError, InvalidRequest
from hotloop.protocol.client_event import ClientEvent, read_event
from hotloop.protocol.request import ResponseCreate, decode_create, put_input, put_tools
from hotloop.session.canonical import DIGEST_BYTES
from hotloop.session.input_survey import InputSurvey, survey_input

_LONG = ("input", "tools")
_OFFSET_BYTES = array("I").itemsize


class _Error(msgspec.Struct):
    kind: str
    message: str
    param: str | None = None


class _Span(msgspec.Struct, array_like=True):
    start: int
    end: int


class Answer(msgspec.Struct, omit_defaults=True):
    """The line. Without `head_bytes` there is no create."""

    kind: str = ""
    lane: str | None = None
    error: _Error | None = None
    head_bytes: int = 0
    input: _Span | None = None
    tools: _Span | None = None
    items: int = 0
    is_text: bool = False
    item_error: _Error | None = None
    is_exhausted: bool = False  # there was not enough memory for it
    is_failed: bool = False  # by a bug: whoever asked reads the message itself

    @property
    def rest_bytes(self) -> int:
        """Of what follows the line."""
        spans = 0 if self.is_text else 2 * _OFFSET_BYTES * self.items
        return self.head_bytes + spans + DIGEST_BYTES * self.items


_line_decoder = msgspec.json.Decoder(Answer)
_members_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_head_decoder = msgspec.json.Decoder(ResponseCreate)


# --- in the child ---


def answer_to(message: bytes, *, is_event: bool) -> tuple[Answer, list[bytes]]:
    """Read a message to its end: a WebSocket's event, or the body of a create. The bytes are what follows the line."""
    event = read_event(message) if is_event else _body(message)
    answer = Answer(event.kind, event.lane, _wire(event.error))
    if event.request is None:
        return answer, []
    members = _members_decoder.decode(message)
    head = b"{%b}" % b",".join(
        b'"%b":%b' % (name.encode(), members[name])
        for name in ResponseCreate.__struct_fields__
        if name in members and name not in _LONG
    )
    answer.head_bytes = len(head)
    answer.input, answer.tools = (_span(members.get(name), message) for name in _LONG)
    if answer.input is None:
        return answer, [head]
    survey = survey_input(event.request.input)
    answer.items, answer.is_text, answer.item_error = len(survey), survey.is_text, _wire(survey.error)
    return answer, [head, survey.starts.tobytes(), survey.ends.tobytes(), survey.digests]


def line_of(answer: Answer) -> bytes:
    """The answer's first line."""
    return msgspec.json.encode(answer) + b"\n"


def _body(message: bytes) -> ClientEvent:
    try:
        return ClientEvent(request=decode_create(message))
    except ApiError as error:
        return ClientEvent(error=error)


def _span(member: msgspec.Raw | None, message: bytes) -> _Span | None:
    """Where such a text stands in the message; which of several equal ones it is makes no difference."""
    if member is None:
        return None
    start = message.index(bytes(member))
    return _Span(start, start + memoryview(member).nbytes)


def _wire(error: ApiError | None) -> _Error | None:
    return None if error is None else _Error(type(error).__name__, error.message, error.param)


# --- in the server ---


def line_from(line: bytes) -> Answer:
    """The answer's first line."""
    return _line_decoder.decode(line)


def event_from(answer: Answer, rest: bytes, message: bytes) -> tuple[ClientEvent, InputSurvey | None]:
    """What the process found out about the message."""
    if not answer.head_bytes:
        return ClientEvent(answer.kind, answer.lane, error=_error(answer.error)), None
    view = memoryview(message)
    request = _head_decoder.decode(rest[: answer.head_bytes])
    if answer.tools is not None:
        put_tools(request, msgspec.Raw(view[answer.tools.start : answer.tools.end]))
    event = ClientEvent(answer.kind, answer.lane, request)
    if answer.input is None:
        return event, None
    put_input(request, msgspec.Raw(view[answer.input.start : answer.input.end]))
    at = answer.head_bytes
    size = 0 if answer.is_text else _OFFSET_BYTES * answer.items
    starts, ends = array("I", rest[at : at + size]), array("I", rest[at + size : at + 2 * size])
    digests = rest[at + 2 * size :]
    return event, InputSurvey(request.input, starts, ends, digests, answer.is_text, _error(answer.item_error))


def _kinds(base: type[ApiError]) -> dict[str, Any]:
    found = {base.__name__: base}
    for kind in base.__subclasses__():
        found |= _kinds(kind)
    return found


_KINDS: dict[str, type[ApiError]] = _kinds(InvalidRequest)


def _error(wire: _Error | None) -> ApiError | None:
    if wire is None:
        return None
    kind = _KINDS[wire.kind]
    error = kind.__new__(kind)
    ApiError.__init__(error, wire.message, param=wire.param)  # what the class itself takes is in the message already
    return error
