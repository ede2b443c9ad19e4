"""The server's events, as far as an agent loop needs them; all others are skipped unread.

Decoding is done twice: first `type` alone, which skips over the rest of the message, then the few events of the table
below. A delta that nobody reads costs about a microsecond, and an unknown type is no error.
"""

import msgspec

from hotloop.client.errors import AgentError, ConnectionLost, RequestRefused, ResponseFailed, ResponseIncomplete

CALL_TYPES = frozenset({"function_call", "custom_tool_call"})


class Part(msgspec.Struct, frozen=True):
    """A piece of a message: text or a refusal."""

    type: str
    text: str = ""
    refusal: str = ""


class Item(msgspec.Struct, frozen=True):
    """An output item, all kinds in one: a message has content, a call has the rest."""

    type: str
    status: str | None = None
    content: list[Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""  # of a function_call: JSON text
    input: str = ""  # of a custom_tool_call: any text

    @property
    def is_call(self) -> bool:
        """Whether this asks the client to run something. A call that was cut short asks for nothing."""
        return self.type in CALL_TYPES and self.is_whole

    @property
    def is_whole(self) -> bool:
        return self.status != "incomplete"

    @property
    def text(self) -> str:
        """What the model says here; empty for anything but a message."""
        if self.type != "message" or not self.content:
            return ""
        return "".join(part.text or part.refusal for part in self.content)


class Fault(msgspec.Struct, frozen=True):
    """The error object of events, responses and HTTP bodies. Servers leave out what they do not know."""

    code: str | None = None
    message: str | None = None
    type: str | None = None
    param: str | None = None
    headers: dict[str, str] | None = None

    @property
    def retry_after_s(self) -> float | None:
        return retry_after_s(self.headers or {})


class InputDetails(msgspec.Struct, frozen=True):
    """How much of the input was not computed again."""

    cached_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one response; `input_tokens` is the whole context."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: InputDetails | None = None


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response ended early."""

    reason: str


class Response(msgspec.Struct, frozen=True):
    """The part of a response object that a terminal event is read for."""

    id: str
    usage: Usage | None = None
    error: Fault | None = None
    incomplete_details: IncompleteDetails | None = None


class TextDelta(msgspec.Struct, frozen=True):
    """The next piece of a message's text."""

    delta: str


class ItemDone(msgspec.Struct, frozen=True):
    """An item is whole. Its bytes are kept as they came, for a later resend."""

    item: msgspec.Raw

    def read(self) -> Item:
        """The item's fields, if it is of a kind that the loop reads; else its type alone.

        Raises:
            ConnectionLost: the item does not fit its type.
        """
        try:
            head = _head.decode(self.item)
            return _item.decode(self.item) if head.type in _ITEMS_READ else Item(head.type)
        except msgspec.DecodeError as error:
            raise ConnectionLost(f"malformed item: {error}") from error


class Timing(msgspec.Struct, frozen=True):
    """Where the server spent the turn's time; sent only to clients that ask with `hotloop-timing: 1`."""

    engine_s: float = 0.0


class Completed(msgspec.Struct, frozen=True):
    """The response is whole and can be continued."""

    response: Response


class Failed(msgspec.Struct, frozen=True):
    """The response failed on the server's side."""

    response: Response


class Incomplete(msgspec.Struct, frozen=True):
    """The response was ended early, by a limit or a filter."""

    response: Response


class ErrorEvent(msgspec.Struct, frozen=True):
    """On WebSocket the error is nested and carries a status; in SSE it may be flat."""

    error: Fault | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None


Event = TextDelta | ItemDone | Timing | Completed | Failed | Incomplete | ErrorEvent
Terminal = Completed | Failed | Incomplete | ErrorEvent


class _Head(msgspec.Struct, frozen=True):
    type: str


_ITEMS_READ = {"message", *CALL_TYPES}
_head = msgspec.json.Decoder(_Head)
_item = msgspec.json.Decoder(Item)
_decoders: dict[str, msgspec.json.Decoder[Event]] = {
    "response.output_text.delta": msgspec.json.Decoder(TextDelta),
    "response.output_item.done": msgspec.json.Decoder(ItemDone),
    "response.completed": msgspec.json.Decoder(Completed),
    "response.failed": msgspec.json.Decoder(Failed),
    "response.incomplete": msgspec.json.Decoder(Incomplete),
    "error": msgspec.json.Decoder(ErrorEvent),
    "hotloop:timing": msgspec.json.Decoder(Timing),
}


def decode(message: bytes) -> Event | None:
    """Read one event; None for a type the loop has no use for.

    Raises:
        ConnectionLost: the message is not an event at all, so the stream cannot be trusted any more.
    """
    try:
        decoder = _decoders.get(_head.decode(message).type)
        return decoder.decode(message) if decoder else None
    except msgspec.DecodeError as error:
        raise ConnectionLost(f"malformed event: {error}") from error


# docs/protocol.md §10.3: an SSE error event has no status, so it is told from the error's type and code.
_STATUS_BY_KIND = {
    "invalid_request_error": 400,
    "invalid_request": 400,
    "permission_error": 403,
    "not_found": 404,
    "rate_limit_error": 429,
    "too_many_requests": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "previous_response_not_found": 400,
}


def failure_of(event: Event) -> AgentError | None:
    """The error that a terminal event stands for; None for `response.completed` and what is not terminal."""
    match event:
        case ErrorEvent():
            nested = event.error or Fault(code=event.code, message=event.message, param=event.param)
            return refusal(nested, event.status)
        case Failed(Response(error=Fault() as fault)):
            message = fault.message or "the server gave no reason"
            return ResponseFailed(message, code=fault.code or "server_error", retry_after_s=fault.retry_after_s)
        case Failed():
            return ResponseFailed("the server gave no reason", code="server_error")
        case Incomplete(response):
            return ResponseIncomplete(response.incomplete_details.reason if response.incomplete_details else "unknown")
        case _:
            return None


def refusal(fault: Fault, status: int | None, *, retry_after: float | None = None) -> RequestRefused:
    """The typed error of an error object, with the status it came with or the one its type implies."""
    if status is None:
        status = _STATUS_BY_KIND.get(fault.code or "") or _STATUS_BY_KIND.get(fault.type or "") or 500
    return RequestRefused(
        fault.message or f"status {status} without a message",
        status=status,
        code=fault.code or fault.type or str(status),
        param=fault.param,
        retry_after_s=fault.retry_after_s if retry_after is None else retry_after,
    )


class _ErrorBody(msgspec.Struct, frozen=True):
    error: Fault


def refusal_of_body(status: int, body: bytes, retry_after: float | None) -> RequestRefused:
    """The typed error of an HTTP answer; a body that is not ours (a proxy's page) is left out of the message."""
    try:
        fault = msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.DecodeError:
        fault = Fault(message=f"the server answered with HTTP status {status}", code=f"http_{status}")
    return refusal(fault, status, retry_after=retry_after)


def retry_after_s(headers: dict[str, str]) -> float | None:
    """The `retry-after` header in seconds, whatever its case; None if absent or a date."""
    for name, value in headers.items():
        if name.lower() == "retry-after":
            try:
                return max(0.0, float(value))
            except ValueError:
                return None
    return None
