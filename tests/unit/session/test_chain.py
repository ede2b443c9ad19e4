import pytest

from hotloop.errors import InvalidRequest
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
)
from hotloop.session.chain import calls_in, open_calls_in, pair_calls


def call(call_id: str, status: "str | None" = None) -> FunctionCall:
    return FunctionCall(call_id=call_id, name="run", arguments="{}", status=status)  # type: ignore[arg-type]  # a literal by construction


def output(call_id: str) -> FunctionCallOutput:
    return FunctionCallOutput(call_id=call_id, output="done")


USER = Message(role="user", content="hi")


@pytest.mark.parametrize(
    ("open_calls", "new"),
    [
        ({}, []),
        ({}, [USER, OpaqueItem("web_search_call", b"{}")]),
        ({"a": True}, [output("a")]),
        ({"a": True, "b": True}, [output("b"), output("a"), USER]),
        ({}, [call("a"), output("a")]),
        ({}, [call("a"), call("b"), output("a"), output("b"), call("a"), output("a")]),
        ({}, [CustomToolCall(call_id="c", name="patch", input="x"), CustomToolCallOutput(call_id="c", output="ok")]),
        ({"cut": False}, [USER]),
        ({"cut": False}, [output("cut"), USER]),
        ({}, [call("cut", "incomplete"), USER]),
        ({}, [call("cut", "incomplete"), output("cut"), USER]),
    ],
)
def test_calls_and_outputs_that_pair_are_taken(open_calls: dict[str, bool], new: list[Item]) -> None:
    assert set(pair_calls(open_calls, new)) <= {"cut"}


@pytest.mark.parametrize(
    ("open_calls", "new", "message"),
    [
        ({}, [output("a")], "No tool call found for function call output with call_id a."),
        ({"a": True}, [output("b"), output("a")], "No tool call found for function call output with call_id b."),
        ({"a": True}, [output("a"), output("a")], "No tool call found for function call output with call_id a."),
        ({}, [output("a"), call("a")], "No tool call found for function call output with call_id a."),
        ({"a": True}, [], "No tool output found for function call a."),
        ({"a": True, "b": True}, [output("a")], "No tool output found for function call b."),
        ({}, [call("a")], "No tool output found for function call a."),
        ({"a": True}, [call("a")], "Two tool calls have the call_id 'a'."),
    ],
)
def test_what_does_not_pair_is_refused_at_the_input(open_calls: dict[str, bool], new: list[Item], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        pair_calls(open_calls, new)
    assert (caught.value.message, caught.value.param) == (message, "input")


def test_pairing_changes_nothing_it_was_given() -> None:
    open_calls = {"a": True}
    pair_calls(open_calls, [output("a")])
    assert open_calls == {"a": True}


def test_an_output_leaves_its_calls_open_and_a_cut_one_need_not_be_answered() -> None:
    found = calls_in([USER, call("a"), CustomToolCall(call_id="b", name="p", input=""), call("c", "incomplete")])
    assert found == {"a": True, "b": True, "c": False}


def test_a_history_leaves_open_what_it_does_not_answer() -> None:
    history: list[Item] = [call("a"), USER, output("a"), call("b"), output("nobody"), call("c", "incomplete")]
    assert open_calls_in(history) == {"b": True, "c": False}
