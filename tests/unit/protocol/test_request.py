import json
from typing import Any

import msgspec
import pytest

from hotloop.errors import (
    ApiError,
    InvalidEvent,
    InvalidJson,
    InvalidRequest,
    InvalidStreamId,
    InvalidType,
    MissingParameter,
    UnsupportedParameter,
)
from hotloop.protocol import request as request_module
from hotloop.protocol.items import (
    FunctionCallOutput,
    InputText,
    ItemReference,
    Message,
    OpaqueItem,
    OutputText,
)
from hotloop.protocol.json_value import NullableArray
from hotloop.protocol.request import (
    ResponseCreate,
    TextJsonSchema,
    decode_create,
    decode_input,
    decode_socket_create,
    event_head,
    lane_of,
)


def create(**fields: Any) -> ResponseCreate:
    return decode_create(json.dumps({"model": "m", **fields}).encode())


def refused(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        create(**fields)
    return caught.value


def test_a_request_that_says_nothing_has_the_defaults_of_the_protocol() -> None:
    request = decode_create(b"{}")
    assert request.stores
    assert not request.is_warm_up
    assert not request.wants_logprobs
    assert decode_input(request.input) == []


def test_unknown_fields_are_ignored() -> None:
    assert create(brand_new={"deep": [1]}, client_metadata={"a": "b"}, moderation={}).model == "m"


def test_null_means_the_default_everywhere() -> None:
    nullable = [name for name in ResponseCreate.__struct_fields__ if name not in ("input", "tools", "model")]
    request = create(**dict.fromkeys(nullable), input=None, tools=None)
    assert request.stores
    assert decode_input(request.input) == []


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"temperature": "hot"}, InvalidType, "temperature"),
        ({"temperature": 2.5}, InvalidRequest, "temperature"),
        ({"top_p": -0.1}, InvalidRequest, "top_p"),
        ({"top_logprobs": 21}, InvalidRequest, "top_logprobs"),
        ({"max_output_tokens": 0}, InvalidRequest, "max_output_tokens"),
        ({"seed": 2**63}, InvalidRequest, "seed"),
        ({"seed": -(2**70)}, InvalidRequest, "seed"),
        ({"store": "yes"}, InvalidType, "store"),
        ({"reasoning": {"effort": "extreme"}}, InvalidRequest, "reasoning.effort"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, MissingParameter, "text.format.schema"),
        ({"text": {"format": {"type": "xml"}}}, InvalidRequest, "text.format.type"),
        ({"metadata": {"k": 1}}, InvalidType, "metadata[...]"),
        ({"metadata": {"k" * 65: "v"}}, InvalidRequest, "metadata"),
        ({"metadata": {str(number): "v" for number in range(17)}}, InvalidRequest, "metadata"),
        ({"safety_identifier": "x" * 129}, InvalidRequest, "safety_identifier"),
        ({"truncation": "middle"}, InvalidRequest, "truncation"),
        ({"background": True, "store": False}, InvalidRequest, "background"),
        ({"conversation": {"name": "c"}}, MissingParameter, "conversation.id"),
        ({"conversation": 3}, InvalidType, "conversation"),
        ({"conversation": "conv_1", "previous_response_id": "r"}, InvalidRequest, "conversation"),
        ({"prompt": {"id": "p"}}, UnsupportedParameter, "prompt"),
        ({"multi_agent": {"enabled": True}}, UnsupportedParameter, "multi_agent"),
    ],
)
def test_a_refused_field_is_named(fields: dict[str, Any], kind: type[ApiError], param: str) -> None:
    error = refused(**fields)
    assert (type(error), error.param) == (kind, param)


def test_a_conversation_is_named_by_its_id_or_an_object_with_it() -> None:
    assert create(conversation="conv_1").conversation_id == "conv_1"
    assert create(conversation={"id": "conv_1"}).conversation_id == "conv_1"
    assert create().conversation_id is None


def test_background_is_refused_on_a_socket_only() -> None:
    assert create(background=True).background
    with pytest.raises(UnsupportedParameter) as caught:
        decode_socket_create(b'{"model":"m","background":true}')
    assert caught.value.param == "background"


def test_multi_agent_that_is_off_is_no_matter() -> None:
    assert create(multi_agent={"enabled": False}).multi_agent is not None


@pytest.mark.parametrize(
    ("fields", "is_warm_up"),
    [
        ({"generate": False}, True),
        ({"generate": True}, False),
        ({"prompt_cache_options": {"prewarm": True}}, True),
        ({"generate": True, "prompt_cache_options": {"prewarm": True}}, True),
        ({"prompt_cache_options": {"mode": "explicit"}}, False),
    ],
)
def test_generate_false_or_prewarm_is_a_warm_up(fields: dict[str, Any], is_warm_up: bool) -> None:
    assert create(**fields).is_warm_up is is_warm_up


def test_logprobs_are_wanted_by_their_include_only() -> None:
    assert create(include=["message.output_text.logprobs"]).wants_logprobs
    assert not create(include=["reasoning.encrypted_content"], top_logprobs=3).wants_logprobs


