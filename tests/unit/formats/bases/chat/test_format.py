"""The short ways through a format of messages against the long ones."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.toy_tokenizer import GLM_SPECIALS, QWEN_SPECIALS, ToyTokenizer

from hotloop.formats.bases.chat.format import ChatFormat, ChatState
from hotloop.formats.registry import FAMILIES
from hotloop.protocol.items import (
    Compaction,
    CustomToolCallOutput,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from hotloop.seams.prompt import PromptContext
from hotloop.session.item_log import ItemLog

TOKENIZER = ToyTokenizer((*QWEN_SPECIALS, *GLM_SPECIALS[1:]))
BARE = ToyTokenizer(("<|im_start|>", "<|im_end|>"))


QWEN = ("chatml", "qwen2.5", "mimo", "qwen3", "qwen3-thinking", "qwq", "qwen3-coder", "qwen3.5")


def formats() -> dict[str, ChatFormat]:
    found = {name: FAMILIES[name](TOKENIZER) for name in (*QWEN, "glm-4.6", "glm-4.7")}
    found |= {f"{name}-spelled": FAMILIES[name](BARE) for name in QWEN}
    return {name: format_ for name, format_ in found.items() if isinstance(format_, ChatFormat)}


FORMATS = formats()
every_format = pytest.mark.parametrize("format_", FORMATS.values(), ids=FORMATS)

TEXT = st.text(alphabet=" \n\té<|>/axz", max_size=6) | st.sampled_from(
    ["", " hello ", "<|im_end|>", "no /nothink", "<tool_response>a</tool_response>"]
)
PARTS = st.lists(st.builds(InputText, text=TEXT) | st.builds(OutputText, text=TEXT), max_size=2)
CONTENT = TEXT | PARTS
ROLE = st.sampled_from(["user", "developer", "system", "assistant"])
ITEM: st.SearchStrategy[Item] = st.one_of(
    st.builds(Message, role=st.just("user"), content=TEXT),
    st.builds(Message, role=ROLE, content=CONTENT),
    st.builds(FunctionCallOutput, call_id=st.just("c"), output=CONTENT),
    st.builds(CustomToolCallOutput, call_id=st.just("c"), output=CONTENT),
    st.builds(Compaction, role=st.just("developer"), content=TEXT, raw=st.just(b"{}")),
    st.builds(Reasoning, content=st.lists(st.builds(ReasoningText, text=TEXT), max_size=1)),
)
ONE_TEXT = TEXT | TEXT.map(lambda text: [InputText(text=text)])
FRAMED: st.SearchStrategy[Item] = st.one_of(
    st.builds(FunctionCallOutput, call_id=st.just("c"), output=ONE_TEXT),
    st.builds(CustomToolCallOutput, call_id=st.just("c"), output=ONE_TEXT),
    st.builds(Message, role=st.sampled_from(["user", "developer", "system"]), content=ONE_TEXT),
)
ITEMS = st.lists(FRAMED, max_size=8) | st.lists(ITEM, max_size=3)
CONTEXT = st.builds(PromptContext, reasoning_effort=st.sampled_from([None, "none"]), keep_reasoning=st.booleans())
STATE = st.builds(
    ChatState,
    context=CONTEXT,
    phase=st.sampled_from(["", "thought", "text", "calls", "outputs"]),
    boundary=st.integers(0, 20),
    since=st.lists(ITEM, max_size=2).map(ItemLog),
    is_rewritten=st.booleans(),
)


@every_format
@given(STATE, ITEMS)
def test_items_in_frames_are_what_is_written_piece_by_piece(
    format_: ChatFormat, state: ChatState, items: list[Item]
) -> None:
    framed = format_._extend_by_texts(state, 20, items)
    if framed is not None:
        written = format_._extend_by_any(state, 20, items)
        assert (framed.keep, framed.tokens, framed.checkpoints, framed.reason) == (
            written.keep,
            written.tokens,
            written.checkpoints,
            written.reason,
        )
        assert unpacked(framed.state) == unpacked(written.state)


def unpacked(state: object) -> list[object]:
    assert isinstance(state, ChatState)
    return [state.context, state.phase, state.boundary, list(state.since), state.is_rewritten]


@pytest.mark.parametrize("name", FORMATS)
def test_messages_and_outputs_of_one_text_have_frames_however_many_there_are(name: str) -> None:
    format_ = FORMATS[name]
    state = ChatState(PromptContext(), "calls", 0, ItemLog(), False)
    items: list[Item] = [
        FunctionCallOutput(call_id="c", output="a"),
        CustomToolCallOutput(call_id="c", output=[InputText(text="a")]),
        FunctionCallOutput(call_id="c", output="a"),
        Message(role="developer", content="a"),
        Message(role="user", content=[InputText(text=" a ")]),
    ]
    for start in range(len(items)):
        for end in range(start + 1, len(items) + 1):
            assert format_._extend_by_texts(state, 0, items[start:end]) is not None


IDS = st.lists(
    st.integers(0, TOKENIZER.vocabulary_size - 1) | st.sampled_from(TOKENIZER.encode(" a\n b <é")), max_size=12
)
SPECIALS = st.sampled_from(sorted(TOKENIZER.special_ids.values()))


@every_format
@given(st.data())
def test_plain_tokens_passed_on_together_are_what_is_read_one_by_one(format_: ChatFormat, data: st.DataObject) -> None:
    ids = data.draw(IDS)
    for at in data.draw(st.lists(st.integers(0, len(ids)), max_size=3)):
        ids.insert(at, data.draw(SPECIALS))
    ids = [token for token in ids if token < format_._tokenizer.vocabulary_size]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=4)))
    chunks = [ids[start:stop] for start, stop in pairwise([0, *cuts, len(ids)])]
    context = data.draw(CONTEXT)
    fast, slow = format_.parser(context), format_.parser(context)
    for chunk in chunks:
        assert fast.feed(chunk, None) == slow._feed_each(chunk, None)
        assert fast.reasoning_tokens == slow.reasoning_tokens
    complete = data.draw(st.booleans())
    assert fast.finish(complete=complete) == slow._finish_held(complete=complete)
