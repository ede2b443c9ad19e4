import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.event_order import check_response_events

from hotloop.errors import EngineUnavailable, RateLimited, SchemaTooComplex
from hotloop.protocol.echo import ContextEcho, request_echo
from hotloop.protocol.items import CustomToolCall, FunctionCall, Message, OutputText, Reasoning, ReasoningText
from hotloop.protocol.open_item import ItemKind, TextLogprob
from hotloop.protocol.request import decode_create
from hotloop.protocol.response import ResponseStream, ResponseUsage

ECHO = request_echo(decode_create(b'{"model":"m"}'), "m", ContextEcho())
USAGE = ResponseUsage(10, 4, 3, 1)
KINDS: tuple[ItemKind, ...] = ("message", "reasoning", "function_call", "custom_tool_call")


def stream(lane: str | None = None) -> ResponseStream:
    numbers = itertools.count(1)
    return ResponseStream(
        response_id="resp_1",
        created_at=1000,
        echo=ECHO,
        new_id=lambda prefix: f"{prefix}_{next(numbers)}",
        stream_id=lane,
    )


def decoded(*events: bytes) -> list[dict[str, Any]]:
    return [json.loads(event) for event in events]


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def begun(lane: str | None = None) -> tuple[ResponseStream, list[bytes]]:
    response = stream(lane)
    return response, response.begin()


def test_usage_adds_up_and_has_both_detail_objects() -> None:
    assert json.loads(USAGE.encoded()) == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 13,
    }


def test_a_warm_up_is_three_events() -> None:
    response, sent = begun()
    events = decoded(*sent, response.completed(USAGE, 1001))
    assert types(events) == ["created", "in_progress", "completed"]
    final = check_response_events(events)
    assert final["completed_at"] == 1001
    assert final["created_at"] == 1000
    assert final["model"] == "m"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "message",
            ["output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done",
             "content_part.done", "output_item.done"],
        ),
        (
            "reasoning",
            ["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
             "reasoning_text.done", "content_part.done", "output_item.done"],
        ),
        (
            "function_call",
            ["output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
             "function_call_arguments.done", "output_item.done"],
        ),
        (
            "custom_tool_call",
            ["output_item.added", "custom_tool_call_input.delta", "custom_tool_call_input.delta",
             "custom_tool_call_input.done", "output_item.done"],
        ),
    ],
)  # fmt: skip
def test_an_item_streams_in_the_canonical_order(kind: ItemKind, expected: list[str]) -> None:
    response, sent = begun()
    sent += response.open_item(kind, "run")
    sent += [response.delta('a"b'), response.delta("é\n")]
    sent += response.close_item()
    events = decoded(*sent, response.completed(USAGE, 1001))
    assert types(events)[2:-1] == expected
    check_response_events(events)


def test_output_is_kept_as_items_with_the_ids_that_were_sent() -> None:
    response, _ = begun()
    for kind in KINDS:
        response.open_item(kind, "run")
        response.delta("{}")
        response.close_item()
    assert response.output == [
        Message(id="msg_1", status="completed", role="assistant", content=[OutputText(text="{}")]),
        Reasoning(id="rs_2", status="completed", content=[ReasoningText(text="{}")]),
        FunctionCall(id="fc_3", status="completed", call_id="call_4", name="run", arguments="{}"),
        CustomToolCall(id="ctc_5", status="completed", call_id="call_6", name="run", input="{}"),
    ]


def test_a_call_without_arguments_is_an_empty_object_in_one_delta() -> None:
    response, sent = begun()
    sent += response.open_item("function_call", "run")
    sent += response.close_item()
    final = check_response_events(decoded(*sent, response.completed(USAGE, 1)))
    assert final["output"][0]["arguments"] == "{}"
    assert response.output[0].arguments == "{}"  # type: ignore[union-attr]  # a function call by construction


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_that_was_cut_is_incomplete_and_keeps_what_it_had(kind: ItemKind) -> None:
    response, sent = begun()
    sent += response.open_item(kind, "run")
    sent += response.close_item(complete=False)
    events = decoded(*sent, response.incomplete("max_output_tokens", USAGE))
    final = check_response_events(events)
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["output"][0]["status"] == "incomplete"


def test_a_message_has_a_phase_only_where_the_model_tells_phases_apart() -> None:
    responding, _ = begun()
    for phase in (None, "commentary"):
        opened = decoded(*responding.open_item("message", phase=phase))
        closed = decoded(responding.delta("x"), *responding.close_item())
        for event in (opened[0], closed[-1]):
            assert event["item"].get("phase", "none") == (phase or "none")
        assert isinstance(kept := responding.output[-1], Message) and kept.phase == phase


def test_a_reasoning_item_has_neither_null_content_nor_null_encryption() -> None:
    response, sent = begun()
    sent += response.open_item("reasoning")
    sent += response.close_item()
    item = decoded(*sent)[-1]["item"]
    assert item["summary"] == []
    assert "encrypted_content" not in item


