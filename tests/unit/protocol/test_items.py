import json

import msgspec
import pytest

from hotloop.errors import InvalidRequest
from hotloop.protocol.items import (
    MAX_PARTS,
    STRUCT_BY_TYPE,
    FunctionCall,
    InputImage,
    InputText,
    Message,
    OutputText,
    PlainText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
    text_of,
)
from hotloop.protocol.request import decode_item


def test_the_table_knows_every_type_by_its_own_tag() -> None:
    for name, struct in STRUCT_BY_TYPE.items():
        assert struct.__struct_config__.tag == name


def test_an_item_without_values_for_optional_fields_leaves_them_out() -> None:
    item = FunctionCall(id="fc_1", call_id="c", name="run", arguments="{}")
    assert json.loads(msgspec.json.encode(item)) == {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c",
        "name": "run",
        "arguments": "{}",
    }


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("as it is", "as it is"),
        ([InputText(text="a"), InputImage(image_url="data:"), InputText(text="b")], "ab"),
        ([OutputText(text="x"), Refusal(refusal="no"), PlainText(text="y")], "xnoy"),
        ([ReasoningText(text="r")], "r"),
        ([SummaryText(text="s")], "s"),
        ([], ""),
    ],
)
def test_the_text_of_content_is_that_of_its_parts_in_order(content: "str | list[InputText]", text: str) -> None:
    assert text_of(content) == text  # type: ignore[arg-type]  # the parameter stands for every kind of part


def test_what_was_sent_out_is_taken_back_unchanged() -> None:
    for item in (
        Message(id="m", status="completed", role="assistant", content=[OutputText(text="hi")], phase="final_answer"),
        Reasoning(id="r", content=[ReasoningText(text="why")], encrypted_content="x"),
    ):
        assert msgspec.json.decode(msgspec.json.encode(item), type=type(item)) == item


@pytest.mark.parametrize("part", [b'{"type":"input_text","text":""}', b'{"type":"unheard_of"}'])
@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b'"role":"user"', b"content"),
        (b'"type":"function_call_output","call_id":"c"', b"output"),
        (b'"type":"custom_tool_call_output","call_id":"c"', b"output"),
    ],
)
def test_an_item_holds_so_many_parts_and_no_more(head: bytes, name: bytes, part: bytes) -> None:
    def item(count: int) -> bytes:
        return b'{%b,"%b":[%b]}' % (head, name, b",".join([part] * count))

    decode_item(item(MAX_PARTS), "input[0]")
    with pytest.raises(InvalidRequest) as refused:
        decode_item(item(MAX_PARTS + 1), "input[0]")
    assert refused.value.param == f"input[0].{name.decode()}"
