"""The decode process and the server itself make the same turn of any chat completion, or the same refusal."""

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.properties.test_decoding_elsewhere import agree_on_input, fields_of, looks, refusal_of, told_of
from tests.properties.test_request_decoding import NEAR

from hotloop.decoding import forms
from hotloop.decoding.forms import chat_from
from hotloop.errors import InvalidRequest
from hotloop.protocol.chat_request import ChatTurn, in_chat_terms, read_chat
from hotloop.protocol.request import MAX_INPUT_ITEMS, split_input
from hotloop.session.input_survey import InputSurvey

Near = st.SearchStrategy[Any]

ANYTHING: Near = NEAR
WORD = st.text(max_size=3)


def function_call(call_id: str, text: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": text}}


def custom_call(call_id: str, text: str) -> dict[str, Any]:
    return {"id": call_id, "type": "custom", "custom": {"name": "f", "input": text}}


def function_tool(name: str, strict: bool | None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"a": 1.0}, "strict": strict}}


def custom_tool(name: str) -> dict[str, Any]:
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a*"}}
    return {"type": "custom", "custom": {"name": name, "format": grammar}}


PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=4)}), max_size=3)
CONTENT: Near = st.one_of(st.text(max_size=8), PARTS, ANYTHING)
CALLS = st.lists(st.one_of(st.builds(function_call, WORD, WORD), st.builds(custom_call, WORD, WORD)), max_size=2)
MESSAGE: Near = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer", "user"]), "content": CONTENT}),
    st.fixed_dictionaries(
        {"role": st.just("assistant")},
        optional={"content": CONTENT, "tool_calls": CALLS, "refusal": WORD, "reasoning_content": WORD},
    ),
    st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": WORD, "content": CONTENT}),
    ANYTHING,
)
TOOL = st.one_of(
    st.builds(function_tool, WORD, st.sampled_from([None, True, False])),
    st.builds(custom_tool, st.sampled_from(["f", " "])),
)
CHOICES: list[Any] = [
    "auto",
    {"type": "function", "function": {"name": "f"}},
    {"type": "custom", "custom": {"name": "g"}},
]
FORMS: list[Any] = [
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "n": 1.0}}},
    {"type": "json_schema", "json_schema": 7},
]
OPTIONS: dict[str, Near] = {
    "model": st.one_of(st.just("m"), ANYTHING),
    "tools": st.lists(TOOL, max_size=2),
    "tool_choice": st.one_of(st.sampled_from(CHOICES), ANYTHING),
    "response_format": st.sampled_from(FORMS),
    "temperature": st.one_of(st.integers(0, 2), ANYTHING),
    "seed": ANYTHING,
    "stream_options": st.one_of(st.just({"include_usage": True}), ANYTHING),
    "logprobs": st.booleans(),
    "n": st.sampled_from([1, 2]),
    "metadata": st.dictionaries(WORD, WORD, max_size=2),
}
CHAT: Near = st.fixed_dictionaries({"messages": st.lists(MESSAGE, max_size=5)}, optional=OPTIONS)


def chat_elsewhere(body: bytes) -> tuple[ChatTurn, InputSurvey | None]:
    return chat_from(told_of(body, forms.CHAT))


def agree(body: bytes) -> None:
    refusal = refusal_of(partial(read_chat, body))
    assert refusal_of(partial(chat_elsewhere, body)) == refusal
    if refusal is not None:
        return
    here = read_chat(body)
    there, survey = chat_elsewhere(body)
    assert fields_of(there.request) == fields_of(here.request)
    assert there.origins == here.origins
    assert (there.includes_usage, there.wants_logprobs) == (here.includes_usage, here.wants_logprobs)
    assert survey is not None
    agree_on_input(here.request.input, survey)


@given(CHAT, st.sampled_from([None, 1]), st.booleans())
def test_any_chat(body: dict[str, Any], indent: int | None, is_ascii: bool) -> None:
    agree(json.dumps(body, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"))


@given(CHAT, st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_a_chat_broken_or_cut_anywhere(body: dict[str, Any], at: int, junk: bytes, lost: int) -> None:
    text = json.dumps(body).encode()
    at %= len(text)
    agree(text[:at] + junk + text[at + lost :])
    agree(junk)


def test_a_chat_of_too_many_messages_names_them_all() -> None:
    body = b'{"model":"m","messages":[%b]}' % b",".join([b'{"role":"user","content":""}'] * (MAX_INPUT_ITEMS + 9))
    here, (there, survey) = read_chat(body), chat_elsewhere(body)
    assert survey is not None and survey.error is not None
    with pytest.raises(InvalidRequest) as refused:
        split_input(here.request.input)
    assert looks(in_chat_terms(survey.error, there.origins)) == looks(in_chat_terms(refused.value, here.origins))
