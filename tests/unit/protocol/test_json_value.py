"""JSON that is only carried stays text: the same on the wire, the same to a digest, and never built."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.errors import InvalidType
from hotloop.protocol.item_view import shown
from hotloop.protocol.items import InputAudio, Item, Message, OutputText
from hotloop.protocol.json_value import EMPTY_ARRAY, JsonArray, JsonText, JsonValue, readable
from hotloop.protocol.request import decode_item
from hotloop.session.canonical import item_digest

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def answer(**fields: Any) -> Item:
    part = {"type": "output_text", "text": "x", **fields}
    return decode_item(json.dumps({"role": "assistant", "content": [part]}).encode(), "input[0]")


def never(*given: object) -> None:
    pytest.fail("worked out again")


def only_part(item: Item) -> Any:
    assert isinstance(item, Message) and isinstance(item.content, list)
    (part,) = item.content
    return part


@given(st.lists(JSON, max_size=3), st.lists(JSON, max_size=3) | st.none())
def test_what_is_shown_is_what_came(annotations: list[Any], logprobs: list[Any] | None) -> None:
    item = answer(annotations=annotations, logprobs=logprobs)
    part = json.loads(shown(item))["content"][0]
    expected = msgspec.json.decode(msgspec.json.encode([annotations, logprobs or []]))
    assert [part["annotations"], part["logprobs"]] == expected
    again = decode_item(shown(item), "input[0]")
    assert item_digest(again) == item_digest(item)


def test_what_is_carried_is_kept_as_text() -> None:
    part = only_part(answer(annotations=[{"a": 1}], logprobs=[]))
    assert isinstance(part, OutputText)
    assert type(part.annotations) is JsonArray and part.annotations.text == b'[{"a":1}]'
    assert part.logprobs is not None and part.logprobs.text == b"[]"
    assert only_part(answer(annotations=[])).annotations is EMPTY_ARRAY
    audio = decode_item(b'{"role":"user","content":[{"type":"input_audio","input_audio": {"data" : "x"}}]}', "input[0]")
    assert only_part(audio) == InputAudio(input_audio=JsonValue(b'{"data":"x"}'))


def test_the_order_of_keys_is_not_part_of_an_item() -> None:
    one, other = answer(annotations=[{"a": 1, "b": 2.0}]), answer(annotations=[{"b": 2.0, "a": 1}])
    assert item_digest(one) == item_digest(other) != item_digest(answer(annotations=[{"a": 1, "b": 3.0}]))


@pytest.mark.parametrize(
    ("fields", "member", "complaint"),
    [
        ({"annotations": None}, "annotations", "Expected `array`, got `null`"),
        ({"annotations": {}}, "annotations", "Expected `array`, got `object`"),
        ({"logprobs": "x"}, "logprobs", "Expected `array | null`, got `str`"),
        ({"logprobs": 1.5}, "logprobs", "Expected `array | null`, got `float`"),
    ],
)
def test_a_value_of_another_type_is_refused_where_it_stands(
    fields: dict[str, Any], member: str, complaint: str
) -> None:
    with pytest.raises(InvalidType, match=complaint.replace("|", r"\|")) as refused:
        answer(**fields)
    assert refused.value.param == f"input[0].content[0].{member}"


def test_a_part_that_claims_to_be_json_holds_a_string() -> None:
    with pytest.raises(InvalidType) as refused:
        decode_item(b'{"role":"user","content":[{"type":"hotloop:unknown","json":{}}]}', "input[0]")
    assert refused.value.param == "input[0].content[0].json"


def test_what_a_model_is_shown_is_bounded_and_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = JsonText(json.dumps({"encrypted_content": "x", "b": "y" * 100_000}))
    assert (
        text.shown == readable(text.text.encode()) and text.shown.startswith('{"b":"yyy') and len(text.shown) == 65_536
    )
    monkeypatch.setattr("hotloop.protocol.json_value.readable", never)
    assert text.shown
    assert {text, JsonText(text.text)} == {text} and repr(JsonText("1")) == "JsonText('1')"
    assert {JsonValue(b"1"), JsonValue(b"1")} == {JsonValue(b"1")} and repr(JsonValue(b"1")) == "JsonValue(b'1')"
