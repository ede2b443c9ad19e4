import json

import pytest
from tests.contracts.deepseek_cases import DEEPSEEK_SPECIALS
from tests.support.chains import GrowingChain, call_events, ids_of, message_events, read, said, thought
from tests.support.real_templates import RealTemplate, Style, template_names, template_source
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats import family_of, format_named
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    Item,
    Message,
    OpaqueItem,
)
from hotloop.protocol.tools import decode_tools
from hotloop.seams.format import Format, ItemClosed, ItemDelta, ItemOpened
from hotloop.seams.prompt import PromptContext

TOKENIZER = ToyTokenizer(DEEPSEEK_SPECIALS)
R1, V31, V32 = (format_named(f"deepseek-{version}", TOKENIZER) for version in ("r1", "v3.1", "v3.2"))
V4, FLASH = (format_named(f"deepseek-{version}", TOKENIZER) for version in ("v4", "v4-flash"))
THINKING = PromptContext("Be brief.", reasoning_effort="high")
TOOLS = decode_tools(
    json.dumps(
        [
            {"type": "function", "name": "ls", "description": "Lists é", "parameters": {"type": "object"}},
            {"type": "custom", "name": "py"},
        ]
    ).encode()
)
USER = Message(role="user", content="hi")
CALL = FunctionCall(call_id="1", name="ls", arguments='{"path": "a", "deep": true}')
OUTPUT = FunctionCallOutput(call_id="1", output="a.txt")


EOS = "<｜end▁of▁sentence｜>"
CALLS, CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
ONE, SEP, ONE_END = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
DSML_CALL = (
    '\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="ls">\n'
    '<｜DSML｜parameter name="path" string="true">a</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="deep" string="false">true</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>'
)


# --- rendering ---


def test_r1_byte_for_byte() -> None:
    chain = GrowingChain(R1, TOKENIZER, PromptContext("Be brief.")).give(
        USER, said("Looking."), CALL, CALL, OUTPUT, OUTPUT, said("done"), USER
    )
    arguments = '```json\n{"path": "a", "deep": true}\n```'
    one = f"{ONE}function{SEP}ls\n{arguments}{ONE_END}"
    result = "\n<｜tool▁output▁begin｜>a.txt<｜tool▁output▁end｜>"
    assert chain.text == (
        f"<｜begin▁of▁sentence｜>Be brief.<｜User｜>hi{EOS}<｜Assistant｜>Looking.{CALLS}{one}\n{one}{CALLS_END}{EOS}"
        f"<｜tool▁outputs▁begin｜>{result}{result}<｜tool▁outputs▁end｜>{EOS}<｜Assistant｜>done{EOS}<｜User｜>hi{EOS}"
    )
    assert chain.prompt == "<｜Assistant｜><think>\n"


def test_v31_byte_for_byte() -> None:
    chain = GrowingChain(V31, TOKENIZER, PromptContext("Be brief.")).give(
        USER, said("Looking."), CALL, CALL, OUTPUT, OUTPUT
    )
    one = f'{ONE}ls{SEP}{{"path": "a", "deep": true}}{ONE_END}'
    result = "<｜tool▁output▁begin｜>a.txt<｜tool▁output▁end｜>"
    assert chain.text == (
        f"<｜begin▁of▁sentence｜>Be brief.<｜User｜>hi<｜Assistant｜><think></think>Looking.{CALLS}{one}{one}{CALLS_END}{EOS}"
        f"{result}{result}"
    )
    assert chain.prompt == ""
    assert chain.give(USER).prompt == "<｜Assistant｜><think></think>"


def test_v32_byte_for_byte() -> None:
    chain = GrowingChain(V32, TOKENIZER, THINKING).give(USER, thought("hm"), said("Looking."), CALL, OUTPUT)
    assert chain.text == (
        f"<｜begin▁of▁sentence｜>Be brief.<｜User｜>hi<｜Assistant｜><think>hm</think>Looking.{DSML_CALL}{EOS}"
        "\n\n<function_results>\n<result>a.txt</result>\n</function_results>"
    )
    assert chain.prompt == "\n\n<think>"


