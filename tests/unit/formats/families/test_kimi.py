import json

import pytest
from tests.contracts.kimi_cases import KIMI_SPECIALS, LAST_ANSWER_EDIT, QUEUE_EDITS, without_names
from tests.support.chains import GrowingChain, call_events, ids_of, message_events, read, said, thought
from tests.support.grammars import Grammars
from tests.support.real_templates import RealTemplate, Style, template_names, template_source
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats import family_of, format_named
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
)
from hotloop.protocol.tools import decode_tools
from hotloop.seams.format import Format, ItemClosed, ItemDelta, ItemOpened
from hotloop.seams.prompt import CallRules, PromptContext

TOKENIZER = ToyTokenizer(KIMI_SPECIALS)
K2, FIRST, THINKING, ONCE = (
    format_named(name, TOKENIZER) for name in ("kimi-k2", "kimi-k2-first", "kimi-k2-thinking", "kimi-k2-thinking-once")
)
TOOLS = decode_tools(
    json.dumps(
        [
            {"type": "function", "name": "ls", "description": "Lists é", "parameters": {"type": "object"}},
            {"type": "custom", "name": "py"},
        ]
    ).encode()
)
BRIEF = PromptContext("Be brief.")
USER = Message(role="user", content="hi")
CALL = FunctionCall(call_id="1", name="ls", arguments='{"path":"a"}')
OUTPUT = FunctionCallOutput(call_id="1", output="a.txt")
END = "<|im_end|>"
SECTION, SECTION_END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
ONE, SEP, ONE_END = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
ASK = f"<|im_user|>user<|im_middle|>hi{END}"
ANSWER = "<|im_assistant|>assistant<|im_middle|>"


def call(number: int, name: str = "ls", arguments: str = '{"path":"a"}') -> str:
    return f"{ONE}functions.{name}:{number}{SEP}{arguments}{ONE_END}"


def output(number: int) -> str:
    return f"<|im_system|>tool<|im_middle|>## Return of functions.ls:{number}\na.txt{END}"


# --- rendering ---


def test_instruct_byte_for_byte() -> None:
    chain = GrowingChain(K2, TOKENIZER, PromptContext("Be brief.", TOOLS[:1]))
    chain.give(USER, said("Looking."), CALL, CALL, OUTPUT, OUTPUT, CALL)
    assert chain.text == (
        '<|im_system|>tool_declare<|im_middle|>[{"type": "function", "function": {"name": "ls", "description": "Lists é", '
        f'"parameters": {{"type": "object"}}}}}}]{END}<|im_system|>system<|im_middle|>Be brief.{END}{ASK}'
        f"{ANSWER}Looking.{SECTION}{call(0)}{call(1)}{SECTION_END}{END}{output(0)}{output(1)}"
        f"{ANSWER}{SECTION}{call(2)}{SECTION_END}{END}"
    )
    assert chain.prompt == ANSWER


def test_each_version_introduces_itself() -> None:
    kimi = f"<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.{END}"
    assert GrowingChain(K2, TOKENIZER).text == kimi + "\n"
    assert GrowingChain(THINKING, TOKENIZER).text == kimi
    assert "You are a helpful assistant" in GrowingChain(FIRST, TOKENIZER).text


def test_the_first_template_numbers_calls_anew_and_spells_a_line_end() -> None:
    text = GrowingChain(FIRST, TOKENIZER, BRIEF).give(USER, CALL, OUTPUT, CALL, OUTPUT).text
    assert text.count("functions.ls:0\\na.txt") == 2
    assert "functions.ls:1" not in text


