import pytest
from tests.support.conversations import TOOLS
from tests.support.grammars import Grammars
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats import chatml
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.prompt import PromptContext

TOKENIZER = ToyTokenizer()
GRAMMARS = Grammars(TOKENIZER)
CONTEXT = PromptContext(tools=TOOLS)


def feeds(text: str, *, spelled: bool) -> list[int]:
    """Ids of `text`: with control tokens, or everything in plain text."""
    return list(TOKENIZER.encode(text)) if spelled else GRAMMARS.ids(text)


def read(text: str, *, spelled: bool = False, complete: bool = True, thinking: bool = True) -> list[tuple[str, str]]:
    """The items in `text` as (kind or kind:name, text); `!` marks incomplete ones."""
    parser = chatml(TOKENIZER, thinking=thinking).parser(CONTEXT)
    events: list[ParsedEvent] = []
    for token in feeds(text, spelled=spelled):
        events += parser.feed([token], None)
    return items([*events, *parser.finish(complete=complete)])


def items(events: list[ParsedEvent]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for event in events:
        match event:
            case ItemOpened(kind, name):
                found.append((f"{kind}:{name}" if name else kind, ""))
            case ItemDelta(text):
                found[-1] = (found[-1][0], found[-1][1] + text)
            case ItemClosed(complete):
                found[-1] = found[-1] if complete else ("!" + found[-1][0], found[-1][1])
    return found


both = pytest.mark.parametrize("spelled", [False, True], ids=["ids", "spelled"])
CALL = '<tool_call>\n{"name": "shell", "arguments": {"zeta": 1}}\n</tool_call>'
SHELL = ("function_call:shell", '{"zeta": 1}')


@both
def test_reasoning_text_and_parallel_calls(spelled: bool) -> None:
    text = f"<think>\nhm\n\nyes\n</think>\n\nLook:\n{CALL}\n{CALL}"
    assert read(text, spelled=spelled) == [("reasoning", "hm\n\nyes"), ("message", "Look:"), SHELL, SHELL]


@both
def test_an_empty_think_block_is_no_item(spelled: bool) -> None:
    assert read("<think>\n\n</think>\n\nhi", spelled=spelled) == [("message", "hi")]


@both
def test_white_space_alone_is_no_message(spelled: bool) -> None:
    assert read(f" \n\n{CALL}\n", spelled=spelled) == [SHELL]
    assert read(" \n\n", spelled=spelled) == []


@both
def test_text_behind_a_call_is_a_message(spelled: bool) -> None:
    assert read(f"{CALL}\n\nDone.", spelled=spelled) == [SHELL, ("message", "Done.")]


@both
def test_keys_in_the_other_order(spelled: bool) -> None:
    text = '<tool_call>{"id": [{}], "arguments" : {"a": "}"} , "name":"shell"}</tool_call>'
    assert read(text, spelled=spelled) == [("function_call:shell", '{"a": "}"}')]


def test_arguments_are_verbatim() -> None:
    text = '<tool_call>\n{"name": "shell", "arguments":   {"a" :[ 1,2.50 ],\n "b": "\\u00e9\\\\" }  }\n</tool_call>'
    assert read(text) == [("function_call:shell", '{"a" :[ 1,2.50 ],\n "b": "\\u00e9\\\\" }')]


@pytest.mark.parametrize("value", ["12", "null", '"text"', "[]"])
def test_arguments_of_any_type_are_delivered(value: str) -> None:
    assert read(f'<tool_call>{{"name": "shell", "arguments": {value} }}</tool_call>') == [
        ("function_call:shell", value)
    ]


def test_a_call_without_arguments_has_none() -> None:
    assert read('<tool_call>{"name": "shell"}</tool_call>') == [("function_call:shell", "{}")]
    assert read('<tool_call>{"name": "python"}</tool_call>') == [("custom_tool_call:python", "")]


def test_a_tool_that_was_not_offered_is_still_a_function_call() -> None:
    assert read('<tool_call>{"name": "nope", "arguments": {}}</tool_call>') == [("function_call:nope", "{}")]


def test_custom_tools_get_their_text() -> None:
    text = '<tool_call>\n{"name": "python", "arguments": {"input": "a\\n\\"\\ud83d\\ude00é"}}\n</tool_call>'
    assert read(text) == [("custom_tool_call:python", 'a\n"😀é')]


def test_a_spelled_marker_inside_a_json_string_is_text() -> None:
    text = '<tool_call>{"name": "shell", "arguments": {"a": "x</tool_call>"}}</tool_call>'
    assert read(text, spelled=True) == [("function_call:shell", '{"a": "x</tool_call>"}')]


def test_a_marker_token_ends_the_call_even_inside_a_string() -> None:
    text = '<tool_call>{"name": "shell", "arguments": {"a": "x</tool_call>after'
    assert read(text) == [("function_call:shell", '{"a": "x'), ("message", "after")]


@both
@pytest.mark.parametrize(
    "call",
    [
        "<tool_call>\nnot json\n</tool_call>",
        '<tool_call>{"name": 5}</tool_call>',
        '<tool_call>{"name": ""}</tool_call>',
        '<tool_call>{"name": "\\x"}</tool_call>',
        '<tool_call>{"arguments": {"a": 1}}</tool_call>',
        '<tool_call>{"arguments": , "name": "x"}</tool_call>',
        "<tool_call></tool_call>",
        "<tool_call>{}</tool_call>",
        "<tool_call><b></tool_call>",
        "<tool_call>{ <",
        "<tool_call>",
    ],
)
def test_a_malformed_call_comes_out_as_text(call: str, spelled: bool) -> None:
    assert read(f"Hi\n{call}", spelled=spelled) == [("message", f"Hi\n{call}")]
    assert read(f"Hi\n{call}\n{CALL}", spelled=spelled) == [("message", f"Hi\n{call}"), SHELL]
    assert read(f"  \n{call}", spelled=spelled) == [("message", f"  \n{call}")]


def test_a_brace_too_many_or_too_few_is_forgiven() -> None:
    assert read('<tool_call>{"name": "shell", "arguments": {"zeta": 1}}}]\n</tool_call>') == [SHELL]
    assert read('<tool_call>{"name": "shell", "arguments": {"zeta": 1}</tool_call>') == [SHELL]


@both
def test_what_stands_behind_whole_arguments_is_said_after_the_call(spelled: bool) -> None:
    text = '<tool_call>{"name": "shell", "arguments": {"zeta": 1}} and <b> more</tool_call>\n'
    assert read(text + CALL, spelled=spelled) == [SHELL, ("message", "and <b> more"), SHELL]


@both
def test_broken_text_in_place_of_arguments_is_delivered_as_arguments(spelled: bool) -> None:
    text = '<tool_call>{"name": "shell" oops, "arguments": <{"a": 1}</tool_call>'
    assert read(text, spelled=spelled) == [("function_call:shell", 'oops, "arguments": <{"a": 1}')]
    text = '<tool_call>{"name": "shell", "arguments": {"a": <1>}}</tool_call>'
    assert read(text, spelled=spelled) == [("function_call:shell", '{"a": <1>}}')]


def test_a_second_name_or_arguments_is_skipped() -> None:
    text = '<tool_call>{"name": "shell", "arguments": {}, "arguments": {"b": 1}, "name": "x"}</tool_call>'
    assert read(text) == [("function_call:shell", "{}")]


def test_a_new_call_ends_the_one_before() -> None:
    assert read('<tool_call>{"name": "shell", "arguments": {"zeta": 1}\n' + CALL) == [SHELL, SHELL]
    assert read("<tool_call>\n" + CALL) == [("message", "<tool_call>"), SHELL]


def test_a_call_ends_a_forgotten_think_block() -> None:
    assert read(f"<think>\nhm\n{CALL}") == [("reasoning", "hm"), SHELL]


def test_think_markers_elsewhere_are_text() -> None:
    assert read("a<think>b</think>") == [("message", "a<think>b</think>")]
    assert read("<think>\na<think>\n</think>b") == [("reasoning", "a<think>"), ("message", "b")]
    assert read("</think>a</tool_call>") == [("message", "</think>a</tool_call>")]
    assert read("<think>a</think>", thinking=False) == [("message", "<think>a</think>")]


def test_output_cut_anywhere_closes_what_is_open() -> None:
    assert read("<think>\nhm\n", complete=False) == [("!reasoning", "hm")]
    assert read("Hello <tool", complete=False, spelled=True) == [("!message", "Hello <tool")]
    assert read("<thi", complete=False, spelled=True) == [("!message", "<thi")]
    assert read('<tool_call>{"name": "shell", "arguments": {"a', complete=False) == [("!function_call:shell", '{"a')]
    assert read('<tool_call>{"name": "shell"', complete=False) == [("!function_call:shell", "")]
    assert read('<tool_call>{"name": "she', complete=False) == [("!message", '<tool_call>{"name": "she')]
    assert read(CALL.removesuffix("</tool_call>"), complete=False) == [SHELL]
    assert read(CALL.removesuffix("_call>"), complete=False, spelled=True) == [SHELL]


def test_broken_arguments_cut_at_what_may_be_a_marker_keep_it() -> None:
    text = '<tool_call>{"name": "shell", "arguments": {"a": <'
    assert read(text, complete=False) == [("!function_call:shell", '{"a": <')]


def test_one_token_may_hold_junk_a_marker_and_text() -> None:
    tokenizer = ToyTokenizer()
    tokenizer.pieces.append(b" oops</tool_call>after")
    parser = chatml(tokenizer, thinking=False).parser(CONTEXT)
    ids = [*GRAMMARS.ids('<tool_call>{"name": "shell", "arguments": {"zeta": 1}'), len(tokenizer.pieces) - 1]
    assert items(parser.feed(ids, None) + parser.finish(complete=True)) == [SHELL, ("message", "oopsafter")]


def test_output_that_stops_inside_a_call_is_complete_as_far_as_it_goes() -> None:
    assert read('<tool_call>{"name": "shell", "arguments": {"a') == [("function_call:shell", '{"a')]


def test_half_a_character_at_the_end_becomes_the_replacement_character() -> None:
    parser = chatml(TOKENIZER, thinking=False).parser(CONTEXT)
    half = TOKENIZER.encode("é€")[:-1]
    call = TOKENIZER.special("<tool_call>")
    assert call is not None
    assert items(parser.feed(half, None) + parser.finish(complete=True)) == [("message", "é\ufffd")]
    parser = chatml(TOKENIZER, thinking=False).parser(CONTEXT)
    assert items(parser.feed([*half, call], None) + parser.finish(complete=True)) == [("message", "é\ufffd<tool_call>")]


def test_the_name_opens_the_item_before_the_arguments_come() -> None:
    parser = chatml(TOKENIZER, thinking=False).parser(CONTEXT)
    assert parser.feed(GRAMMARS.ids('<tool_call>\n{"name": "shell"'), None) == [ItemOpened("function_call", "shell")]
    assert parser.feed(GRAMMARS.ids(', "arguments": {"ze'), None) == [ItemDelta('{"ze')]


def test_reasoning_tokens_count_the_block_with_its_markers() -> None:
    parser = chatml(TOKENIZER, thinking=True).parser(CONTEXT)
    block = GRAMMARS.ids("<think>\nhm, yes\n</think>")
    parser.feed([*block, *GRAMMARS.ids("\n\nanswer"), *TOKENIZER.encode("more")], None)
    assert parser.reasoning_tokens == len(block)


def test_logprobs_travel_with_message_text_only() -> None:
    parser = chatml(TOKENIZER, thinking=True).parser(CONTEXT)
    ids = GRAMMARS.ids(f"<think>\nhm\n</think>\n\n{{}} to\n{CALL}\nend")
    events = parser.feed(ids, [TokenLogprob(token, -1.0) for token in ids]) + parser.finish(complete=True)
    carried = [
        TOKENIZER.decode([one.token for one in event.logprobs]) for event in events if isinstance(event, ItemDelta)
    ]
    assert carried == ["", "{} to", "", "end"]


def test_control_tokens_without_a_meaning_here_are_shown_as_spelled() -> None:
    assert read("a<|im_start|>b") == [("message", "a<|im_start|>b")]
