import json

import pytest

from hotloop.errors import InvalidJson
from hotloop.protocol.control import (
    Interrupt,
    Reply,
    decline_injection,
    decode_injection,
    decode_interrupt,
    numbered_event,
)


@pytest.mark.parametrize("target", ["resp_1", 7, None])
def test_an_injection_names_the_response_it_could_not_reach(target: object) -> None:
    message = {"response_id": target, "input": [{"a": 1}]}
    event = json.loads(decline_injection(decode_injection(json.dumps(message).encode())))
    assert event["type"] == "response.inject.failed"
    assert event["response_id"] == (target if isinstance(target, str) else "")
    assert event["input"] == message["input"]
    assert event["error"] == event["error"] | {"type": "invalid_request_error", "code": "response_not_found"}


def test_an_interrupt_has_one_mode_by_default() -> None:
    assert decode_interrupt(b'{"response_id":"resp_1","stream_id":"a"}') == Interrupt("resp_1", "discard_partial_items")


@pytest.mark.parametrize(
    ("message", "code"), [(b'{"response_id":3}', "invalid_type"), (b"{}", "missing_required_parameter")]
)
def test_a_bad_interrupt_is_told_by_its_own_event(message: bytes, code: str) -> None:
    reply = decode_interrupt(message)
    assert isinstance(reply, Reply)
    found = json.loads(reply.event)
    assert (found["type"], found["error"]["code"]) == ("response.interrupt.failed", code)


def test_what_is_no_json_is_an_error() -> None:
    with pytest.raises(InvalidJson):
        decode_interrupt(b"{")


def test_an_event_on_a_named_lane_says_so() -> None:
    assert json.loads(numbered_event(b"x", 3, "a", b',"y":1')) == {
        "type": "x",
        "sequence_number": 3,
        "stream_id": "a",
        "y": 1,
    }