@pytest.mark.parametrize(
    ("template", "family", "edits"),
    [
        ("Kimi-K2-Instruct", "kimi-k2", QUEUE_EDITS),
        ("Kimi-K2-Thinking", "kimi-k2-thinking-once", QUEUE_EDITS),
        ("Kimi-K2-Thinking", "kimi-k2-thinking", (*QUEUE_EDITS, LAST_ANSWER_EDIT)),
    ],
)
def test_the_template_as_it_is_writes_the_same(template: str, family: str, edits: tuple[tuple[str, str], ...]) -> None:
    real = RealTemplate(template, Style(arguments="text", finish=without_names), edits)
    developer = Message(role="developer", content="dev")
    items: list[Item] = [USER, thought("a"), CALL, CALL, OUTPUT, OUTPUT, thought("b"), said("so"), developer, USER]
    items += [thought("c"), CALL, OUTPUT, thought("d"), said("then"), USER, thought("e"), said("f"), CALL]
    context = PromptContext("Be brief.", TOOLS)
    chain = GrowingChain(format_named(family, TOKENIZER), TOKENIZER, context).give(*items)
    assert chain.text == real.render(context, items)


def test_an_output_names_its_call_as_the_model_did() -> None:
    sampled = f"{SECTION}{call(7)}{call(9)}{SECTION_END}{END}"
    chain = GrowingChain(K2, TOKENIZER, BRIEF).give(USER).sample(sampled, CALL, CALL).give(OUTPUT, OUTPUT)
    assert chain.text.endswith(output(7) + output(9))
    assert call(2) in chain.give(CALL).text


def test_a_call_whose_id_cannot_be_read_gets_the_next_number() -> None:
    chain = GrowingChain(K2, TOKENIZER, BRIEF).give(USER).sample(f"{SECTION}{ONE}ls{ONE_END}", CALL).give(OUTPUT)
    assert chain.text.endswith(output(0))


def test_an_output_nobody_asked_for_is_of_an_unknown_tool() -> None:
    assert "## Return of functions.unknown:0\n" in GrowingChain(K2, TOKENIZER, BRIEF).give(USER, OUTPUT).text


def test_ids_of_the_familys_own_form_number_what_a_model_would_sample() -> None:
    numbered = FunctionCall(call_id="functions.ls:4", name="ls", arguments="{}")
    text = TOKENIZER.decode(K2.encode_items(PromptContext(), [numbered, numbered]))
    assert text == f"{SECTION}{call(4, arguments='{}')}{call(5, arguments='{}')}{SECTION_END}{END}"


def test_thinking_forgets_up_to_each_answer_that_a_question_follows() -> None:
    chain = GrowingChain(THINKING, TOKENIZER, BRIEF).give(USER)
    chain.sample(f"<think>one</think>{SECTION}{call(0)}{SECTION_END}{END}", thought("one"), CALL).give(OUTPUT)
    chain.sample(f"<think>two</think>so{END}", thought("two"), said("so"))
    assert "one" in chain.text and "two" in chain.text
    assert chain.give(USER).reason == "reasoning_dropped"
    assert "one" not in chain.text and "two" not in chain.text
    chain.sample(f"<think>three</think>{SECTION}{call(1)}{SECTION_END}{END}", thought("three"), CALL).give(OUTPUT, USER)
    assert chain.reason is None and "<think>three</think>" in chain.text  # an interrupted tool loop is no answer
    chain.sample(f"<think>four</think>so{END}", thought("four"), said("so"))
    assert chain.give(USER).reason == "reasoning_dropped"
    assert "three" not in chain.text


def test_the_other_thinking_template_forgets_once() -> None:
    chain = (
        GrowingChain(ONCE, TOKENIZER, BRIEF).give(USER).sample(f"<think>one</think>so{END}", thought("one"), said("so"))
    )
    assert chain.give(USER).reason == "reasoning_dropped"
    chain.sample(f"<think>two</think>so{END}", thought("two"), said("so"))
    assert chain.give(USER).reason is None
    assert "<think></think>so" in chain.text and "<think>two</think>so" in chain.text


@pytest.mark.parametrize("format", [THINKING, ONCE])
def test_an_answer_without_reasoning_costs_no_rewind(format: Format) -> None:
    chain = GrowingChain(format, TOKENIZER, BRIEF).give(USER)
    chain.sample(f"<think></think>so{END}", said("so")).give(USER)
    assert chain.reason is None
    assert chain.give(thought("late"), said("so")).give(USER).reason == (
        None if format is ONCE else "reasoning_dropped"
    )