_THINKS: dict[str, object] = {"thinking": True}


@pytest.mark.parametrize(
    ("format", "template", "items", "variables"),
    [
        (R1, "llama-cpp-deepseek-r1", [USER, CALL, CALL, OUTPUT, OUTPUT, said("done"), USER], {}),
        (V31, "deepseek-ai-DeepSeek-V3.1", [USER, said("so"), CALL, CALL, OUTPUT, OUTPUT, said("a"), USER], {}),
        (
            V32,
            "deepseek-ai-DeepSeek-V3.2",
            [USER, CALL, OUTPUT, said("a"), USER, said("b"), CALL, CALL, OUTPUT, OUTPUT],
            {},
        ),
        (
            V32,
            "deepseek-ai-DeepSeek-V3.2",
            [USER, thought("x"), said("a"), USER, thought("y"), CALL, OUTPUT],
            {"thinking": True},
        ),
    ],
)
def test_the_template_as_it_is_writes_the_same(
    format: Format, template: str, items: list[Item], variables: dict[str, object]
) -> None:
    context = THINKING if variables else PromptContext("Be brief.")
    real = RealTemplate(template, Style(variables={"bos_token": "<｜begin▁of▁sentence｜>", **variables}))
    assert GrowingChain(format, TOKENIZER, context).give(*items).text == real.render(context, items)


def test_v4_byte_for_byte() -> None:
    bare = FunctionCall(call_id="1", name="now", arguments="{}")
    chain = GrowingChain(V4, TOKENIZER, THINKING).give(
        USER, USER, thought("hm"), said("Looking."), CALL, bare, OUTPUT, OUTPUT, USER, said("a")
    )
    calls = DSML_CALL.replace("function_calls", "tool_calls").replace(
        "</｜DSML｜tool_calls>", '<｜DSML｜invoke name="now">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
    )
    assert chain.text == (
        f"<｜begin▁of▁sentence｜>Be brief.<｜User｜>hi\n\nhi<｜Assistant｜></think>Looking.{calls}{EOS}"
        "<｜User｜><tool_result>a.txt</tool_result>\n\n<tool_result>a.txt</tool_result>\n\nhi"
        f"<｜Assistant｜><think></think>a{EOS}"
    )
    assert chain.prompt == "<｜Assistant｜><think>"


def test_v4_keeps_reasoning_where_tools_are_offered() -> None:
    with_tools = PromptContext(None, TOOLS, reasoning_effort="high")
    chain = GrowingChain(V4, TOKENIZER, with_tools).give(USER).sample(f"hm</think>yes{EOS}", thought("hm"), said("yes"))
    assert chain.give(USER).reason is None
    assert "<think>hm</think>yes" in chain.text


def test_v4_puts_the_highest_efforts_in_front() -> None:
    def start(format: Format, effort: str) -> str:
        return GrowingChain(format, TOKENIZER, PromptContext("Be brief.", reasoning_effort=effort)).text.removeprefix(
            "<｜begin▁of▁sentence｜>"
        )

    assert start(V4, "high") == "Be brief."
    assert start(V4, "xhigh").startswith("Reasoning Effort: Absolute maximum") and start(V4, "xhigh").endswith(
        "Be brief."
    )
    assert start(V4, "max") == start(V4, "xhigh")
    assert start(FLASH, "high") == start(V4, "xhigh")
    assert start(FLASH, "xhigh").startswith("Reasoning Effort: Beyond maximum")


def test_v31_describes_tools_where_its_template_is_silent() -> None:
    text = GrowingChain(V31, TOKENIZER, PromptContext(None, TOOLS)).text
    assert text.startswith(
        "<｜begin▁of▁sentence｜>## Tools\nYou have access to the following tools:\n\n### ls\nDescription: Lists é\n\n"
        'Parameters: {"type": "object"}\n\n### py\nDescription: \n\n'
    )
    assert "Be brief.\n\n## Tools" in GrowingChain(V31, TOKENIZER, PromptContext("Be brief.", TOOLS)).text


