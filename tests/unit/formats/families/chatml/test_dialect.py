import pytest
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats import ChatFormat, chatml, format_named
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    Refusal,
    SummaryText,
)
from hotloop.protocol.tools import decode_tools
from hotloop.seams.format import Extension, RenderState
from hotloop.seams.prompt import PromptContext

TOKENIZER = ToyTokenizer()
USER = Message(role="user", content="hi")
CALL = FunctionCall(call_id="1", name="ls", arguments="{}")
OUTPUT = FunctionCallOutput(call_id="1", output="a.txt")
QWEN3 = chatml(TOKENIZER, thinking=True)


def thought(text: str) -> Reasoning:
    return Reasoning(content=[ReasoningText(text=text)])


def said(text: str) -> Message:
    return Message(role="assistant", content=[OutputText(text=text)])


def prefix(format: ChatFormat, context: PromptContext) -> str:
    return TOKENIZER.decode(format.begin(context).tokens)


def extended(
    format: ChatFormat, items: list[Item], context: PromptContext | None = None
) -> tuple[RenderState, int, str]:
    start = format.begin(context or PromptContext())
    extension = format.extend(start.state, len(start.tokens), items)
    assert isinstance(extension, Extension)
    return extension.state, len(start.tokens) + len(extension.tokens), TOKENIZER.decode(extension.tokens)


def test_the_preamble_byte_for_byte() -> None:
    tools = decode_tools(
        '[{"type":"function","name":"ls","description":"Lists é","parameters":{"type":"object","b":1,"a":2}},'
        '{"type":"function","name":"now","strict":true}]'.encode()
    )
    assert prefix(format_chatml(), PromptContext("Be brief.", tools)) == (
        "<|im_start|>system\nBe brief.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
        '{"type": "function", "function": {"name": "ls", "description": "Lists é", '
        '"parameters": {"type": "object", "b": 1, "a": 2}}}\n'
        '{"type": "function", "function": {"name": "now"}}\n'
        "</tools>\n\nFor each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n<tool_call>\n"
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
    )


def format_chatml() -> ChatFormat:
    return chatml(TOKENIZER, thinking=False)


def test_there_is_no_system_message_without_instructions_and_tools() -> None:
    assert prefix(format_chatml(), PromptContext()) == ""
    assert prefix(format_chatml(), PromptContext("")) == ""
    assert prefix(format_chatml(), PromptContext("Be brief.")) == "<|im_start|>system\nBe brief.<|im_end|>\n"


def test_qwen25_introduces_itself_where_nothing_else_is_said() -> None:
    qwen25 = format_named("qwen2.5", TOKENIZER)
    assert isinstance(qwen25, ChatFormat)
    assert "You are Qwen" in prefix(qwen25, PromptContext())
    assert "You are Qwen" not in prefix(qwen25, PromptContext("Be brief."))


def test_markers_of_the_fixed_text_are_control_tokens_and_names_in_tools_are_not() -> None:
    tools = decode_tools(b'[{"type":"function","name":"ls","description":"<tool_call>"}]')
    tokens = format_chatml().begin(PromptContext(None, tools)).tokens
    assert tokens.count(TOKENIZER.special_ids["<tool_call>"]) == 2


@pytest.mark.parametrize("syntax", ["lark", "regex"])
def test_a_custom_tool_is_shown_as_a_function_with_its_grammar(syntax: str) -> None:
    tools = decode_tools(
        b'[{"type":"custom","name":"py","format":{"type":"grammar","syntax":"%b","definition":"x+"}}]' % syntax.encode()
    )
    shown = prefix(format_chatml(), PromptContext(None, tools))
    assert f'"input": {{"type": "string", "description": "Text that this {syntax} grammar accepts:\\nx+"}}' in shown


def test_reasoning_stays_inside_the_tool_loop_and_goes_with_the_next_question() -> None:
    start: list[Item] = [USER]
    state, length, _ = extended(QWEN3, start)
    answer: list[Item] = [thought("hm"), CALL]
    committed = QWEN3.commit(state, length, QWEN3.encode_items(PromptContext(), answer), answer)
    looped = QWEN3.extend(committed.state, length + len(committed.tokens), [OUTPUT])
    assert isinstance(looped, Extension) and looped.reason is None
    end = length + len(committed.tokens) + len(looped.tokens)
    asked = QWEN3.extend(looped.state, end, [USER])
    assert isinstance(asked, Extension)
    assert (asked.keep, asked.reason) == (length, "reasoning_dropped")
    assert "hm" not in TOKENIZER.decode(asked.tokens)
    again = QWEN3.extend(asked.state, length + len(asked.tokens), [USER])
    assert isinstance(again, Extension) and again.reason is None


def test_keep_reasoning_never_rewinds() -> None:
    context = PromptContext(keep_reasoning=True)
    state, length, text = extended(QWEN3, [USER, thought("hm"), said("so"), USER], context)
    assert "<think>\nhm\n</think>\n\nso" in text
    more = QWEN3.extend(state, length, [USER])
    assert isinstance(more, Extension) and more.keep == length


