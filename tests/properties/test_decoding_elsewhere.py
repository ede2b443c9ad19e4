"""The decode process and the server itself read any message alike: the same request, the same items, the same refusal."""

import json
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.properties.test_request_decoding import FIELDS, JSON, NEAR

from hotloop.decoding import forms
from hotloop.decoding.answer import Told, line_from, line_of
from hotloop.decoding.forms import CONVERSATION_BODIES, answer_to, conversation_from, create_from, event_from
from hotloop.errors import ApiError
from hotloop.protocol.client_event import ClientEvent, read_event
from hotloop.protocol.conversation_body import ConversationBody
from hotloop.protocol.item_view import shown
from hotloop.protocol.items import Item, OpaqueItem, TypedCall, TypedCallOutput
from hotloop.protocol.request import ResponseCreate, decode_create, decode_item, split_input
from hotloop.session import packed_items
from hotloop.session.canonical import item_digest
from hotloop.session.input_survey import InputSurvey

ITEM = st.one_of(
    st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=8)}),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "call_id": st.text(max_size=3), "name": st.just("f"), "arguments": st.text()}
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["item_reference", "compaction", "web_search_call"]), "id": st.text()}
    ),
    st.fixed_dictionaries(
        {"type": st.just("reasoning"), "summary": st.just([]), "encrypted_content": st.text(max_size=3)}
    ),
    st.fixed_dictionaries({"type": st.just("additional_tools"), "tools": st.just([])}),
    st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "content": st.lists(
                st.fixed_dictionaries(
                    {
                        "type": st.sampled_from(["output_text", "odd", "input_audio", "hotloop:unknown"]),
                        "text": st.text(),
                    },
                    optional=dict.fromkeys(("annotations", "logprobs", "input_audio", "json"), JSON),
                ),
                max_size=2,
            ),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                [
                    "shell_call",
                    "shell_call_output",
                    "tool_search_call",
                    "tool_search_output",
                    "mcp_call",
                    "mcp_list_tools",
                ]
            ),
            "server_label": st.just("s"),
            "name": st.just("n"),
        },
        optional=dict.fromkeys(("call_id", "id", "action", "arguments", "output", "tools", "error", "status"), JSON),
    ),
    NEAR,
)


def make_create(fields: dict[str, Any], items: object) -> dict[str, Any]:
    return {"type": "response.create", "model": "m", **fields, "input": items}


CREATE = st.builds(
    make_create,
    st.dictionaries(FIELDS, NEAR, max_size=3),
    st.one_of(st.lists(ITEM, max_size=5), st.text(max_size=8), st.none()),
)


def read_here(message: bytes, is_event: bool) -> ClientEvent:
    if is_event:
        return read_event(message)
    try:
        return ClientEvent(request=decode_create(message))
    except ApiError as error:
        return ClientEvent(error=error)


def told_of(message: bytes, form: bytes) -> Told:
    """Over the bytes that go through the pipe."""
    answer, rest = answer_to(message, form)
    line = line_from(line_of(answer))
    told = b"".join(rest)
    assert len(told) == line.rest_bytes
    return Told(line, told, message)


def read_elsewhere(message: bytes, is_event: bool) -> tuple[ClientEvent, InputSurvey | None]:
    if is_event:
        return event_from(told_of(message, forms.EVENT))
    try:
        request, survey = create_from(told_of(message, forms.CREATE))
    except ApiError as error:
        return ClientEvent(error=error), None
    return ClientEvent(request=request), survey


def fields_of(request: ResponseCreate | None) -> list[bytes]:
    return [msgspec.json.encode(getattr(request, name, None)) for name in ResponseCreate.__struct_fields__]


def looks(error: ApiError | None) -> object:
    return None if error is None else (type(error), error.message, error.param, error.status, error.code)


def read_items(raw: msgspec.Raw) -> tuple[list[Item], ApiError | None]:
    items: list[Item] = []
    try:
        for index, item in enumerate(split_input(raw)):
            items.append(decode_item(item, f"input[{index}]"))
    except ApiError as error:
        return items, error
    return items, None