def test_v31_with_tools_does_not_reason() -> None:
    chain = GrowingChain(V31, TOKENIZER, PromptContext(None, TOOLS, reasoning_effort="high")).give(
        USER, thought("hm"), CALL
    )
    assert "hm" not in chain.text
    assert chain.give(USER).prompt.endswith("<think></think>")


def test_v31_reasoning_reads_an_output_behind_an_open_block() -> None:
    chain = GrowingChain(V31, TOKENIZER, THINKING).give(USER, CALL, OUTPUT)
    assert chain.prompt == "<think>"
    assert chain.sample(f"so</think>done{EOS}", thought("so"), said("done")).text.endswith(
        f"<think>so</think>done{EOS}"
    )


@pytest.mark.parametrize("effort", [None, "none"])
def test_v32_without_reasoning_begins_as_its_history_reads(effort: str | None) -> None:
    chain = GrowingChain(V32, TOKENIZER, PromptContext(reasoning_effort=effort)).give(USER)
    assert chain.prompt == "<｜Assistant｜></think>"
    before = chain.sample(f"yes{EOS}", said("yes")).text
    assert chain.give(USER).reason is None
    assert chain.text.startswith(before)


@pytest.mark.parametrize(
    ("format", "block"), [(R1, "<think>\nhm\n</think>\n\n"), (V31, "<think>hm</think>"), (V32, "<think>hm</think>")]
)
def test_reasoning_goes_with_the_next_question(format: Format, block: str) -> None:
    chain = GrowingChain(format, TOKENIZER, THINKING).give(USER)
    sampled = block.removeprefix("<think>").removeprefix("\n")
    assert block in chain.sample(f"{sampled}yes{EOS}", thought("hm"), said("yes")).text
    assert chain.give(OUTPUT).reason is None
    chain.give(USER)
    assert (chain.reason, "hm" in chain.text) == ("reasoning_dropped", False)
    assert chain.give(USER).reason is None


@pytest.mark.parametrize("format", [R1, V31, V32])
def test_all_reasoning_stays_if_asked_for(format: Format) -> None:
    chain = GrowingChain(format, TOKENIZER, PromptContext(reasoning_effort="high", keep_reasoning=True))
    chain.give(USER, thought("hm"), said("yes"), USER, thought("so"), said("no"), USER)
    assert "hm" in chain.text and "so" in chain.text and chain.reason is None


@pytest.mark.parametrize("format", [R1, V31, V32])
def test_reasoning_that_was_cut_off_is_closed(format: Format) -> None:
    chain = GrowingChain(format, TOKENIZER, THINKING).give(USER).sample("half", thought("half"))
    assert chain.text.endswith(f"half\n</think>\n\n{EOS}" if format is R1 else f"half</think>{EOS}")
    assert chain.text.count("</think>") == 1


@pytest.mark.parametrize("format", [R1, V31, V32])
def test_what_has_no_place_of_its_own_is_a_question(format: Format) -> None:
    chain = GrowingChain(format, TOKENIZER).give(
        Message(role="developer", content="dev"), OpaqueItem("x", b'{"type": "x"}')
    )
    assert "<｜User｜>dev" in chain.text and '<｜User｜>{"type": "x"}' in chain.text


@pytest.mark.parametrize("format", [R1, V31, V32])
def test_an_item_that_belongs_into_the_last_answer_reopens_it(format: Format) -> None:
    one, two = (
        GrowingChain(format, TOKENIZER).give(USER, said("a"), CALL),
        GrowingChain(format, TOKENIZER).give(USER, said("a")),
    )
    assert two.give(CALL).reason == "message_reopened"
    assert two.tokens == one.tokens
    assert two.give(CALL).reason == "message_reopened"
    assert two.tokens == one.give(CALL).tokens


def test_r1_outputs_that_come_one_by_one_are_one_row() -> None:
    one = GrowingChain(R1, TOKENIZER).give(USER, CALL, CALL, OUTPUT, OUTPUT)
    two = GrowingChain(R1, TOKENIZER).give(USER, CALL, CALL, OUTPUT)
    assert two.give(OUTPUT).reason == "message_reopened"
    assert two.tokens == one.tokens


