import pytest
from tests.support.conversations import TOOLS
from tests.support.tagged_output import read
from tests.support.toy_tokenizer import GLM_SPECIALS, ToyTokenizer

from hotloop.formats import format_named
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, Item, Message, OutputText, Reasoning, ReasoningText
from hotloop.seams.format import Extension, Format
from hotloop.seams.prompt import PromptContext

TOKENIZER = ToyTokenizer(GLM_SPECIALS)
GLM46 = format_named("glm-4.6", TOKENIZER)
GLM47 = format_named("glm-4.7", TOKENIZER)
CONTEXT = PromptContext(tools=TOOLS)
OFF = PromptContext(reasoning_effort="none")
USER = Message(role="user", content="hi")
THOUGHT = Reasoning(content=[ReasoningText(text=" hm\n")])
SAID = Message(role="assistant", content=[OutputText(text="Look:")])
CALL = FunctionCall(call_id="1", name="shell", arguments='{"zeta": 3, "alpha": "a\\nb", "y": null}')
OUTPUT = FunctionCallOutput(call_id="1", output="a.txt")
CALL_46 = (
    "<tool_call>shell\n<arg_key>zeta</arg_key>\n<arg_value>3</arg_value>\n<arg_key>alpha</arg_key>\n"
    "<arg_value>a\nb</arg_value>\n<arg_key>y</arg_key>\n<arg_value>null</arg_value>\n</tool_call>"
)
CALL_47 = CALL_46.replace(">\n<", "><").replace("shell\n", "shell")


def extended(format: Format, items: list[Item], context: PromptContext | None = None) -> tuple[Extension, int]:
    start = format.begin(context or PromptContext())
    extension = format.extend(start.state, len(start.tokens), items)
    assert isinstance(extension, Extension)
    return extension, len(start.tokens) + len(extension.tokens)


def written(format: Format, items: list[Item], context: PromptContext | None = None) -> str:
    return TOKENIZER.decode(extended(format, items, context)[0].tokens)


def test_tool_loops_byte_for_byte() -> None:
    items: list[Item] = [USER, THOUGHT, SAID, CALL, OUTPUT, OUTPUT]
    assert written(GLM46, items) == (
        f"<|user|>\nhi<|assistant|>\n<think>hm</think>\nLook:\n{CALL_46}<|observation|>\n<tool_response>\na.txt\n"
        "</tool_response>\n<tool_response>\na.txt\n</tool_response>"
    )
    assert written(GLM47, items) == (
        f"<|user|>hi<|assistant|><think>hm</think>Look:{CALL_47}<|observation|><tool_response>a.txt</tool_response>"
        "<tool_response>a.txt</tool_response>"
    )


def test_an_answer_without_reasoning() -> None:
    assert written(GLM46, [USER, SAID]) == "<|user|>\nhi<|assistant|>\n<think></think>\nLook:"
    assert written(GLM47, [USER, SAID]) == "<|user|>hi<|assistant|></think>Look:"


def test_generation_prompts() -> None:
    prompts = [
        TOKENIZER.decode(format.generation_prompt(format.begin(context).state))
        for format in (GLM46, GLM47)
        for context in (PromptContext(), OFF)
    ]
    assert prompts == [
        "<|assistant|>",
        "<|assistant|>\n<think></think>",
        "<|assistant|><think>",
        "<|assistant|></think>",
    ]


def test_thinking_switched_off_marks_every_question_once() -> None:
    asked = written(GLM46, [USER, Message(role="user", content="do it/nothink")], OFF)
    assert asked == "<|user|>\nhi/nothink<|user|>\ndo it/nothink"
    tokens = extended(GLM46, [USER, Message(role="user", content="do it/nothink")], OFF)[0].tokens
    assert list(tokens).count(TOKENIZER.special_ids["/nothink"]) == 2
    assert written(GLM47, [USER], OFF) == "<|user|>hi"


@pytest.mark.parametrize("format", [GLM46, GLM47])
def test_the_next_question_drops_reasoning_unless_it_is_kept(format: Format) -> None:
    for keep in (False, True):
        asked, length = extended(format, [USER, THOUGHT, SAID], PromptContext(keep_reasoning=keep))
        again = format.extend(asked.state, length, [USER])
        assert isinstance(again, Extension)
        assert again.reason == (None if keep else "reasoning_dropped")
        assert ("hm" in TOKENIZER.decode(again.tokens)) is False


def test_outputs_that_come_apart_share_a_message_without_a_rewind() -> None:
    asked, length = extended(GLM46, [USER, CALL, OUTPUT])
    more = GLM46.extend(asked.state, length, [OUTPUT])
    assert isinstance(more, Extension)
    assert (more.reason, TOKENIZER.decode(more.tokens)) == (None, "\n<tool_response>\na.txt\n</tool_response>")