def agree(message: bytes) -> None:
    for is_event in (True, False):
        here = read_here(message, is_event)
        there, survey = read_elsewhere(message, is_event)
        assert (there.kind, there.lane, looks(there.error)) == (here.kind, here.lane, looks(here.error))
        assert msgspec.json.encode(there.control) == msgspec.json.encode(here.control)
        # Compared by their fields as they are shown: 1.0 and 1 are different answers.
        assert fields_of(there.request) == fields_of(here.request)
        if here.request is None or survey is None:
            continue
        agree_on_input(here.request.input, survey)


def agree_on_input(raw: msgspec.Raw, survey: InputSurvey) -> None:
    items, error = read_items(raw)
    assert looks(survey.error) == looks(error)
    assert [decode_item(raw, "x") for raw in survey.items()] == items
    assert len(survey) == len(items)
    for index, item in enumerate(items):
        digest = survey.digest(index)
        assert digest is None or digest == item_digest(item)
    for index, (item, text) in enumerate(zip(items, survey.items(), strict=True)):
        read = survey.read_item(index, text)
        if read is not None:
            assert without_facts(read) == item and shown(read) == shown(item)
            assert item_digest(read) == item_digest(item)


def without_facts(item: Item) -> Item:
    return (
        msgspec.structs.replace(item, facts=None)
        if isinstance(item, OpaqueItem | TypedCall | TypedCallOutput)
        else item
    )


@pytest.fixture(autouse=True, scope="module")
def no_item_is_too_short() -> Generator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_items, "LONG_BYTES", 0)
        yield


@given(st.binary(max_size=60))
def test_any_bytes(message: bytes) -> None:
    agree(message)


@given(st.dictionaries(FIELDS, st.one_of(JSON, NEAR), max_size=6))
def test_any_values_of_the_known_fields(fields: dict[str, Any]) -> None:
    agree(json.dumps({"type": "response.create", "model": "m", **fields}).encode())


@given(CREATE, st.sampled_from([None, 1]), st.booleans())
def test_any_items(create: dict[str, Any], indent: int | None, is_ascii: bool) -> None:
    text = json.dumps(create, indent=indent, ensure_ascii=is_ascii)
    agree(text.encode("utf-8", "surrogatepass"))


@given(CREATE, st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_a_good_message_broken_or_cut_anywhere(create: dict[str, Any], at: int, junk: bytes, lost: int) -> None:
    message = json.dumps(create).encode()
    at %= len(message)
    agree(message[:at] + junk + message[at + lost :])
    agree(message[:at])


@given(CREATE, CREATE)
def test_members_that_come_twice(first: dict[str, Any], second: dict[str, Any]) -> None:
    agree(b"{%b,%b}" % (json.dumps(first).encode()[1:-1], json.dumps(second).encode()[1:-1]))


CONTROL: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"type": st.sampled_from(["response.steer", "response.interrupt", "response.inject", "response.processed", "x"])},
    optional={
        "previous_response_id": st.one_of(st.just("resp_1"), NEAR),
        "response_id": st.one_of(st.just("resp_1"), NEAR),
        "mode": NEAR,
        "input": st.one_of(
            st.text(max_size=8),
            st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": st.text(max_size=8)}), max_size=3),
            NEAR,
        ),
    },
)


