from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from hotloop.errors import ApiError, InvalidJson, InvalidRequest, InvalidType, MissingParameter
from hotloop.protocol.decoding import decode_as


class Inner(msgspec.Struct):
    needed: int


class Outer(msgspec.Struct):
    number: int = 0
    inner: Inner | None = None
    many: list[Inner] = []
    pairs: dict[Annotated[str, Meta(max_length=2)], str] = {}


DECODER: "msgspec.json.Decoder[Any]" = msgspec.json.Decoder(Outer)


def refusal(raw: bytes, prefix: str = "") -> ApiError:
    with pytest.raises(ApiError) as caught:
        decode_as(DECODER, raw, prefix)
    return caught.value


@pytest.mark.parametrize(
    ("raw", "prefix", "kind", "param"),
    [
        (b'{"number":"x"}', "", InvalidType, "number"),
        (b'{"number":"x"}', "input[3]", InvalidType, "input[3].number"),
        (b'{"inner":{}}', "", MissingParameter, "inner.needed"),
        (b'{"inner":{}}', "tools[0]", MissingParameter, "tools[0].inner.needed"),
        (b'{"many":[{"needed":1},{}]}', "", MissingParameter, "many[1].needed"),
        (b'{"pairs":{"a":1}}', "", InvalidType, "pairs[...]"),
        (b'{"pairs":{"abc":"x"}}', "", InvalidRequest, "pairs"),
        (b'{"number":1.5e999}', "", InvalidRequest, "number"),
        (b"[]", "", InvalidType, None),
        (b"[]", "input", InvalidType, "input"),
    ],
)
def test_a_complaint_names_the_path_of_its_field(
    raw: bytes, prefix: str, kind: type[ApiError], param: str | None
) -> None:
    error = refusal(raw, prefix)
    assert (type(error), error.param) == (kind, param)


def test_a_missing_field_of_the_value_itself_is_named_without_a_dot() -> None:
    with pytest.raises(MissingParameter) as caught:
        decode_as(msgspec.json.Decoder(Inner), b"{}")
    assert caught.value.param == "needed"


def test_an_element_of_a_list_follows_its_prefix_without_a_dot() -> None:
    with pytest.raises(InvalidType) as caught:
        decode_as(msgspec.json.Decoder(list[int]), b'["x"]', "input")
    assert caught.value.param == "input[0]"


@pytest.mark.parametrize("raw", [b"", b"{", b"nonsense", b"\xff\xfe", b'{"new":' + b"[" * 100_000])
def test_what_is_not_json_is_said_to_be_no_json(raw: bytes) -> None:
    error = refusal(raw)
    assert type(error) is InvalidJson
    assert len(error.message) < 200


def test_a_long_complaint_of_the_decoder_is_cut() -> None:
    class Talkative:
        def decode(self, raw: bytes) -> int:
            raise msgspec.DecodeError("x" * 1000)

    with pytest.raises(InvalidJson) as caught:
        decode_as(Talkative(), b"")  # type: ignore[arg-type]  # msgspec's decoder is final; this one only complains
    assert len(caught.value.message) < 200
