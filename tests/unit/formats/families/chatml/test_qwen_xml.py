from tests.support.conversations import TOOLS
from tests.support.tagged_output import read
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats import format_named
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, Item, Message, OutputText, Reasoning, ReasoningText
from hotloop.protocol.tools import decode_tools
from hotloop.seams.format import Extension
from hotloop.seams.prompt import PromptContext

TOKENIZER = ToyTokenizer()
CODER = format_named("qwen3-coder", TOKENIZER)
QWEN35 = format_named("qwen3.5", TOKENIZER)
CONTEXT = PromptContext(tools=TOOLS)
USER = Message(role="user", content=" hi\n")
THOUGHT = Reasoning(content=[ReasoningText(text="hm")])
SAID = Message(role="assistant", content=[OutputText(text="Look:")])
CALL = FunctionCall(
    call_id="1", name="shell", arguments='{"zeta": 3, "alpha": "a\\nb", "x": [1, true], "y": null, "z": false}'
)
OUTPUT = FunctionCallOutput(call_id="1", output=" a.txt ")
CALL_TEXT = (
    "<tool_call>\n<function=shell>\n<parameter=zeta>\n3\n</parameter>\n<parameter=alpha>\na\nb\n</parameter>\n"
    "<parameter=x>\n[1, true]\n</parameter>\n<parameter=y>\nNone\n</parameter>\n<parameter=z>\nFalse\n</parameter>\n"
    "</function>\n</tool_call>"
)


def written(family: str, items: list[Item], context: PromptContext | None = None) -> str:
    format = format_named(family, TOKENIZER)
    start = format.begin(context or PromptContext())
    extension = format.extend(start.state, len(start.tokens), items)
    assert isinstance(extension, Extension)
    return TOKENIZER.decode(extension.tokens)


def test_a_tool_loop_of_qwen35_byte_for_byte() -> None:
    assert written("qwen3.5", [USER, THOUGHT, SAID, CALL, OUTPUT, OUTPUT]) == (
        "<|im_start|>user\nhi<|im_end|>\n"
        f"<|im_start|>assistant\n<think>\nhm\n</think>\n\nLook:\n\n{CALL_TEXT}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\na.txt\n</tool_response>\n<tool_response>\na.txt\n</tool_response><|im_end|>\n"
    )


def test_a_tool_loop_of_qwen3_coder_byte_for_byte() -> None:
    assert written("qwen3-coder", [USER, THOUGHT, CALL, CALL, OUTPUT, OUTPUT]) == (
        f"<|im_start|>user\n hi\n<|im_end|>\n<|im_start|>assistant\n{CALL_TEXT}\n{CALL_TEXT}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n a.txt \n</tool_response>\n<tool_response>\n a.txt \n</tool_response>\n<|im_end|>\n"
    )


def test_coder_shows_its_tools_in_xml() -> None:
    schema = '{"type":"object","properties":{"p":{"type":["string","null"],"description":" d ","enum":["a"],"min":1},"q":true}'
    tools = decode_tools(
        f'[{{"type":"function","name":"f","description":" does ","parameters":{schema},"required":["p"],"x":null}}}}]'.encode()
    )
    text = TOKENIZER.decode(CODER.begin(PromptContext("Be brief.", tools)).tokens)
    assert text.startswith(
        "<|im_start|>system\nBe brief.\n\n# Tools\n\nYou have access to the following tools:\n\n<tools>"
        "\n<function>\n<name>f</name>"
        "\n<description>does</description>\n<parameters>\n<parameter>\n<name>p</name>\n<type>['string', 'null']</type>"
        '\n<description>d</description>\n<enum>["a"]</enum>\n<min>1</min>\n</parameter>\n<parameter>\n<name>q</name>'
        '\n</parameter>\n<required>["p"]</required>\n<x>None</x>\n</parameters>\n</function>\n</tools>'
    )


def test_every_answer_is_written_again_at_the_next_question_unless_reasoning_is_kept() -> None:
    for keep in (False, True):
        context = PromptContext(keep_reasoning=keep)
        start = QWEN35.begin(context)
        asked = QWEN35.extend(start.state, 0, [USER, SAID])
        assert isinstance(asked, Extension)
        assert TOKENIZER.decode(asked.tokens).endswith("<think>\n\n</think>\n\nLook:<|im_end|>\n")
        again = QWEN35.extend(asked.state, len(asked.tokens), [USER])
        assert isinstance(again, Extension)
        assert again.reason == (None if keep else "reasoning_dropped")


def test_the_generation_prompt_opens_the_block_or_closes_it() -> None:
    on, off = (QWEN35.begin(PromptContext(reasoning_effort=effort)).state for effort in (None, "none"))
    assert TOKENIZER.decode(QWEN35.generation_prompt(on)) == "<|im_start|>assistant\n<think>\n"
    assert TOKENIZER.decode(QWEN35.generation_prompt(off)) == "<|im_start|>assistant\n<think>\n\n</think>\n\n"


def test_arguments_that_are_no_object_stand_as_they_are() -> None:
    broken = FunctionCall(call_id="1", name="shell", arguments="[1")
    assert "<function=shell>\n[1\n</function>" in written("qwen3-coder", [broken])