def test_logprobs_go_with_their_delta_and_add_up_in_the_part() -> None:
    response, sent = begun()
    sent += response.open_item("message")
    entry = TextLogprob(b"h\xff", -0.5, [(b"x", -1.0)])
    sent.append(response.delta("h", [entry]))
    sent.append(response.delta("i"))
    sent += response.close_item()
    final = check_response_events(decoded(*sent, response.completed(USAGE, 1)))
    assert final["output"][0]["content"][0]["logprobs"] == [
        {
            "token": "h\ufffd",
            "logprob": -0.5,
            "bytes": [104, 255],
            "top_logprobs": [{"token": "x", "logprob": -1.0, "bytes": [120]}],
        }
    ]


def test_a_failure_shows_type_code_message_param_and_when_to_retry() -> None:
    response, sent = begun()
    sent.append(response.failed(EngineUnavailable("Gone.", retry_after_s=1.5), None))
    final = check_response_events(decoded(*sent))
    assert final["error"] == {
        "type": "server_error",
        "code": "engine_unavailable",
        "message": "Gone.",
        "headers": {"retry-after": "1.5"},
    }
    assert final["usage"] is None
    response, sent = begun()
    sent.append(response.failed(SchemaTooComplex("No.", param="tools"), USAGE))
    assert check_response_events(decoded(*sent))["error"]["param"] == "tools"


def test_every_event_of_a_named_lane_carries_its_name() -> None:
    response, sent = begun('a"b')
    sent += response.open_item("message")
    sent.append(response.delta("x"))
    sent += response.close_item()
    sent.append(response.extension("hotloop:timing", {"n": 1}))
    check_response_events(decoded(*sent, response.completed(USAGE, 1)), lane='a"b')


def test_in_progress_may_come_again_while_an_item_is_open() -> None:
    response, sent = begun()
    sent += response.open_item("message")
    sent.append(response.in_progress())
    sent += response.close_item()
    check_response_events(decoded(*sent, response.completed(USAGE, 1)))


def test_an_extension_without_fields_is_still_json() -> None:
    response, _ = begun()
    (event,) = decoded(response.extension("hotloop:note", {}))
    assert event == {"type": "hotloop:note", "sequence_number": 2}


def test_what_was_retracted_leaves_no_gap() -> None:
    response, sent = begun()
    response.extension("hotloop:timing", {})
    response.completed(USAGE, 1)
    response.retract(2)
    sent.append(response.failed(RateLimited("Later."), USAGE))
    assert check_response_events(decoded(*sent))["status"] == "failed"


def test_output_begins_with_the_first_piece_not_with_the_item() -> None:
    response, _ = begun()
    seen: list[tuple[bool, bool]] = []

    def look() -> None:
        seen.append((response.has_open_item, response.has_output))

    look()
    response.open_item("message")
    look()
    response.delta("x")
    look()
    response.close_item()
    look()
    assert seen == [(False, False), (True, False), (True, True), (False, True)]


MISUSES: list[Callable[[ResponseStream], object]] = [
    lambda response: response.in_progress(),
    lambda response: (response.begin(), response.begin()),
    lambda response: (response.begin(), response.delta("x")),
    lambda response: (response.begin(), response.close_item()),
    lambda response: (response.begin(), response.open_item("message"), response.open_item("message")),
    lambda response: (response.begin(), response.open_item("message"), response.completed(USAGE, 1)),
    lambda response: (response.begin(), response.completed(USAGE, 1), response.completed(USAGE, 1)),
]


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_wrong_order_is_a_bug_and_never_leaves(misuse: Callable[[ResponseStream], object]) -> None:
    with pytest.raises(AssertionError):
        misuse(stream())


def test_only_an_end_can_be_retracted() -> None:
    response, _ = begun()
    with pytest.raises(AssertionError):
        response.retract()


def test_a_response_may_be_queued_before_it_is_in_progress() -> None:
    response = stream()
    sent = response.queued()
    assert json.loads(response.snapshot("queued")) == json.loads(sent[1])["response"]
    assert json.loads(response.snapshot("in_progress"))["status"] == "in_progress"
    events = decoded(*sent, response.in_progress(), response.completed(USAGE, 1001))
    assert types(events) == ["created", "queued", "in_progress", "completed"]
    assert [event["response"]["status"] for event in events] == ["queued", "queued", "in_progress", "completed"]
    check_response_events(events)


def test_raw_reasoning_can_stream_under_the_names_of_open_responses() -> None:
    response = ResponseStream(
        response_id="r",
        created_at=1,
        echo=ECHO,
        new_id=lambda prefix: prefix,
        reasoning_events="open_responses",
    )
    response.begin()
    events = decoded(*response.open_item("reasoning"), response.delta("why"), *response.close_item())
    names = [name for name in types(events) if name.startswith("reasoning")]
    assert names == ["reasoning.delta", "reasoning.done"]
    assert {"item_id", "output_index", "content_index", "text"} <= set(events[-3])
    assert types(decoded(*response.open_item("message"), response.delta("so")))[-1] == "output_text.delta"