def test_a_call_cut_in_the_middle_is_not_reopened() -> None:
    cut = FunctionCall(call_id="1", name="ls", arguments='{"a')
    chain = GrowingChain(V31, TOKENIZER).give(USER).sample(f'{CALLS}{ONE}ls{SEP}{{"a', cut)
    assert chain.give(CALL).reason is None


def test_an_output_nobody_asked_for_is_a_row_of_its_own() -> None:
    assert GrowingChain(V32, TOKENIZER).give(USER, OUTPUT, OUTPUT).text.count("<function_results>") == 2


@pytest.mark.parametrize("arguments", ["[1]", '{"a', "text"])
def test_v32_arguments_that_are_no_object_are_one_parameter(arguments: str) -> None:
    text = GrowingChain(V32, TOKENIZER).give(USER, FunctionCall(call_id="1", name="ls", arguments=arguments)).text
    assert f'<｜DSML｜parameter name="arguments" string="true">{arguments}</｜DSML｜parameter>' in text


@pytest.mark.parametrize("format", [R1, V31, V32])
def test_a_call_without_arguments_has_an_empty_object(format: Format) -> None:
    bare = FunctionCall(call_id="1", name="ls", arguments=" ")
    whole = FunctionCall(call_id="1", name="ls", arguments="{}")
    assert (
        GrowingChain(format, TOKENIZER).give(USER, bare).text == GrowingChain(format, TOKENIZER).give(USER, whole).text
    )


@pytest.mark.parametrize("format", [R1, V31, V32])
def test_a_model_writes_no_questions(format: Format) -> None:
    with pytest.raises(ValueError, match="FunctionCallOutput"):
        format.encode_items(PromptContext(), [OUTPUT])


def test_a_vocabulary_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no control token '<｜end▁of▁sentence｜>', which the deepseek-v3\.1"):
        format_named("deepseek-v3.1", ToyTokenizer())


# --- parsing ---


def test_calls_are_read_while_they_are_written() -> None:
    parser = V31.parser(PromptContext(None, TOOLS))
    assert parser.feed(ids_of(TOKENIZER, f"ok{CALLS}{ONE}ls{SEP}"), None)[-1] == ItemOpened("function_call", "ls")
    assert parser.feed(ids_of(TOKENIZER, '{"pa'), None) == [ItemDelta('{"pa')]
    assert parser.feed(ids_of(TOKENIZER, f'th": 1}}{ONE_END}'), None) == [ItemDelta('th": 1}'), ItemClosed()]


def test_dsml_strings_are_read_while_they_are_written() -> None:
    parser = V32.parser(PromptContext(None, TOOLS))
    begin = '<｜DSML｜invoke name="ls">\n<｜DSML｜parameter name="a" string="true">'
    parser.feed(ids_of(TOKENIZER, f"<｜DSML｜function_calls>\n{begin}"), None)
    assert parser.feed(ids_of(TOKENIZER, 'say "é'), None) == [ItemDelta('say \\"é')]


def test_dsml_values_become_json() -> None:
    text = (
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="ls">\n'
        '<｜DSML｜parameter name="a" string="true">1\n</b></｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="b" string="false"> [1, {"x": null}] </｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="c" string="false">NaN</｜DSML｜parameter>\n'
        '<｜DSML｜parameter name="d">raw</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>"
    )
    assert read(V32, TOKENIZER, text) == call_events(
        "ls", '{"a": "1\\n</b>", "b": [1, {"x": null}], "c": "NaN", "d": "raw"}'
    )


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (R1, f'</think>\n\n{CALLS}{ONE}function{SEP}py\n```json\n{{"input": "print()"}}\n```{ONE_END}{CALLS_END}'),
        (V31, f'{CALLS}{ONE}py{SEP}{{"input": "print()"}}{ONE_END}{CALLS_END}'),
        (
            V32,
            '<｜DSML｜function_calls>\n<｜DSML｜invoke name="py">\n<｜DSML｜parameter name="input" string="true">print()'
            "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        ),
    ],
)
def test_a_custom_tool_gets_its_text(format: Format, text: str) -> None:
    custom = [ItemOpened("custom_tool_call", "py"), ItemDelta("print()"), ItemClosed()]
    assert read(format, TOKENIZER, text + EOS, PromptContext(None, TOOLS)) == custom
    assert read(format, TOKENIZER, text, PromptContext())[0] == ItemOpened("function_call", "py")


