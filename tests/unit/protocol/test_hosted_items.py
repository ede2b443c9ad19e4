"""Items of tools that are run here: read, written, and as a model sees them."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.protocol.hosted_items import (
    as_answered,
    as_called,
    call_item,
    error_text,
    hosted_item,
    hosted_name,
    list_item,
    listed_tools,
    read_call,
    read_request,
    read_response,
    request_item,
    seen_by_model,
    tools_listed,
)
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, HostedItem, OpaqueItem, SettingItem
from hotloop.session.canonical import item_digest


def item(kind: str, **fields: Any) -> Any:
    return hosted_item(kind, json.dumps({"type": kind, **fields}).encode())


def call(**fields: Any) -> HostedItem:
    known: dict[str, Any] = {"item_id": "mcp_1", "label": "s", "name": "t", "arguments": "{}", "status": "completed"}
    return call_item(**known | fields)


@given(st.text(), st.text())
def test_a_model_can_write_every_name(label: str, name: str) -> None:
    flat = hosted_name(label, name)
    assert len(flat) <= 128 and all(sign.isascii() and (sign.isalnum() or sign in "_-") for sign in flat)
    assert flat == hosted_name(label, name)


def test_long_names_that_begin_alike_stay_apart() -> None:
    assert hosted_name("s", "a" * 200) != hosted_name("s", "a" * 199 + "b")


def test_a_call_is_seen_as_a_call_and_its_output() -> None:
    assert seen_by_model(call(output="3", arguments='{"a":1}')) == [
        FunctionCall(call_id="mcp_1", name="s__t", arguments='{"a":1}', status="completed"),
        FunctionCallOutput(call_id="mcp_1", output="3"),
    ]


def test_a_call_that_had_waited_for_consent_is_seen_as_its_output() -> None:
    asked = request_item(item_id="mcpr_1", label="s", name="t", arguments="{}")
    answered = call(output="3", approval_request_id="mcpr_1")
    assert seen_by_model(asked) == [FunctionCall(call_id="mcpr_1", name="s__t", arguments="{}", status="completed")]
    assert seen_by_model(answered) == [FunctionCallOutput(call_id="mcpr_1", output="3")]


def test_a_call_that_was_cut_off_has_no_output() -> None:
    (seen,) = seen_by_model(call(status="incomplete", arguments="{"))
    assert isinstance(seen, FunctionCall) and seen.status == "incomplete"


def test_consent_is_nothing_to_a_model_and_its_refusal_an_output() -> None:
    assert seen_by_model(item("mcp_approval_response", approval_request_id="r", approve=True)) == []
    refused = item("mcp_approval_response", approval_request_id="r", approve=False)
    assert seen_by_model(refused) == [FunctionCallOutput(call_id="r", output="The user did not allow this call.")]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("as a text", "Error: as a text"),
        ({"type": "mcp_protocol_error", "code": 1, "message": "gone"}, "Error: gone"),
        ({"type": "http_error", "code": 401, "message": "no"}, "Error: no"),
        (
            {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "a"}, {"type": "x"}]},
            'Error: a\n{"type":"x"}',
        ),
        (None, "Error: the call gave no output."),
        ({"type": "something_of_tomorrow"}, "Error: the call gave no output."),
    ],
)
def test_an_error_is_read_as_text(error: Any, text: str) -> None:
    assert error_text(error) == text
    answer = as_answered(call(status="failed", error=error))
    assert answer is not None and answer.output == text


@pytest.mark.parametrize("kind", ["mcp_call", "mcp_approval_request", "mcp_approval_response", "mcp_list_tools"])
@pytest.mark.parametrize("fields", [{}, {"server_label": 7}, {"tools": "none"}, {"approve": "yes"}])
def test_an_item_of_another_shape_is_carried_whole(kind: str, fields: dict[str, Any]) -> None:
    found = item(kind, **fields)
    assert type(found) is OpaqueItem and found.kind == kind


def test_items_are_told_apart() -> None:
    asked = request_item(item_id="mcpr_1", label="s", name="t", arguments="{}")
    consent = item("mcp_approval_response", approval_request_id="mcpr_1", approve=True)
    made = call(output="3")
    for read, own in ((read_call, made), (read_request, asked), (read_response, consent)):
        assert [read(one) is not None for one in (made, asked, consent)] == [
            one is own for one in (made, asked, consent)
        ]
    assert as_called(consent) is consent


def test_a_list_is_the_same_however_it_is_written() -> None:
    schema = {"type": "object", "properties": {"b": {}, "a": {"type": "number", "default": 1.0}}}
    tools = [{"name": "t", "description": None, "input_schema": schema, "annotations": {"readOnlyHint": True}}]
    ours = list_item(item_id="mcpl_1", label="s", tools=tools)
    again = item(
        "mcp_list_tools",
        tools=[{"annotations": {"readOnlyHint": True}, "input_schema": schema, "name": "t", "extra": 1}],
        server_label="s",
    )
    assert isinstance(ours, SettingItem)
    found = listed_tools(ours)
    assert found is not None and found == listed_tools(again)
    (tool,) = tools_listed(found[1])
    assert tool.is_read_only and list(msgspec.json.decode(tool.input_schema)["properties"]) == ["b", "a"]


def test_a_list_that_failed_lists_nothing() -> None:
    assert listed_tools(list_item(item_id="mcpl_1", label="s", error="down")) is None


def test_requests_for_consent_are_the_same_only_with_their_id() -> None:
    one, other = (request_item(item_id=name, label="s", name="t", arguments="{}") for name in ("mcpr_1", "mcpr_2"))
    assert item_digest(one) != item_digest(other)
    assert item_digest(call(output="3")) == item_digest(call(output="3", item_id="mcp_2"))
    assert item_digest(call(output="3")) != item_digest(call(output="4"))