@given(CONTROL, st.sampled_from([None, 1]), st.booleans())
def test_any_event_that_acts_on_a_response(event: dict[str, Any], indent: int | None, is_ascii: bool) -> None:
    agree(json.dumps(event, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"))


@given(CONTROL, CONTROL, st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_such_an_event_broken_anywhere_or_told_twice(
    first: dict[str, Any], second: dict[str, Any], at: int, junk: bytes, lost: int
) -> None:
    text = b"{%b,%b}" % (json.dumps(first).encode()[1:-1], json.dumps(second).encode()[1:-1])
    agree(text)
    at %= len(text)
    agree(text[:at] + junk + text[at + lost :])


@pytest.mark.parametrize(
    "inside",
    [
        b'"input":' + b"[" * 2000 + b"]" * 2000,
        b'"input":[' + b'{"role":"user","content":' * 2000 + b'""' + b"}" * 2000 + b"]",
        b'"x":' + b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'"input":"\\ud800"',
        b'"input":[{"role":"user","content":"\\ud800"}]',
        b'"input":"\xed\xa0\x80"',
        b'"input":"\xff"',
        b'"x":"\xff"',
        b'"seed":1e999',
        b'"x":1e999,"input":[]',
        b'"seed":123456789012345678901234567890',
        b'"tool_choice":{"a":123456789012345678901234567890,"b":1e300,"c":-0.0}',
        b'"in\\u0070ut":[{"role":"user","content":"a"}]',
        b'"input":"[1]","instructions":"[1]","tools":[1]',
        b'"input":[ {"role":"user","content":"a"} ,\n{"role":"user","content":"a"}\t]',
        b'"input":[{"role":"user","content":"a"},{}]',
        b'"input":[' + b",".join([b"{}"] * 70_000) + b"]",
        b'"input":[{"role":"user","content":[' + b",".join([b'{"type":"input_text","text":""}'] * 16_385) + b"]}]",
        b'"input":[{"role":"user","content":[' + b",".join([b'{"type":"x"}'] * 16_385) + b"]}]",
        b'"input":"' + b"a" * 10_485_761 + b'"',
        b'"stream_id":"a","store":false,"background":true',
        b'"stream_id":" "',
        b'"input":7',
    ],
)
def test_what_is_built_to_be_read_differently(inside: bytes) -> None:
    agree(b'{"type":"response.create","model":"m",%b}' % inside)
    agree(b'{"type":"response.steer",%b}' % inside)


def refusal_of(call: Callable[[], object]) -> object:
    try:
        call()
    except ApiError as error:
        return looks(error)
    return None


def conversation_elsewhere(body: bytes, form: bytes) -> tuple[ConversationBody, InputSurvey | None]:
    return conversation_from(told_of(body, form))


def agree_on_conversation(body: bytes) -> None:
    for form, decode in CONVERSATION_BODIES.items():
        refusal = refusal_of(partial(decode, body))
        assert refusal_of(partial(conversation_elsewhere, body, form)) == refusal
        if refusal is not None:
            continue
        here = decode(body)
        there, survey = conversation_elsewhere(body, form)
        assert there.metadata == here.metadata
        items: list[Item] = []
        error: ApiError | None = None
        try:
            for index, raw in enumerate(here.items):
                items.append(decode_item(raw, f"items[{index}]"))
        except ApiError as found:
            error = found
        assert looks(None if survey is None else survey.error) == looks(error)
        assert [decode_item(raw, "x") for raw in there.items] == items


CONVERSATION = st.fixed_dictionaries(
    {},
    optional={
        "items": st.one_of(st.lists(ITEM, max_size=22), NEAR),
        "metadata": st.one_of(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=18), NEAR),
    },
)


@given(CONVERSATION, st.sampled_from([None, 1]), st.booleans())
def test_any_conversation(body: dict[str, Any], indent: int | None, is_ascii: bool) -> None:
    agree_on_conversation(json.dumps(body, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"))


@given(CONVERSATION, CONVERSATION, st.integers(0, 400), st.binary(max_size=3))
def test_a_conversation_broken_anywhere_or_told_twice(
    body: dict[str, Any], other: dict[str, Any], at: int, junk: bytes
) -> None:
    text = b"{%b,%b}" % (json.dumps(body).encode()[1:-1] or b'"x":1', json.dumps(other).encode()[1:-1] or b'"y":1')
    agree_on_conversation(text)
    at %= len(text)
    agree_on_conversation(text[:at] + junk + text[at + len(junk) :])
    agree_on_conversation(junk)