def test_an_unknown_tool_is_called_all_the_same() -> None:
    assert read(V31, TOKENIZER, f"{CALLS}{ONE}what{SEP}{{}}{ONE_END}{CALLS_END}") == call_events("what", "{}")


@pytest.mark.parametrize(
    "text",
    [
        f"{CALLS}so it goes",
        f"{CALLS}{CALLS_END}",
        f"{CALLS}{ONE}ls{ONE_END}",
        f"{CALLS}{ONE}{SEP}{{}}{ONE_END}",
        f"{CALLS}{ONE}ls",
        f"{CALLS}{SEP}",
        f"a{CALLS}\nb",
        f"{ONE}ls{CALLS_END}more",
        "stray </think> here",
        f"stray{CALLS_END}{ONE_END}",
    ],
)
def test_what_is_no_call_is_text(text: str) -> None:
    assert read(V31, TOKENIZER, text) == message_events(text)


@pytest.mark.parametrize(
    "text",
    [
        "<｜DSML｜function_calls>so it goes",
        "<｜DSML｜function_calls>\n</｜DSML｜function_calls>",
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="">\n',
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="a</｜DSML｜invoke>',
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="a',
        "a\n\n<｜DSML｜function_calls>b",
        "a ｜DSML｜ b </｜DSML｜invoke>",
    ],
)
def test_what_is_no_dsml_call_is_text(text: str) -> None:
    assert read(V32, TOKENIZER, text) == message_events(text)


def test_a_fenced_call_that_is_none_is_text() -> None:
    text = f"{CALLS}{ONE}function{SEP}"
    for rest in (f"{ONE_END}", "\n```json\n", f"ls{CALLS_END}"):
        assert read(R1, TOKENIZER, f"</think>\n\n{text}{rest}") == message_events(f"{text}{rest}")


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('```json\n{"a": 1}\n```\n', '{"a": 1}'),
        ('{"a": 1}', '{"a": 1}'),
        ('```json\n{\n "a": 1\n}\n```', '{\n "a": 1\n}'),
        ("```json\n```", "```"),
        ("```json\n\n```", "{}"),
        ("", "{}"),
    ],
)
def test_a_fence_is_no_part_of_the_arguments(written: str, arguments: str) -> None:
    text = f"</think>\n\n{CALLS}{ONE}function{SEP}ls\n{written}{ONE_END}{CALLS_END}"
    assert read(R1, TOKENIZER, text) == call_events("ls", arguments)


def test_a_call_may_be_a_name_alone() -> None:
    assert read(R1, TOKENIZER, f"</think>\n\n{CALLS}{ONE}function{SEP}ls{ONE_END}{CALLS_END}") == call_events(
        "ls", "{}"
    )


def test_calls_that_were_not_ended_are_ended_by_what_follows() -> None:
    text = f"{CALLS}{ONE}ls{SEP}{{}}{ONE}ls{SEP}[{CALLS_END} then"
    assert read(V31, TOKENIZER, text) == [*call_events("ls", "{}"), *call_events("ls", "["), *message_events("then")]
    text = '<｜DSML｜invoke name="a">\n<｜DSML｜invoke name="b">\nx</｜DSML｜function_calls>'
    assert read(V32, TOKENIZER, text) == [*call_events("a", "{}"), *call_events("b", "{x}")]


def test_a_marker_out_of_place_inside_a_call_is_an_argument() -> None:
    assert read(V31, TOKENIZER, f"{CALLS}{ONE}ls{SEP}a{SEP}b{ONE_END}") == call_events("ls", f"a{SEP}b")
    begin = '<｜DSML｜invoke name="a">\n<｜DSML｜parameter name="x'
    rest = '" string="true"></｜DSML｜invoke></｜DSML｜parameter>\n</｜DSML｜parameter>'
    assert read(V32, TOKENIZER, begin + rest, complete=False)[1] == ItemDelta(
        '{"x": "</｜DSML｜invoke>"</｜DSML｜parameter>'
    )
    rest = '</｜DSML｜invoke>" string="true">y</｜DSML｜parameter></｜DSML｜invoke>'
    assert read(V32, TOKENIZER, begin + rest)[0] == ItemOpened("function_call", "a")


