"""Which files are text, and how they read."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.errors import ApiError
from hotloop.protocol.file_parts import data_url, is_text_type, readable_parts, text_part, text_with_files
from hotloop.protocol.items import InputFile, InputImage, InputText


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "Text/X-Rust", "text/", "application/json; charset=utf-8", "image/svg+xml", "application/x-sh"],
)
def test_text_types(kind: str) -> None:
    assert is_text_type(kind)


@pytest.mark.parametrize("kind", ["", "application/pdf", "image/png", "application/zip", "texts/plain", "json"])
def test_other_types(kind: str) -> None:
    assert not is_text_type(kind)


@given(st.text(), st.sampled_from(["text/plain", "application/json"]))
def test_whatever_text_goes_in_comes_out(text: str, kind: str) -> None:
    part = InputFile(file_data=data_url(kind, text.encode("utf-8", "replace")), filename="a")
    shown = text.encode("utf-8", "replace").decode()
    assert text_part(part, "p") == InputText(text=f"[a]\n{shown}")
    assert text_with_files([InputText(text="<"), part, InputText(text=">")]) == f"<[a]\n{shown}>"


@given(
    st.binary(max_size=64),
    st.sampled_from(["", "text/plain", "application/octet-stream", "application/pdf", "x;base64"]),
)
def test_any_bytes_are_text_or_refused_by_name(data: bytes, kind: str) -> None:
    part = InputFile(file_data=data_url(kind, data))
    refusal: ApiError | None = None
    try:
        text_part(part, "p")
    except ApiError as error:
        refusal = error
    (shown,) = readable_parts([part])
    if refusal is None:
        assert isinstance(shown, InputText) and shown.text == "[file]\n" + data.decode()
    else:
        assert (refusal.param, refusal.status, shown) == ("p.file_data", 400, part)


def test_a_long_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.protocol.file_parts.MAX_TEXT_BYTES", 3)
    assert text_part(InputFile(file_data=data_url("text/plain", b"abc")), "p").text == "[file]\nabc"
    with pytest.raises(ApiError, match="more than 3 bytes"):
        text_part(InputFile(file_data=data_url("text/plain", b"abcd")), "p")


def test_a_type_that_cannot_be_printed_is_not_repeated() -> None:
    with pytest.raises(ApiError) as refusal:
        text_part(InputFile(file_data="data:a\nb;base64,AAAA"), "p")
    assert refusal.value.message.isprintable() and "unknown" in refusal.value.message


def test_what_is_no_file_stays() -> None:
    picture = InputImage(image_url="data:image/png;base64,AA==")
    plain = InputFile(file_data=base64.b64encode(b"plum").decode(), filename="b")
    assert readable_parts([picture, plain]) == [picture, InputText(text="[b]\nplum")]
    assert text_with_files("as it is") == "as it is"
