import json
from typing import Any

import pytest

from hotloop.protocol.echo import ContextEcho, request_echo
from hotloop.protocol.request import decode_create


def echo(context: ContextEcho | None = None, default_temperature: float = 1.0, **fields: Any) -> dict[str, Any]:
    request = decode_create(json.dumps({"model": "m", **fields}).encode())
    members = request_echo(request, "m", context or ContextEcho(), default_temperature)
    found: dict[str, Any] = json.loads(b"{" + members + b"}")
    return found


def test_a_bare_request_is_repeated_with_every_default() -> None:
    assert echo() == {
        "background": False,
        "frequency_penalty": 0,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "m",
        "parallel_tool_calls": True,
        "presence_penalty": 0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1,
        "truncation": "disabled",
        "user": None,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frequency_penalty", 0.5),
        ("max_output_tokens", 99),
        ("max_tool_calls", 3),
        ("metadata", {"k": 'v"é'}),
        ("parallel_tool_calls", False),
        ("presence_penalty", -1.5),
        ("previous_response_id", "resp_1"),
        ("prompt_cache_key", "key"),
        ("reasoning", {"effort": "low", "summary": "auto"}),
        ("safety_identifier", "s"),
        ("store", False),
        ("temperature", 0.25),
        ("text", {"format": {"type": "json_object"}, "verbosity": "low"}),
        ("tool_choice", "none"),
        ("tool_choice", {"type": "function", "name": "run"}),
        ("top_logprobs", 5),
        ("top_p", 0.9),
        ("truncation", "auto"),
        ("user", "me"),
    ],
)
def test_what_was_asked_for_is_repeated(field: str, value: Any) -> None:
    assert echo(**{field: value})[field] == value


def test_whole_numbers_are_written_whole() -> None:
    request = decode_create(b'{"temperature":0.0,"top_p":1.0}')
    members = request_echo(request, "m", ContextEcho())
    assert b'"temperature":0,' in members
    assert b'"top_p":1,' in members


def test_the_temperature_is_the_models_where_none_was_asked_for() -> None:
    assert echo(default_temperature=0.6)["temperature"] == 0.6
    assert echo(default_temperature=0.6, temperature=1)["temperature"] == 1


def test_a_schema_is_repeated_with_all_its_members() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"b": {}, "a": {}}}
    form = echo(text={"format": {"type": "json_schema", "name": "n", "schema": schema}})["text"]["format"]
    assert form == {"type": "json_schema", "name": "n", "description": None, "schema": schema, "strict": False}


def test_text_without_a_format_is_plain() -> None:
    assert echo(text={"verbosity": "high"})["text"] == {"format": {"type": "text"}, "verbosity": "high"}


def test_instructions_and_tools_come_from_the_context() -> None:
    found = echo(ContextEcho(b'"Be brief."', b'[{"type":"x"}]'), instructions="ignored here")
    assert found["instructions"] == "Be brief."
    assert found["tools"] == [{"type": "x"}]


def test_a_conversation_is_repeated_as_an_object_and_left_out_otherwise() -> None:
    assert echo(conversation="conv_1")["conversation"] == {"id": "conv_1"}
    assert echo(conversation={"id": "conv_1"})["conversation"] == {"id": "conv_1"}
    assert "conversation" not in echo()
