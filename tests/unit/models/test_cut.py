from array import array
from collections.abc import Sequence

import pytest
from tests.support.toy_format import ARGS, END, TEXT, THINK, TOOL, ToyParser, say, think
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats import chatml
from hotloop.models.cut import length_of_items
from hotloop.protocol.items import FunctionCall, Item, Message, OutputText, Reasoning, ReasoningText
from hotloop.seams.prompt import PromptContext


def kept(ids: Sequence[int], count: int) -> Sequence[int]:
    length = length_of_items(ToyParser, array("I", ids), count)
    assert length is not None
    return ids[:length]


def test_no_item_is_no_token() -> None:
    assert kept(say("hi"), 0) == []


def test_an_item_ends_before_the_mark_that_begins_the_next() -> None:
    ids = think("hm", say("hello"))
    assert kept(ids, 1) == [THINK, *map(ord, "hm")]


def test_the_last_item_keeps_the_mark_that_ends_it() -> None:
    ids = think("hm", say("hello"))
    assert kept(ids, 2) == ids


def test_a_call_is_kept_whole() -> None:
    ids = [TOOL, *map(ord, "run"), ARGS, *map(ord, "{}"), TEXT, *map(ord, "and"), END]
    assert kept(ids, 1) == ids[:7]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_chatml_keeps_the_whole_items_and_nothing_of_the_next(count: int) -> None:
    tokenizer = ToyTokenizer()
    format = chatml(tokenizer, thinking=True)
    items: list[Item] = [
        Reasoning(content=[ReasoningText(text="Let me see.")]),
        Message(role="assistant", content=[OutputText(text="I look it up.")]),
        FunctionCall(call_id="call_1", name="look_up", arguments='{"key": "a"}'),
        FunctionCall(call_id="call_2", name="look_up", arguments='{"key": "b"}'),
    ]
    context = PromptContext()
    sampled = format.encode_items(context, items)
    length = length_of_items(lambda: format.parser(context), sampled, count)
    assert length is not None
    text = b"".join(map(tokenizer.piece, sampled[:length])).decode()
    marks = ["Let me see.", "I look it up.", '"a"', '"b"']
    assert all(mark in text for mark in marks[:count])
    assert not any(mark in text for mark in marks[count:])
    assert text.count("<tool_call>") == text.count("</tool_call>") == max(0, count - 2)
