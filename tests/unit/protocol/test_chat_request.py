import json
from typing import Any

import pytest

from hotloop.errors import ApiError, InvalidRequest
from hotloop.protocol.chat_request import as_create, decode_chat, in_chat_terms
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
)
from hotloop.protocol.json_value import JsonValue
from hotloop.protocol.request import ResponseCreate, TextJsonObject, TextJsonSchema, decode_input
from hotloop.protocol.tools import CustomTool, FunctionTool, GrammarFormat, TextFormat, decode_tools

USER = {"role": "user", "content": "hi"}


def create(**fields: Any) -> ResponseCreate:
    made, _ = as_create(decode_chat(json.dumps({"model": "m", "messages": [USER], **fields}).encode()))
    return made


def items(*messages: dict[str, Any]) -> list[Item]:
    return decode_input(create(messages=list(messages)).input)


def tool_call(call_id: str = "c") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "run", "arguments": "{}"}}


CUSTOM_CALL = {"id": "d", "type": "custom", "custom": {"name": "shell", "input": "ls"}}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (USER, [Message(role="user", content="hi")]),
        ({"role": "system", "content": "s"}, [Message(role="system", content="s")]),
        ({"role": "developer", "content": "d", "name": "x"}, [Message(role="developer", content="d")]),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                    {"type": "file", "file": {"file_data": "f", "filename": "n"}},
                    {"type": "input_audio", "input_audio": {"data": "x"}},
                    {"type": "refusal", "refusal": "no"},
                ],
            },
            [
                Message(
                    role="user",
                    content=[
                        InputText(text="a"),
                        InputImage(image_url="u", detail="low"),
                        InputFile(file_data="f", filename="n"),
                        InputAudio(input_audio=JsonValue(b'{"data":"x"}')),
                        Refusal(refusal="no"),
                    ],
                )
            ],
        ),
        ({"role": "assistant", "content": "a"}, [Message(role="assistant", content=[OutputText(text="a")])]),
        ({"role": "assistant", "content": None}, [Message(role="assistant", content=[])]),
        (
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "a"}],
                "refusal": "no",
                "reasoning_content": "r",
            },
            [
                Reasoning(content=[ReasoningText(text="r")]),
                Message(role="assistant", content=[OutputText(text="a"), Refusal(refusal="no")]),
            ],
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [tool_call(), CUSTOM_CALL]},
            [
                FunctionCall(call_id="c", name="run", arguments="{}"),
                CustomToolCall(call_id="d", name="shell", input="ls"),
            ],
        ),
        (
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "done"}]},
            [FunctionCallOutput(call_id="c", output=[InputText(text="done")])],
        ),
    ],
)
def test_a_message_becomes_the_items_it_stands_for(message: dict[str, Any], expected: list[Item]) -> None:
    assert items(message) == expected


def test_the_output_of_a_custom_call_is_one_of_a_custom_call() -> None:
    calls = {"role": "assistant", "tool_calls": [CUSTOM_CALL, tool_call()]}
    *_, first, second = items(
        calls,
        {"role": "tool", "tool_call_id": "d", "content": "x"},
        {"role": "tool", "tool_call_id": "c", "content": "y"},
    )
    assert first == CustomToolCallOutput(call_id="d", output="x")
    assert second == FunctionCallOutput(call_id="c", output="y")


def test_tools_are_the_same_without_the_nesting() -> None:
    grammar = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}
    made = create(
        tools=[
            {"type": "function", "function": {"name": "run", "parameters": {"type": "object"}, "strict": True}},
            {"type": "function", "function": {"name": "bare", "description": "d"}},
            {"type": "custom", "custom": {"name": "shell", "format": grammar}},
            {"type": "custom", "custom": {"name": "free", "format": {"type": "text"}}},
        ]
    )
    run, bare, shell, free = decode_tools(bytes(made.tools))
    assert isinstance(run, FunctionTool)
    assert run.parameters is not None
    assert (json.loads(bytes(run.parameters)), run.strict) == ({"type": "object"}, True)
    assert bare == FunctionTool(name="bare", description="d")
    assert shell == CustomTool(name="shell", format=GrammarFormat(syntax="regex", definition="a+"))
    assert free == CustomTool(name="free", format=TextFormat())


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("required", "required"),
        ({"type": "function", "function": {"name": "run"}}, {"type": "function", "name": "run"}),
        ({"type": "custom", "custom": {"name": "shell"}}, {"type": "custom", "name": "shell"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "run"}}]},
            },
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "run"}]},
        ),
    ],
)
def test_a_tool_choice_is_the_same_without_the_nesting(choice: Any, expected: Any) -> None:
    assert create(tool_choice=choice).tool_choice == expected


def test_the_other_options_keep_their_meaning() -> None:
    made = create(
        max_tokens=3,
        temperature=0.5,
        seed=7,
        logprobs=True,
        top_logprobs=2,
        reasoning_effort="low",
        verbosity="high",
        parallel_tool_calls=False,
        stream=True,
        user="u",
        n=1,
        modalities=["text"],
        unknown_option=1,
    )
    assert (made.max_output_tokens, made.temperature, made.seed, made.top_logprobs) == (3, 0.5, 7, 2)
    assert made.wants_logprobs
    assert made.reasoning is not None
    assert made.reasoning.effort == "low"
    assert made.text is not None
    assert made.text.verbosity == "high"
    assert (made.parallel_tool_calls, made.stream, made.user, made.stores) == (False, True, "u", False)
    assert create(max_tokens=3, max_completion_tokens=5).max_output_tokens == 5


def test_a_format_is_the_same_without_the_nesting() -> None:
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    text = create(response_format={"type": "json_schema", "json_schema": schema}).text
    assert text is not None
    assert isinstance(text.format, TextJsonSchema)
    assert (text.format.name, json.loads(bytes(text.format.schema)), text.format.strict) == (
        "n",
        {"type": "object"},
        True,
    )
    text = create(response_format={"type": "json_object"}).text
    assert text is not None
    assert text.format == TextJsonObject()


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"messages": [{"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
        "messages",
    ),
    (
        {"messages": [{"role": "tool", "tool_call_id": "c", "content": [{"type": "file", "file": {}}]}]},
        "messages",
    ),
    ({"response_format": {"type": "json_schema", "json_schema": 3}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"function_call": "auto"}, "function_call"),
    ({"tool_choice": {"type": "strange"}}, "tool_choice.type"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_what_cannot_be_is_named_in_chat_terms(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        create(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("input[2].content[0]", "messages[1]"),
        ("input[9]", "messages"),
        ("input", "messages"),
        ("model", "model"),
        (None, None),
    ],
)
def test_an_error_at_an_item_is_one_at_its_message(param: str | None, expected: str | None) -> None:
    assert in_chat_terms(InvalidRequest("x", param=param), [0, 1, 1]).param == expected
