import base64

from hypothesis import given
from hypothesis import strategies as st

from hotloop.models.model_items import as_seen, chars_in, for_model, plain_chars, text_chars
from hotloop.protocol.items import (
    Compaction,
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SettingItem,
    TypedCall,
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
        InputFile(file_data="data:text/plain"),
        InputFile(file_url="https://example.com/a.txt"),
    ]
    (message,) = for_model([Message(role="user", content=[text, nameless, *others])])
    assert isinstance(message, Message)
    assert message.content == [InputText(text="[a.md]\né"), InputText(text="[file]\n{}"), *others]
    (output,) = for_model([FunctionCallOutput(call_id="c", output=[text])])
    assert isinstance(output, FunctionCallOutput)
    assert output.output == [InputText(text="[a.md]\né")]


TEXT = st.text(max_size=5)
PARTS = st.lists(st.builds(InputText, text=TEXT) | st.builds(OutputText, text=TEXT) | st.builds(Refusal, refusal=TEXT)
                 | st.builds(InputFile, file_data=st.just(data_url("text/plain", b"t")), filename=st.just("f"))
                 | st.builds(InputImage), max_size=3)  # fmt: skip
NAMESPACE = st.none() | st.sampled_from(["functions", "files"])
CALL = {"call_id": st.just("c"), "name": st.just("run"), "namespace": NAMESPACE}
ITEM: st.SearchStrategy[Item] = st.one_of(
    st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=TEXT | PARTS),
    st.builds(FunctionCall, arguments=TEXT, **CALL),
    st.builds(CustomToolCall, input=TEXT, **CALL),
    st.builds(FunctionCallOutput, call_id=st.just("c"), output=TEXT | PARTS),
    st.builds(Reasoning, content=st.none() | st.lists(st.builds(ReasoningText, text=TEXT), max_size=2)),
    st.builds(Compaction, role=st.just("developer"), content=TEXT, raw=st.just(b"{}")),
    st.builds(TypedCall, arguments=TEXT, kind=st.just("shell_call"), raw=st.just(b"{}"), **CALL),
    st.builds(OpaqueItem, kind=st.just("web_search_call"), raw=st.just(b"{}")),
    st.builds(SettingItem, kind=st.just("additional_tools"), raw=st.just(b"{}")),
)


@given(st.lists(ITEM, max_size=4))
def test_items_that_are_taken_as_they_are_would_be_seen_as_they_are(items: list[Item]) -> None:
    chars = plain_chars(items)
    seen = [as_seen(item) for item in items if not isinstance(item, SettingItem)]
    assert list(for_model(items)) == seen
    if chars >= 0:
        assert seen == items
        assert chars == sum(map(text_chars, items))
    assert chars_in(items) == sum(map(text_chars, items))
    contents = [item.content for item in seen if isinstance(item, Message)]
    assert chars_in(items) >= sum(len(text) for text in contents if isinstance(text, str))
    assert list(map(type, for_model(items))) == list(map(type, seen))


def test_a_long_file_counts_as_long_before_it_is_read() -> None:
    part = InputFile(file_data=data_url("text/plain", b"x" * 300_000))
    assert chars_in([Message(role="user", content=[part])]) >= 300_000
    assert chars_in([FunctionCallOutput(call_id="c", output=[part])]) >= 300_000
