import json
from typing import Any

import pytest

from hotloop.errors import ApiError, MissingParameter
from hotloop.protocol.item_view import shown, with_ids
from hotloop.protocol.items import (
    CompactionTrigger,
    FunctionCall,
    FunctionCallOutput,
    Item,
    OpaqueItem,
    TypedCall,
    opaque_text,
    text_of,
)
from hotloop.protocol.request import decode_item
from hotloop.protocol.typed_calls import SUMMARY_PROMPT, fields_of_call, tools_in, typed_call
from hotloop.session.canonical import item_digest


def item(**fields: Any) -> Item:
    return decode_item(json.dumps(fields).encode(), "input[0]")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("local_shell", {"command": ["ls", "-l"]}),
        ("local_shell", {"command": ["ls"], "working_directory": "/", "timeout_ms": 5, "env": {"A": "b"}}),
        ("shell", {"commands": ["ls"], "timeout_ms": 100}),
        ("apply_patch", {"type": "create_file", "path": "a", "diff": "+x"}),
        ("apply_patch", {"type": "delete_file", "path": "a"}),
        ("tool_search", {"query": "files"}),
    ],
)
def test_a_call_becomes_its_item_and_reads_back_as_the_call(kind: str, arguments: dict[str, Any]) -> None:
    fields = fields_of_call(kind, json.dumps(arguments))
    assert fields is not None
    made = typed_call(kind, "id_1", "call_1", fields)
    assert (made.name, made.call_id, made.status) == (kind, "call_1", "completed")
    assert json.loads(made.arguments) == arguments
    again = decode_item(b" " + shown(made), "input[0]")
    assert isinstance(again, TypedCall)
    assert item_digest(again) == item_digest(made)


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"commands":"ls"}', '{"commands":["ls"],"other":1}', "[" * 5000])
def test_what_is_no_call_of_the_tool_has_no_item(arguments: str) -> None:
    assert fields_of_call("shell", arguments) is None


def test_outputs_are_text_for_the_model() -> None:
    printed = item(
        type="shell_call_output",
        call_id="c",
        output=[
            {"stdout": "a", "stderr": "b", "outcome": {"type": "exit", "exit_code": 0}},
            {"stdout": "", "stderr": "no", "outcome": {"type": "exit", "exit_code": 2}},
            {"stdout": "", "stderr": "", "outcome": {"type": "timeout"}},
            {"stdout": "x", "stderr": ""},
            "strange",
        ],
    )
    assert isinstance(printed, FunctionCallOutput)
    assert text_of(printed.output) == 'abno\n[exit code 2]\n[timed out]x"strange"'
    for fields, text in (
        ({"type": "apply_patch_call_output", "call_id": "c", "status": "failed"}, "failed"),
        ({"type": "local_shell_call_output", "id": "c", "output": "text"}, "text"),
        ({"type": "tool_search_output", "call_id": "c", "tools": [{"type": "x"}]}, '[{"type":"x"}]'),
        ({"type": "shell_call_output", "call_id": "c", "output": {"a": 1}}, '{"a":1}'),
        ({"type": "shell_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "t"}]}, "t"),
    ):
        read = item(**fields)
        assert isinstance(read, FunctionCallOutput)
        assert (read.call_id, text_of(read.output)) == ("c", text)


def test_a_call_that_names_no_id_is_refused() -> None:
    with pytest.raises(MissingParameter) as refused:
        item(type="shell_call", action={})
    assert refused.value.param == "input[0].call_id"


def test_a_trigger_is_how_the_model_is_asked() -> None:
    trigger = item(type="compaction_trigger")
    assert isinstance(trigger, CompactionTrigger)
    assert trigger.content == SUMMARY_PROMPT
    assert json.loads(shown(trigger)) == {"type": "compaction_trigger"}


def test_items_that_bring_tools() -> None:
    assert tools_in(item(type="additional_tools", role="developer", tools=[])) == b"[]"
    assert tools_in(item(type="additional_tools", role="developer", tools=None)) is None
    assert tools_in(item(type="tool_search_output", call_id="c", tools=[1])) == b"[1]"
    assert tools_in(item(type="configuration_update", reasoning={"effort": "low"})) is None
    with pytest.raises(ApiError) as refused:
        item(type="additional_tools", tools="all")
    assert refused.value.param == "input[0].tools"


def test_every_item_is_shown_with_an_id_and_otherwise_as_it_came() -> None:
    every: list[dict[str, Any]] = [
        {"type": "shell_call", "call_id": "c", "action": {"commands": []}, "extra": 1},
        {"type": "shell_call_output", "call_id": "c", "output": []},
        {"type": "additional_tools", "tools": []},
        {"type": "compaction_trigger"},
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "unheard_of", "a": [1]},
    ]
    for fields in every:
        (identified,) = with_ids([item(**fields)], lambda prefix: f"{prefix}_1")
        assert json.loads(shown(identified)) == {**fields, "id": "item_1"}
        assert with_ids([identified], lambda prefix: "other") == [identified]


def test_a_typed_call_is_not_the_function_call_of_its_name() -> None:
    typed = item(type="shell_call", call_id="c", action={"commands": ["ls"]})
    plain = FunctionCall(call_id="c", name="shell", arguments='{"commands":["ls"]}')
    assert item_digest(typed) != item_digest(plain)


def test_a_model_is_not_shown_what_it_cannot_read() -> None:
    def said(**fields: Any) -> str:
        opaque = item(**fields)
        assert isinstance(opaque, OpaqueItem)
        return opaque_text(opaque)

    assert json.loads(said(type="web_search_call", query="q")) == {"type": "web_search_call", "query": "q"}
    assert json.loads(said(type="image_generation_call", result="A" * 9, status="completed")) == {
        "type": "image_generation_call",
        "status": "completed",
    }
    assert "secret" not in said(type="agent_message", encrypted_content="secret")
    assert len(said(type="unheard_of", long="A" * 200_000)) < 100_000
    deep = OpaqueItem("x", b'{"encrypted_content":' + b"[" * 100_000)
    assert len(opaque_text(deep)) < 100_000