def test_a_schema_stays_raw() -> None:
    request = create(text={"format": {"type": "json_schema", "name": "n", "schema": {"b": 1, "a": 2}}})
    assert request.text is not None
    assert isinstance(request.text.format, TextJsonSchema)
    assert bytes(request.text.format.schema) == b'{"b": 1, "a": 2}'


def test_bytes_that_are_no_utf8_are_no_json_even_where_nothing_is_decoded() -> None:
    with pytest.raises(InvalidJson):
        decode_create(b'{"tools":[{"type":"web_search","x":"\xff"}]}')
    assert decode_create('{"tools":[{"type":"web_search","x":"é"}]}'.encode())


# --- events and lanes ---


def test_the_head_of_an_event_is_its_type_and_its_lane() -> None:
    head = event_head(b'{"stream_id":"a","type":"response.create","input":[{"type":"message"}]}')
    assert (head.type, head.stream_id) == ("response.create", "a")


@pytest.mark.parametrize("raw", [b"[]", b'"x"', b"1", b"{}", b'{"type":null}', b'{"type":7}'])
def test_json_that_is_no_event_is_refused_as_an_event(raw: bytes) -> None:
    with pytest.raises(InvalidEvent) as caught:
        event_head(raw)
    assert caught.value.param == "type"


def test_what_is_not_json_is_no_event_either() -> None:
    with pytest.raises(InvalidJson):
        event_head(b"{]")


@pytest.mark.parametrize("name", ["a", "main-1.2_X", "x" * 256])
def test_a_good_lane_name_is_taken(name: str) -> None:
    assert lane_of(name) == name


@pytest.mark.parametrize("name", ["", "x" * 257, "a b", "é", "a\n", 7, [], True])
def test_a_bad_lane_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidStreamId):
        lane_of(name)


def test_no_name_is_the_default_lane() -> None:
    assert lane_of(None) is None


# --- input ---


def items(raw: str) -> list[Any]:
    return list(decode_input(msgspec.Raw(raw.encode())))


def test_a_string_is_one_user_message() -> None:
    assert items('"hi"') == [Message(role="user", content=[InputText(text="hi")])]


def test_a_string_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "MAX_INPUT_CHARS", 3)
    assert items('"abc"')
    with pytest.raises(InvalidRequest) as caught:
        items('"abcd"')
    assert caught.value.param == "input"


def test_a_string_that_is_no_text_is_no_json() -> None:
    with pytest.raises(InvalidJson):
        decode_input(msgspec.Raw(b'"\xff"'))


@pytest.mark.parametrize("raw", ["{}", "7", "true"])
def test_input_of_another_type_is_refused(raw: str) -> None:
    with pytest.raises(InvalidType) as caught:
        items(raw)
    assert caught.value.param == "input"


def test_an_item_without_a_type_is_a_message() -> None:
    assert items('[{"role":"user","content":"x"}]') == [Message(role="user", content="x")]


def test_output_items_are_taken_back_with_all_their_extras() -> None:
    found = items(
        '[{"type":"message","id":"msg_1","status":"completed","role":"assistant","phase":"final_answer","new":1,'
        '"content":[{"type":"output_text","text":"hi","annotations":[],"logprobs":[]}]}]'
    )
    assert found[0].content == [OutputText(text="hi", logprobs=NullableArray(b"[]"))]
    assert found[0].phase == "final_answer"


def test_a_result_may_be_parts() -> None:
    found = items('[{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"x"}]}]')
    assert found == [FunctionCallOutput(call_id="c", output=[InputText(text="x")])]


def test_an_unknown_item_type_is_carried_whole() -> None:
    raw = '{"type":"web_search_call","id":"ws_1","action":{"q":"x"}}'
    assert items(f"[{raw}]") == [OpaqueItem("web_search_call", raw.encode())]


def test_a_reference_is_an_item_of_its_own() -> None:
    assert items('[{"type":"item_reference","id":"msg_1"}]') == [ItemReference(id="msg_1")]


@pytest.mark.parametrize(
    ("raw", "kind", "param"),
    [
        ('[{"type":"function_call","call_id":"c","name":"n"}]', MissingParameter, "input[0].arguments"),
        ('["x",{}]', InvalidType, "input[0]"),
        ('[{"role":"user","content":"x"},{"type":5}]', InvalidType, "input[1].type"),
        ('[{"role":"robot","content":"x"}]', InvalidRequest, "input[0].role"),
        ('[{"role":"user","content":[{"type":"input_text"}]}]', MissingParameter, "input[0].content[0].text"),
        ('[{"role":"user","content":[{"type":1}]}]', InvalidRequest, "input[0].content[0].type"),
        ('[{"type":"item_reference"}]', MissingParameter, "input[0].id"),
    ],
)
def test_a_refused_item_is_named_with_its_place(raw: str, kind: type[ApiError], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        items(raw)
    assert (type(caught.value), caught.value.param) == (kind, param)