def test_the_stop_token_opens_the_next_message_and_is_not_kept() -> None:
    start = GLM47.begin(PromptContext())
    answer: list[Item] = [THOUGHT, CALL]
    sampled = GLM47.encode_items(PromptContext(), answer)
    assert TOKENIZER.decode(sampled) == f"hm</think>{CALL_47}<|observation|>"
    committed = GLM47.commit(start.state, len(start.tokens), sampled, answer)
    assert TOKENIZER.decode(committed.tokens) == f"<|assistant|><think>hm</think>{CALL_47}"
    assert TOKENIZER.decode(GLM47.encode_items(PromptContext(), [THOUGHT, SAID])).endswith("Look:<|user|>")


def test_a_thought_that_was_cut_is_closed() -> None:
    start = GLM47.begin(PromptContext())
    committed = GLM47.commit(start.state, len(start.tokens), list(TOKENIZER.encode("hm")), [THOUGHT])
    assert TOKENIZER.decode(committed.tokens) == "<|assistant|><think>hm</think>"


@pytest.mark.parametrize("spelled", [False, True], ids=["ids", "spelled"])
def test_reasoning_text_and_calls_are_read(spelled: bool) -> None:
    arguments = '{"zeta": 3, "alpha": "a\\nb", "y": null}'
    tokenizer = ToyTokenizer(GLM_SPECIALS[:7]) if spelled else TOKENIZER  # a vocabulary without the inner markers
    expected = [
        ("reasoning", "hm"),
        ("message", "Look:"),
        ("function_call:shell", arguments),
        ("function_call:bare", "{}"),
    ]
    text = f"\n<think>hm</think>\nLook:\n{CALL_46}\n<tool_call>bare\n</tool_call>"
    assert read(format_named("glm-4.6", tokenizer), tokenizer, text, CONTEXT) == expected
    text = f"hm</think>Look:{CALL_47}<tool_call>bare</tool_call>"
    assert read(format_named("glm-4.7", tokenizer), tokenizer, text, CONTEXT) == expected


def test_a_value_may_hold_the_spelling_of_any_tag() -> None:
    ids = [*TOKENIZER.encode("</arg_value></tool_call><arg_key>")]
    parts = [TOKENIZER.special_ids[mark] for mark in ("<tool_call>", "<arg_key>", "</arg_key>", "<arg_value>")]
    call, key, key_end, value = parts
    end, call_end = (TOKENIZER.special_ids[mark] for mark in ("</arg_value>", "</tool_call>"))
    name, alpha = list(TOKENIZER.encode("shell")), list(TOKENIZER.encode("alpha"))
    parser = GLM46.parser(PromptContext(tools=TOOLS, reasoning_effort="none"))
    sampled = [call, *name, key, *alpha, key_end, value, *ids, end, call_end]
    events = parser.feed(sampled, None) + parser.finish(complete=True)
    assert "</arg_value></tool_call><arg_key>" in str(events)


def test_an_untyped_value_is_what_it_looks_like() -> None:
    text = "</think><tool_call>bare<arg_key>k</arg_key><arg_value>{}</arg_value></tool_call>"
    assert read(GLM47, TOKENIZER, text.replace("{}", "[1, 2]"), CONTEXT) == [("function_call:bare", '{"k": [1, 2]}')]
    assert read(GLM47, TOKENIZER, text.replace("{}", "plain"), CONTEXT) == [("function_call:bare", '{"k": "plain"}')]


def test_a_malformed_call_comes_out_as_text() -> None:
    for call in ("<tool_call>no name at all</tool_call>", "<tool_call></tool_call>", "<tool_call>"):
        assert read(GLM46, TOKENIZER, f"\n<think></think>\nHi\n{call}", CONTEXT) == [("message", f"Hi\n{call}")]


def test_a_spelled_marker_begins_no_call_where_there_is_a_token_for_it() -> None:
    text = "\n<think></think>\nwrite <tool_call>name"
    format = format_named("glm-4.6", TOKENIZER)
    parser = format.parser(CONTEXT)
    ids = [*TOKENIZER.encode("\n"), TOKENIZER.special_ids["<think>"], TOKENIZER.special_ids["</think>"]]
    events = parser.feed([*ids, *TOKENIZER.encode(text.split("</think>")[1])], None) + parser.finish(complete=True)
    assert "write <tool_call>name" in str(events)


def test_output_cut_inside_a_call_is_incomplete() -> None:
    cut = "</think><tool_call>shell<arg_key>alpha</arg_key><arg_value>x"
    assert read(GLM47, TOKENIZER, cut, CONTEXT, complete=False) == [("!function_call:shell", '{"alpha": "x')]
    assert read(GLM47, TOKENIZER, "</think><tool_call>she", CONTEXT, complete=False) == [("!message", "<tool_call>she")]