def test_a_question_rewinds_to_the_question_before_and_no_further() -> None:
    state, length, _ = extended(QWEN3, [USER, said("one"), USER])
    answer: list[Item] = [thought("hm"), said("two")]
    committed = QWEN3.commit(state, length, QWEN3.encode_items(PromptContext(), answer), answer)
    asked = QWEN3.extend(committed.state, length + len(committed.tokens), [USER])
    assert isinstance(asked, Extension) and asked.keep == length
    assert TOKENIZER.decode(asked.tokens) == "<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"


def test_thinking_switched_off_writes_an_empty_block_and_drops_it_later() -> None:
    context = PromptContext(reasoning_effort="none")
    state, length, _ = extended(QWEN3, [USER], context)
    assert TOKENIZER.decode(QWEN3.generation_prompt(state)) == "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    answer: list[Item] = [said("two")]
    committed = QWEN3.commit(state, length, QWEN3.encode_items(context, answer), answer)
    asked = QWEN3.extend(committed.state, length + len(committed.tokens), [USER])
    assert isinstance(asked, Extension) and asked.reason == "reasoning_dropped"
    assert "<think>" not in TOKENIZER.decode(asked.tokens)


def test_effort_none_means_nothing_to_a_model_that_does_not_think() -> None:
    plain = format_chatml()
    state, _, text = extended(plain, [USER, thought("hm"), said("a")], PromptContext(reasoning_effort="none"))
    assert "think" not in text + TOKENIZER.decode(plain.generation_prompt(state))


def test_an_answer_cut_inside_its_reasoning_is_closed() -> None:
    state, length, _ = extended(QWEN3, [USER])
    cut = [TOKENIZER.special_ids["<think>"], *TOKENIZER.encode("\nhm")]
    committed = QWEN3.commit(state, length, cut, [thought("hm")])
    assert TOKENIZER.decode(committed.tokens) == "<|im_start|>assistant\n<think>\nhm\n</think>\n\n<|im_end|>\n"


def test_another_stop_token_gives_way_to_the_end_of_the_message() -> None:
    state, length, _ = extended(QWEN3, [USER])
    sampled = [*TOKENIZER.encode("ok"), TOKENIZER.special_ids["<|endoftext|>"]]
    committed = QWEN3.commit(state, length, sampled, [said("ok")])
    assert TOKENIZER.decode(committed.tokens) == "<|im_start|>assistant\nok<|im_end|>\n"


def test_a_tool_answer_sent_as_user_text_is_no_question() -> None:
    state, length, _ = extended(QWEN3, [USER, thought("hm"), said("call me")])
    more = QWEN3.extend(state, length, [Message(role="user", content="<tool_response>\nx\n</tool_response>")])
    assert isinstance(more, Extension) and more.reason is None


def test_outputs_that_come_apart_still_share_a_message() -> None:
    plain = format_chatml()
    state, length, text = extended(plain, [USER, CALL, OUTPUT])
    more = plain.extend(state, length, [OUTPUT])
    assert isinstance(more, Extension) and more.reason == "message_reopened"
    assert text.endswith("\na.txt\n</tool_response><|im_end|>\n")
    assert TOKENIZER.decode(more.tokens) == "\n<tool_response>\na.txt\n</tool_response><|im_end|>\n"


def test_items_that_show_nothing_change_nothing() -> None:
    state, length, _ = extended(format_chatml(), [USER])
    nothing = format_chatml().extend(state, length, [said(""), thought("hm")])
    assert isinstance(nothing, Extension)
    assert (nothing.keep, len(nothing.tokens)) == (length, 0)


def test_a_summary_stands_in_for_reasoning_that_is_gone() -> None:
    _, _, text = extended(QWEN3, [USER, Reasoning(summary=[SummaryText(text="in short")]), said("a")])
    assert "<think>\nin short\n</think>\n\na" in text


def test_a_refusal_is_text_and_empty_arguments_are_an_empty_object() -> None:
    call = FunctionCall(call_id="1", name="ls", arguments=" ")
    _, _, text = extended(format_chatml(), [Message(role="assistant", content=[Refusal(refusal="no")]), call])
    assert text == '<|im_start|>assistant\nno\n<tool_call>\n{"name": "ls", "arguments": {}}\n</tool_call><|im_end|>\n'


def test_a_custom_call_renders_as_json() -> None:
    _, _, text = extended(format_chatml(), [CustomToolCall(call_id="1", name="py", input='"é"\n')])
    assert '"arguments": {"input": "\\"é\\"\\n"}' in text


def test_references_must_be_resolved_before() -> None:
    with pytest.raises(AssertionError):
        extended(format_chatml(), [ItemReference(id="x")])


def test_a_model_does_not_write_outputs() -> None:
    with pytest.raises(ValueError, match="FunctionCallOutput"):
        QWEN3.encode_items(PromptContext(), [OUTPUT])


def test_reasoning_is_not_encoded_for_a_model_that_does_not_think() -> None:
    plain = format_chatml()
    assert TOKENIZER.decode(plain.encode_items(PromptContext(), [thought("hm"), said("a")])) == "a<|im_end|>"


def test_a_vocabulary_without_message_markers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"<\|im_end\|>"):
        chatml(ToyTokenizer(["<|im_start|>"]), thinking=False)