@pytest.mark.parametrize(
    ("format", "text"),
    [
        (V31, f'{CALLS}{ONE}ls{SEP}{{"a'),
        (V32, '<｜DSML｜invoke name="ls">\n<｜DSML｜parameter name="a" string="true">b'),
        (V32, '<｜DSML｜invoke name="py">\n<｜DSML｜parameter name="input" string="true">b'),
    ],
)
def test_output_that_stops_in_a_call_closes_it_incomplete(format: Format, text: str) -> None:
    assert read(format, TOKENIZER, text, complete=False)[-1] == ItemClosed(complete=False)
    assert read(format, TOKENIZER, text)[-1] == ItemClosed()


def test_reasoning_and_the_ids_it_took() -> None:
    parser = V32.parser(THINKING)
    events = parser.feed(ids_of(TOKENIZER, f"hm</think>yes{EOS}"), None) + parser.finish(complete=True)
    assert events == [ItemOpened("reasoning"), ItemDelta("hm"), ItemClosed(), *message_events("yes")]
    assert parser.reasoning_tokens == len(ids_of(TOKENIZER, "hm</think>"))


def test_a_block_may_be_opened_again_or_later() -> None:
    reasoning = [ItemOpened("reasoning"), ItemDelta("hm"), ItemClosed()]
    assert read(V32, TOKENIZER, "<think>hm</think>yes", THINKING) == [*reasoning, *message_events("yes")]
    assert read(V32, TOKENIZER, "yes<think>hm</think>", PromptContext()) == [*message_events("yes"), *reasoning]
    assert read(V31, TOKENIZER, "hm<think></think>", THINKING)[1] == ItemDelta("hm<think>")


def test_calls_end_a_block_that_was_not_closed() -> None:
    reasoning = [ItemOpened("reasoning"), ItemDelta("hm"), ItemClosed()]
    text = f"hm\n{CALLS}{ONE}function{SEP}ls\n```json\n{{}}\n```{ONE_END}{CALLS_END}"
    assert read(R1, TOKENIZER, text) == [*reasoning, *call_events("ls", "{}")]


def test_a_vocabulary_without_inner_markers_spells_them() -> None:
    bare = ToyTokenizer(["<｜begin▁of▁sentence｜>", EOS, "<｜User｜>", "<｜Assistant｜>"])
    format = format_named("deepseek-v3.1", bare)
    parser = format.parser(PromptContext())
    text = f"a < b{CALLS}{ONE}ls{SEP}{{}}{ONE_END}{CALLS_END}"
    assert parser.feed(bare.encode(text), None) == [*message_events("a < b"), *call_events("ls", "{}")]


# --- bad input, recognition ---


def test_what_is_not_text_is_refused_by_name() -> None:
    with pytest.raises(Exception, match="text only"):
        GrowingChain(V32, TOKENIZER).give(Message(role="user", content=[InputImage(image_url="data:")]))


OURS = {
    "llama-cpp-deepseek-r1": "deepseek-r1",
    "deepseek-ai-DeepSeek-V3.1": "deepseek-v3.1",
    "deepseek-ai-DeepSeek-V3.2": "deepseek-v3.2",
    "deepseek-ai-DeepSeek-V4": "deepseek-v4",
    "deepseek-ai-DeepSeek-V4-Flash-0731": "deepseek-v4-flash",
}


@pytest.mark.parametrize("template", template_names())
def test_no_other_template_is_taken_for_deepseek(template: str) -> None:
    family = family_of(template_source(template)) or ""
    assert (family if family.startswith("deepseek") else None) == OURS.get(template)


def test_custom_calls_are_written_as_the_argument_input() -> None:
    text = GrowingChain(V31, TOKENIZER).give(USER, CustomToolCall(call_id="1", name="py", input='"é')).text
    assert f'{ONE}py{SEP}{{"input": "\\"é"}}{ONE_END}' in text
