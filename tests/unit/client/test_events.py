import msgspec
import pytest

from hotloop.client.errors import ConnectionLost, RequestRefused
from hotloop.client.events import (
    Completed,
    ErrorEvent,
    Item,
    ItemDone,
    TextDelta,
    decode,
    failure_of,
    refusal_of_body,
    retry_after_s,
)


def refused(message: bytes) -> RequestRefused:
    event = decode(message)
    assert isinstance(event, ErrorEvent)
    error = failure_of(event)
    assert isinstance(error, RequestRefused)
    return error


@pytest.mark.parametrize("kind", ["response.created", "codex.rate_limits", "acme:trace_event", "keepalive"])
def test_events_the_loop_has_no_use_for_are_skipped(kind: str) -> None:
    assert decode(b'{"type":"%b","response":7}' % kind.encode()) is None


@pytest.mark.parametrize(
    "message", [b"", b"nonsense", b"[]", b'{"no":"type"}', b'{"type":7}', b'{"type":"error","status":"x"}']
)
def test_what_is_no_event_breaks_the_stream(message: bytes) -> None:
    with pytest.raises(ConnectionLost, match="malformed event"):
        decode(message)


def test_fields_the_loop_does_not_know_are_ignored() -> None:
    assert decode(b'{"type":"response.output_text.delta","delta":"hi","logprobs":[],"obfuscation":"x"}') == TextDelta(
        "hi"
    )


def test_an_item_keeps_its_bytes_and_can_be_read() -> None:
    item = b'{"type":"function_call","id":"fc","call_id":"c","name":"n","arguments":"{}","namespace":"x"}'
    event = decode(b'{"type":"response.output_item.done","output_index":0,"item":%b}' % item)
    assert isinstance(event, ItemDone)
    assert bytes(event.item) == item
    assert event.read() == Item("function_call", call_id="c", name="n", arguments="{}")


def test_items_of_other_kinds_are_not_looked_into() -> None:
    assert ItemDone(msgspec.Raw(b'{"type":"reasoning","summary":[],"content":"odd"}')).read() == Item("reasoning")


def test_an_item_that_does_not_fit_its_type_breaks_the_stream() -> None:
    with pytest.raises(ConnectionLost, match="malformed item"):
        ItemDone(msgspec.Raw(b'{"type":"function_call","call_id":7}')).read()


def test_text_of_a_message_is_all_its_parts() -> None:
    parts = b'[{"type":"output_text","text":"yes, "},{"type":"refusal","refusal":"no"}]'
    assert ItemDone(msgspec.Raw(b'{"type":"message","content":%b}' % parts)).read().text == "yes, no"


def test_usage_may_be_absent() -> None:
    event = decode(b'{"type":"response.completed","response":{"id":"r","usage":null}}')
    assert isinstance(event, Completed)
    assert event.response.usage is None


def test_a_websocket_error_carries_its_status_and_wait() -> None:
    error = refused(
        b'{"type":"error","status":429,"error":{"code":"rate_limit_exceeded","message":"slow","headers":{"Retry-After":"2"}}}'
    )
    assert (error.status, error.code, error.message, error.retry_after_s) == (429, "rate_limit_exceeded", "slow", 2.0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'"code":"previous_response_not_found"', 400),
        (b'"error":{"type":"invalid_request_error","code":"model_not_found"}', 400),
        (b'"error":{"type":"too_many_requests","code":"x"}', 429),
        (b'"code":"server_error"', 500),
        (b'"error":{}', 500),
    ],
)
def test_an_error_without_a_status_gets_that_of_its_kind(body: bytes, status: int) -> None:
    assert refused(b'{"type":"error",%b}' % body).status == status


def test_a_foreign_error_page_is_not_shown() -> None:
    error = refusal_of_body(502, b"<html>secret gateway</html>", None)
    assert (error.status, error.code) == (502, "http_502")
    assert "html" not in error.message


@pytest.mark.parametrize(
    ("value", "seconds"), [("2", 2.0), ("0.5", 0.5), ("-1", 0.0), ("Sat, 21 Nov 2026 08:00:00 GMT", None)]
)
def test_retry_after_is_read_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after_s({"other": "1", "RETRY-AFTER": value}) == seconds