def test_an_item_that_belongs_into_the_last_answer_reopens_it() -> None:
    one, two = (GrowingChain(K2, TOKENIZER, BRIEF).give(USER, said("a")) for _ in range(2))
    assert one.give(CALL).reason == "message_reopened"
    assert one.give(CALL).reason == "message_reopened"
    assert two.give(CALL, CALL).tokens == one.tokens


def test_a_rewind_after_an_answer_was_reopened_goes_back_to_whole_messages() -> None:
    asked: list[Item] = [USER, said("a"), USER]
    chain = GrowingChain(THINKING, TOKENIZER, BRIEF).give(*asked, said("b"))
    whole: list[Item] = [*asked, said("b"), CALL, USER, thought("hm"), said("c"), USER]
    assert chain.give(CALL, USER).reason == "message_reopened"
    chain.give(thought("hm"), said("c"), USER)
    assert chain.tokens == GrowingChain(THINKING, TOKENIZER, BRIEF).give(*whole).tokens
    chain = GrowingChain(THINKING, TOKENIZER, BRIEF).give(USER).sample(f"a{END}", said("a"))
    chain.give(Message(role="developer", content="x"), said("b"))
    chain.give(CALL, USER).give(thought("hm"), said("c")).give(USER)
    whole = [USER, said("a"), Message(role="developer", content="x"), said("b"), CALL, USER, said("c"), USER]
    tail = GrowingChain(THINKING, TOKENIZER, BRIEF).give(*whole).text.partition("<|im_system|>system<|im_middle|>x")[2]
    assert chain.text.endswith(tail)


def test_reasoning_that_was_cut_off_is_closed() -> None:
    chain = GrowingChain(THINKING, TOKENIZER, BRIEF).give(USER).sample("<think>half", thought("half"))
    assert chain.text.endswith(f"<think>half</think>{END}")


def test_items_that_are_carried_are_system_messages() -> None:
    text = GrowingChain(K2, TOKENIZER, BRIEF).give(OpaqueItem("x", b'{"type": "x"}')).text
    assert text.endswith('<|im_system|>system<|im_middle|>{"type": "x"}<|im_end|>')


def test_custom_calls_are_written_as_the_argument_input() -> None:
    text = GrowingChain(K2, TOKENIZER, BRIEF).give(USER, CustomToolCall(call_id="1", name="py", input='"é')).text
    assert call(0, "py", '{"input": "\\"é"}') in text


# --- parsing ---


@pytest.mark.parametrize("header", ["functions.ls:12", " functions.ls:12\n", "ls:0", "functions.ls", "ls"])
def test_a_call_is_known_by_the_name_in_its_id(header: str) -> None:
    text = f"ok{SECTION}{ONE}{header}{SEP}{{}}{ONE_END}{SECTION_END}{END}"
    assert read(K2, TOKENIZER, text) == [*message_events("ok"), *call_events("ls", "{}")]


def test_a_custom_tool_gets_its_text() -> None:
    text = f"{SECTION}{call(0, 'py', json.dumps({'input': 'print()'}))}{SECTION_END}"
    custom = [ItemOpened("custom_tool_call", "py"), ItemDelta("print()"), ItemClosed()]
    assert read(K2, TOKENIZER, text, PromptContext(None, TOOLS)) == custom


@pytest.mark.parametrize(
    "text",
    [
        f"{SECTION}{ONE}{SEP}{{}}{ONE_END}",
        f"{SECTION}{ONE}functions.:1{SEP}",
        f"{SECTION}{ONE}functions.ls:0",
        f"{SECTION}no",
    ],
)
def test_what_is_no_call_is_text(text: str) -> None:
    assert read(K2, TOKENIZER, text) == message_events(text)


def test_output_that_stops_in_a_call_closes_it_incomplete() -> None:
    assert read(K2, TOKENIZER, f'{SECTION}{ONE}functions.ls:0{SEP}{{"a', complete=False)[-1] == ItemClosed(
        complete=False
    )


