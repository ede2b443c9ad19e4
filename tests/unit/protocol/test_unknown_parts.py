"""Content parts that nothing here knows are kept as they came; what is wrong otherwise is still named."""

import json
from typing import Any

import pytest

from hotloop.errors import ApiError, InvalidRequest, InvalidType, MissingParameter
from hotloop.protocol.item_view import shown
from hotloop.protocol.items import Item, ItemReference, Message, Reasoning, UnknownPart, UnpairedOutput, text_of
from hotloop.protocol.json_value import JsonText
from hotloop.protocol.request import decode_item
from hotloop.session.canonical import item_digest

NEW = {"type": "of_tomorrow", "text": "plum", "deep": [1, {"b": 2}]}


def decoded(**fields: Any) -> Item:
    return decode_item(json.dumps(fields).encode(), "input[3]")


def test_a_part_travels_as_it_came_and_reads_as_its_json() -> None:
    item = decoded(role="user", content=[{"type": "input_text", "text": "a"}, NEW])
    assert isinstance(item, Message) and isinstance(item.content, list)
    assert json.loads(text_of(item.content[1:])) == NEW
    assert json.loads(shown(item))["content"][1] == NEW
    assert item_digest(item) == item_digest(decode_item(b" " + shown(item), "input[3]"))


def test_thoughts_of_another_type_are_thoughts() -> None:
    item = decoded(type="reasoning", summary=[], content=[{"type": "text", "text": "hm"}, NEW | {"text": None}])
    assert isinstance(item, Reasoning) and item.content is not None
    assert item.content[0].text == "hm" and json.loads(item.content[1].text)["type"] == "of_tomorrow"


def test_what_claims_to_be_such_a_part_is_shown_as_it_is() -> None:
    part = {"type": "hotloop:unknown", "json": "{"}
    item = decoded(role="user", content=[part])
    assert isinstance(item, Message) and item.content == [UnknownPart(json=JsonText("{"))]
    assert json.loads(shown(item))["content"] == [part]


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"role": "user", "content": [{"text": "no type"}]}, MissingParameter, "input[3].content[0].type"),
        ({"role": "user", "content": [NEW, {"type": "input_text"}]}, MissingParameter, "input[3].content[1].text"),
        ({"role": "user", "content": ["text"]}, InvalidType, "input[3].content[0]"),
        ({"role": "user", "content": 1}, InvalidType, "input[3].content"),
        ({"role": "nobody", "content": [NEW]}, InvalidRequest, "input[3].role"),
        ({"type": None, "content": "x"}, MissingParameter, "input[3].role"),
    ],
)
def test_any_other_fault_is_named(fields: dict[str, Any], error: type[ApiError], param: str) -> None:
    with pytest.raises(error) as refusal:
        decoded(**fields)
    assert refusal.value.param == param


def test_types_that_may_be_left_out() -> None:
    assert isinstance(decoded(id="msg_1"), ItemReference)
    assert isinstance(decoded(id="msg_1", type=None), ItemReference)
    assert isinstance(decoded(id="msg_1", type=None, role="user", content="x"), Message)
    assert isinstance(decoded(type="custom_tool_call_output", call_id=None, output="x"), UnpairedOutput)