def test_a_thought_that_was_cut_is_closed() -> None:
    start = QWEN35.begin(PromptContext())
    committed = QWEN35.commit(start.state, 0, list(TOKENIZER.encode("hm")), [THOUGHT])
    assert TOKENIZER.decode(committed.tokens) == "<|im_start|>assistant\n<think>\nhm\n</think>\n\n<|im_end|>\n"


def test_reasoning_is_read_from_the_first_token_on() -> None:
    text = f" hm\n</think>\n\nLook:\n\n{CALL_TEXT}"
    arguments = '{"zeta": 3, "alpha": "a\\nb", "x": "[1, true]", "y": "None", "z": "False"}'
    expected = [("reasoning", "hm"), ("message", "Look:"), ("function_call:shell", arguments)]
    assert read(QWEN35, TOKENIZER, text, CONTEXT) == expected
    assert read(QWEN35, TOKENIZER, text, CONTEXT, spelled=True) == expected


def test_values_are_typed_by_the_schema() -> None:
    tools = decode_tools(
        b'[{"type":"function","name":"f","parameters":{"type":"object","$defs":{"n":{"type":"number"}},"properties":{'
        b'"s":{"type":"string"},"i":{"type":"integer"},"n":{"$ref":"#/$defs/n"},"b":{"type":"boolean"},'
        b'"o":{"anyOf":[{"type":"object"},{"type":"null"}]},"m":{"type":["string","null"]},"e":{"enum":[1,"a"]}}}}]'
    )

    def value(key: str, text: str) -> str:
        output = f"<tool_call>\n<function=f>\n<parameter={key}>\n{text}\n</parameter>\n</function>\n</tool_call>"
        [(_, arguments)] = read(CODER, TOKENIZER, output, PromptContext(tools=tools))
        return arguments.removeprefix(f'{{"{key}": ').removesuffix("}")

    assert value("s", "12") == '"12"'
    assert value("i", "12") == "12"
    assert value("i", "twelve") == '"twelve"'
    assert value("n", "1.50") == "1.50"
    assert [value("b", text) for text in ("True", "false")] == ["true", "false"]
    assert value("o", '{"a": [1]}') == '{"a": [1]}'
    assert [value("o", "None"), value("m", "null"), value("m", "7")] == ["null", "null", '"7"']
    assert [value("e", "1"), value("e", "a")] == ["1", '"a"']
    assert value("unknown", "12") == '"12"'
    assert value("s", "") == '""'
    assert value("s", "a</param\n\n") == '"a</param\\n\\n"'


def test_custom_tools_get_their_text() -> None:
    text = '<tool_call>\n<function=python>\n<parameter=input>\nprint("a")\n\n</parameter>\n</function>\n</tool_call>'
    assert read(CODER, TOKENIZER, text, CONTEXT) == [("custom_tool_call:python", 'print("a")\n')]
    empty = "<tool_call>\n<function=python>\n</function>\n</tool_call>"
    assert read(CODER, TOKENIZER, empty, CONTEXT) == [("custom_tool_call:python", "")]


def test_forgotten_tags_are_forgiven() -> None:
    head = "<tool_call>\n<function=shell>\n<parameter=alpha>\nx"
    expected = [("function_call:shell", '{"alpha": "x"}')]
    for tail in (
        "\n</tool_call>",
        "\n</function>\n</tool_call>",
        "</parameter></function></tool_call>",
        "\n</parameter>\n",
    ):
        assert read(CODER, TOKENIZER, head + tail, CONTEXT) == expected
    assert read(CODER, TOKENIZER, "<tool_call><function=bare></tool_call>", CONTEXT) == [("function_call:bare", "{}")]


def test_a_malformed_call_comes_out_as_text() -> None:
    for call in (
        "<tool_call>\nnot a call\n</tool_call>",
        "<tool_call>\n<function=>\n</tool_call>",
        "<tool_call><func",
        "<tool_call>",
    ):
        for spelled in (False, True):
            assert read(CODER, TOKENIZER, f"Hi\n{call}", CONTEXT, spelled=spelled) == [("message", f"Hi\n{call}")]


def test_text_between_arguments_is_delivered_as_it_is() -> None:
    text = "<tool_call>\n<function=shell>\noops\n</function>\n</tool_call>after"
    assert read(CODER, TOKENIZER, text, CONTEXT) == [
        ("function_call:shell", "oops\n</function>\n"),
        ("message", "after"),
    ]
    text = "<tool_call>\n<function=shell>\n</function> and more</tool_call>"
    assert read(CODER, TOKENIZER, text, CONTEXT) == [("function_call:shell", "{}"), ("message", "and more")]


def test_output_cut_inside_a_call_is_incomplete() -> None:
    head = "<tool_call>\n<function=shell>\n<parameter=alpha>\nx\n</par"
    assert read(CODER, TOKENIZER, head, CONTEXT, complete=False) == [("!function_call:shell", '{"alpha": "x\\n</par')]
    whole = "<tool_call>\n<function=shell>\n</function>"
    assert read(CODER, TOKENIZER, whole, CONTEXT, complete=False) == [("function_call:shell", "{}")]
    assert read(CODER, TOKENIZER, "<tool_call>\n<function=sh", CONTEXT, complete=False) == [
        ("!message", "<tool_call>\n<function=sh")
    ]
