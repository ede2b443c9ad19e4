"""What a client notes of one turn: when its events came, what they counted."""

import time
from dataclasses import dataclass

import msgspec

_START = b'{"type":"'  # every event of hotloop's begins so
_KIND_AT = len(_START)
_ENDS = frozenset({b"response.completed", b"response.incomplete"})
_SAID_BYTES = 300
_FAILURES = frozenset({b"response.failed", b"error"})


class BenchError(Exception):
    """The bench cannot go on: a server did not start, or a turn failed. One line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One turn as the client saw it. Times are seconds from just before the request was sent."""

    response_id: str
    first_event_s: float
    first_delta_s: float  # 0: the answer had none
    completed_s: float
    deltas: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    output: tuple[bytes, ...] = ()  # the output items as JSON
    timing: "Timing | None" = None  # the server's own, if it was asked for and gives it


class Timing(msgspec.Struct, frozen=True):
    """What a `hotloop:timing` event says. Stamps are seconds since the request was received."""

    stamps: dict[str, float]
    engine_s: float


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _Details | None = None


class _Response(msgspec.Struct):
    id: str
    usage: _Usage | None = None  # other servers leave it out
    output: list[msgspec.Raw] = []


class _Terminal(msgspec.Struct):
    response: _Response


_terminal_decoder = msgspec.json.Decoder(_Terminal)
_timing_decoder = msgspec.json.Decoder(Timing)


class _Typed(msgspec.Struct):
    type: str = ""


_typed_decoder = msgspec.json.Decoder(_Typed)


class _Fault(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Failed(msgspec.Struct):
    error: _Fault | None = None


class _Failure(_Fault):
    """An error is nested or flat, or stands in the response that failed."""

    error: _Fault | None = None
    response: _Failed | None = None


_failure_decoder = msgspec.json.Decoder(_Failure)


def _failure_of(event: bytes) -> str:
    try:
        failure = _failure_decoder.decode(event)
    except msgspec.DecodeError:
        return one_line(event)
    fault = (failure.response.error if failure.response else failure.error) or failure
    return f"{fault.code}: {fault.message}" if fault.message else one_line(event)


def one_line(said: bytes) -> str:
    """The beginning of what a server said, for a message."""
    return " ".join(said[:_SAID_BYTES].decode(errors="replace").split())


def status_line(head: bytes) -> str:
    """The first line of an HTTP answer."""
    return one_line(head.partition(b"\r\n")[0])


def _kind_of(event: bytes) -> bytes:
    if event.startswith(_START):
        return event[_KIND_AT : event.index(b'"', _KIND_AT)]
    return _typed_decoder.decode(event).type.encode()  # other servers order their keys otherwise


class AnswerReader:
    """Collects one turn's events; create it just before the request is sent."""

    def __init__(self) -> None:
        self._first_event = 0.0
        self._first_delta = 0.0
        self._deltas = 0
        self._timing: Timing | None = None
        self._started = time.perf_counter()

    def add(self, event: bytes, arrived: float) -> Answer | None:
        """The next event; the answer if it is the last one. Raises BenchError if it tells of a failure."""
        kind = _kind_of(event)
        self._first_event = self._first_event or arrived
        if kind.endswith(b".delta"):
            self._first_delta = self._first_delta or arrived
            self._deltas += 1
        elif kind == b"hotloop:timing":
            self._timing = _timing_decoder.decode(event)
        elif kind in _FAILURES:
            raise BenchError(f"a turn failed: {_failure_of(event)}")
        elif kind in _ENDS:
            return self._end(event, arrived)
        return None

    def _end(self, event: bytes, arrived: float) -> Answer:
        response = _terminal_decoder.decode(event).response
        usage = response.usage or _Usage()
        details = usage.input_tokens_details or _Details()
        return Answer(
            response_id=response.id,
            first_event_s=self._first_event - self._started,
            first_delta_s=self._first_delta - self._started if self._first_delta else 0.0,
            completed_s=arrived - self._started,
            deltas=self._deltas,
            prompt_tokens=usage.input_tokens,
            cached_tokens=details.cached_tokens,
            output_tokens=usage.output_tokens,
            output=tuple(map(bytes, response.output)),
            timing=self._timing,
        )
