import json

from hotloop.errors import Overloaded, PreviousResponseNotFound
from hotloop.protocol.wire import error_body, error_event, json_bytes, sse_error_event


def test_json_is_compact() -> None:
    assert json_bytes({"a": [1, None]}) == b'{"a":[1,null]}'


def test_an_http_error_body_has_all_four_members() -> None:
    body = json.loads(error_body(Overloaded("Later.")))
    assert body == {
        "error": {
            "type": "service_unavailable_error",
            "code": "server_is_overloaded",
            "message": "Later.",
            "param": None,
        }
    }


def test_an_error_event_always_carries_its_status_and_no_lane_unless_named() -> None:
    event = json.loads(error_event(PreviousResponseNotFound("r")))
    assert event["status"] == 400
    assert event["error"]["code"] == "previous_response_not_found"
    assert event["error"]["param"] == "previous_response_id"
    assert "stream_id" not in event
    assert "headers" not in event["error"]


def test_an_error_event_on_a_lane_names_it_and_says_when_to_retry() -> None:
    event = json.loads(error_event(Overloaded("Later.", retry_after_s=2), "a"))
    assert event["stream_id"] == "a"
    assert event["error"]["headers"] == {"retry-after": "2"}


def test_an_error_in_a_stream_has_the_fields_of_both_documented_forms() -> None:
    event = json.loads(sse_error_event(Overloaded("Later.", param="p", retry_after_s=2), 7))
    flat = {"code": "server_is_overloaded", "message": "Later.", "param": "p"}
    nested = {"type": "service_unavailable_error", **flat, "headers": {"retry-after": "2"}}
    assert event == {"type": "error", "sequence_number": 7, **flat, "error": nested}
    assert "headers" not in json.loads(sse_error_event(PreviousResponseNotFound("r"), 0))["error"]
