import json

import pytest

from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.parsing.mark_scanner import partial_end
from hotloop.protocol.tools import CustomTool
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened


def test_white_space_alone_is_no_message_and_goes_in_front_of_one() -> None:
    stream = ItemStream()
    stream.say(" \n")
    assert stream.take() == []
    stream.say("a ")
    assert stream.take() == [ItemOpened("message"), ItemDelta(" \na ")]
    stream.say(" ")
    assert stream.take() == [ItemDelta(" ")]


def test_white_space_that_opened_no_message_can_be_taken_back() -> None:
    stream = ItemStream()
    stream.say("\n")
    assert stream.take_lead() == "\n"
    stream.say("a")
    assert stream.take() == [ItemOpened("message"), ItemDelta("a")]


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_a_whole_call_that_says_nothing_of_arguments_has_none(blank: str) -> None:
    stream = ItemStream()
    stream.open_call("look")
    stream.add_arguments(blank)
    stream.end_arguments(complete=True)
    stream.close()
    opened, delta, closed = stream.take()
    assert (opened, closed) == (ItemOpened("function_call", "look"), ItemClosed(complete=True))
    assert isinstance(delta, ItemDelta)
    assert json.loads(delta.text) == {}


def test_a_call_that_was_cut_off_is_given_no_arguments() -> None:
    stream = ItemStream()
    stream.open_call("look")
    stream.end_arguments(complete=False)
    stream.close(complete=False)
    assert stream.take() == [ItemOpened("function_call", "look"), ItemClosed(complete=False)]


def test_a_call_of_a_custom_tool_says_its_text() -> None:
    stream = ItemStream([CustomTool(name="patch")])
    stream.open_call("patch")
    stream.add_arguments('{"input": "a\\n')
    stream.add_arguments('b"}')
    stream.end_arguments(complete=True)
    assert stream.take() == [ItemOpened("custom_tool_call", "patch"), ItemDelta("a\nb")]
    stream.open_call("look")
    stream.add_arguments('{"input": "a"}')
    assert stream.take()[1:] == [ItemOpened("function_call", "look"), ItemDelta('{"input": "a"}')]


@pytest.mark.parametrize(
    ("text", "mark", "length"),
    [
        ("a</to", "</tool>", 4),
        ("a</tool>", "</tool>", 0),
        ("aab", "aabaac", 3),
        ("xaabaab", "aabaac", 3),
        ("a", "", 0),
        ("", "<", 0),
    ],
)
def test_the_longest_end_that_may_become_a_mark_is_held_back(text: str, mark: str, length: int) -> None:
    assert partial_end(text, mark) == length