def test_only_thinking_reads_think_blocks() -> None:
    text = "<think>hm</think>yes"
    reasoning = [ItemOpened("reasoning"), ItemDelta("hm"), ItemClosed()]
    assert read(THINKING, TOKENIZER, text) == [*reasoning, *message_events("yes")]
    assert read(K2, TOKENIZER, text) == message_events(text)


# --- grammar ---

GRAMMARS = Grammars(TOKENIZER, END)
EDIT = decode_tools(
    b'[{"type":"function","name":"edit","strict":true,"parameters":{"type":"object","properties":{"line":{"type":"integer"}},'
    b'"required":["line"],"additionalProperties":false}},{"type":"custom","name":"digits","format":'
    b'{"type":"grammar","syntax":"regex","definition":"[0-9]+"}}]'
)
GOOD = call(0, "edit", '{"line": 3}')


@pytest.mark.parametrize(
    ("rules", "text", "is_allowed"),
    [
        (CallRules("required"), f"{SECTION}{GOOD}{call(13, 'digits', json.dumps({'input': '12'}))}{SECTION_END}", True),
        (CallRules("required"), f"{SECTION}{call(0, 'edit', '{}')}{SECTION_END}", False),
        (CallRules("required"), f"{SECTION}{call(0, 'digits', json.dumps({'input': 'x'}))}{SECTION_END}", False),
        (CallRules("required"), "text", False),
        (CallRules("named", frozenset(["edit"])), f"{SECTION}{GOOD}{SECTION_END}", True),
        (CallRules("named", frozenset(["edit"])), f"{SECTION}{GOOD}{GOOD}{SECTION_END}", False),
        (CallRules("none"), "text <|tool", True),
        (CallRules("none"), f"text {SECTION}", False),
        (CallRules(text_schema=b"{}"), '{"a": 1}', True),
        (CallRules(text_schema=b"{}"), f"{SECTION}{GOOD}{SECTION_END}", True),
        (CallRules(text_schema=b"{}"), "text", False),
    ],
)
def test_calls_keep_to_their_grammar(rules: CallRules, text: str, is_allowed: bool) -> None:
    for format, before in ((K2, ""), (THINKING, "<think>well</think>")):
        constraint = format.constraint(PromptContext(None, EDIT), rules)
        assert constraint is not None and GRAMMARS.error(constraint) == ""
        given = text if rules.choice == "none" else before + text
        assert GRAMMARS.accepts(constraint, ids_of(TOKENIZER, given)) == is_allowed


def test_auto_rules_what_follows_the_marker_only() -> None:
    auto = K2.constraint(PromptContext(None, EDIT), CallRules(parallel=False))
    assert auto is not None and auto.once and auto.trigger == TOKENIZER.special(SECTION)
    assert GRAMMARS.accepts(auto, ids_of(TOKENIZER, f"{GOOD}{SECTION_END}"))
    assert not GRAMMARS.accepts(auto, ids_of(TOKENIZER, f"{call(0, 'other', '{}')}{SECTION_END}"))
    assert K2.constraint(PromptContext(), CallRules()) is None


# --- recognition ---

OURS = {
    "Kimi-K2-Instruct": "kimi-k2",
    "moonshotai-Kimi-K2": "kimi-k2-first",
    "Kimi-K2-Thinking": "kimi-k2-thinking-once",
}


@pytest.mark.parametrize("template", template_names())
def test_no_other_template_is_taken_for_kimi(template: str) -> None:
    family = family_of(template_source(template)) or ""
    assert (family if family.startswith("kimi") else None) == OURS.get(template)


def test_the_template_that_looks_for_the_last_answer_is_told_apart() -> None:
    assert family_of(template_source("Kimi-K2-Thinking").replace(*LAST_ANSWER_EDIT)) == "kimi-k2-thinking"


def test_a_vocabulary_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no control token '<\|im_user\|>', which the kimi-k2 format"):
        format_named("kimi-k2", ToyTokenizer([END]))
