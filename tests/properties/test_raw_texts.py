"""Tools that come again unchanged are the same object, and the request is what full decoding makes of it."""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hotloop.protocol.request import ResponseCreate, decode_create, put_tools
from hotloop.protocol.tools import decode_tools
from hotloop.session.raw_texts import ENTRY_BYTES, RawTexts

TOOLS = st.lists(
    st.fixed_dictionaries(
        {"type": st.just("function"), "name": st.sampled_from("abc"), "parameters": st.just({"type": "object"})}
    ),
    max_size=3,
    unique_by=lambda tool: str(tool["name"]),
)
CREATES = st.lists(st.tuples(TOOLS, st.sampled_from([None, 1])), min_size=1, max_size=12)


def message(tools: list[dict[str, Any]], indent: int | None) -> bytes:
    return json.dumps({"model": "m", "input": "x", "tools": tools}, indent=indent).encode()


@given(CREATES)
def test_a_request_with_recognised_tools_equals_the_request_decoded_in_full(
    creates: list[tuple[list[dict[str, Any]], int | None]],
) -> None:
    texts, last = RawTexts(), None
    before: ResponseCreate | None = None
    for tools, indent in creates:
        request, alone = decode_create(message(tools, indent)), decode_create(message(tools, indent))
        last = texts.same(request.tools, last)
        put_tools(request, last)
        assert request == alone
        assert decode_tools(bytes(request.tools)) == decode_tools(bytes(alone.tools))
        if before is not None:
            assert (request.tools is before.tools) == (bytes(request.tools) == bytes(before.tools))
        before = request


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=30), st.integers(1, 4))
def test_the_bound_holds_and_equal_texts_are_one_object(found: list[bytes], places: int) -> None:
    texts = RawTexts(places * (ENTRY_BYTES + 40), max_text_bytes=32)
    used: list[bytes] = []  # latest last
    for text in found:
        same = texts.same(msgspec.Raw(text))
        assert bytes(same) == text
        if len(text) <= 32:
            assert texts.same(msgspec.Raw(text)) is same
            used = [other for other in used if other != text] + [text]
        kept = used[len(used) - len(texts) :]
        assert texts.size_bytes == sum(len(one) + ENTRY_BYTES for one in kept)
        assert texts.size_bytes <= places * (ENTRY_BYTES + 40) or len(texts) == 1
