import base64

from hotloop.models.model_items import for_model
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputText,
    Item,
    Message,
    SettingItem,
)


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_calls_have_the_names_that_were_offered() -> None:
    calls: list[Item] = [
        FunctionCall(call_id="1", name="read", arguments="{}", namespace="files"),
        CustomToolCall(call_id="2", name="exec", input="", namespace="functions"),
        FunctionCall(call_id="3", name="ls", arguments="{}"),
    ]
    assert [getattr(item, "name", "") for item in for_model(calls)] == ["files__read", "exec", "ls"]


def test_what_says_nothing_is_left_out() -> None:
    assert list(for_model([SettingItem("additional_tools", b"{}")])) == []


def test_a_text_file_is_its_text_and_others_stay() -> None:
    text = InputFile(file_data=data_url("text/markdown", "é".encode()), filename="a.md")
    nameless = InputFile(file_data=data_url("application/json;charset=utf-8", b"{}"))
    others = [
        InputFile(file_data=data_url("application/pdf", b"%PDF")),
        InputFile(file_data=data_url("text/plain", b"\xff\xfe")),
        InputFile(file_data="data:text/plain;base64,*"),
        InputFile(file_data="data:text/plain,a"),
        InputFile(file_url="https://example.com/a.txt"),
    ]
    (message,) = for_model([Message(role="user", content=[text, nameless, *others])])
    assert isinstance(message, Message)
    assert message.content == [InputText(text="[a.md]\né"), InputText(text="[file]\n{}"), *others]
    (output,) = for_model([FunctionCallOutput(call_id="c", output=[text])])
    assert isinstance(output, FunctionCallOutput)
    assert output.output == [InputText(text="[a.md]\né")]
