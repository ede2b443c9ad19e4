import json

import pytest
from tests.contracts.llama_cases import LLAMA_SPECIALS
from tests.support.conversations import TOOLS
from tests.support.grammars import Grammars
from tests.support.tagged_output import ids_of, read
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.errors import InvalidRequest
from hotloop.formats import format_named
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
)
from hotloop.protocol.tools import decode_tools
from hotloop.seams.format import Extension
from hotloop.seams.prompt import CallRules, PromptContext

TOKENIZER = ToyTokenizer((*LLAMA_SPECIALS, "<|eom_id|>", "<|python_tag|>"))
LLAMA = format_named("llama3", TOKENIZER)
CONTEXT = PromptContext(tools=TOOLS)
ONE_TOOL = PromptContext(tools=decode_tools(b'[{"type":"function","name":"ls"}]'))
USER = Message(role="user", content=" hi\n")
SAID = Message(role="assistant", content=[OutputText(text="Look:")])
CALL = FunctionCall(call_id="1", name="ls", arguments='{"a": 1}')
OUTPUT = FunctionCallOutput(call_id="1", output='é "x"')
CALL_TEXT = '{"name": "ls", "parameters": {"a": 1}}'
SHOWN = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    'answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument name '
    'and its value}.Do not use variables.\n\n{\n    "type": "function",\n    "function": {\n        "name": "ls"\n    }\n}\n\n'
)


def message(role: str, text: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"


def written(items: list[Item], context: PromptContext | None = None) -> str:
    start = LLAMA.begin(context or PromptContext())
    extension = LLAMA.extend(start.state, len(start.tokens), items)
    assert isinstance(extension, Extension)
    assert extension.reason is None
    return TOKENIZER.decode(extension.tokens)


def test_the_preamble_names_a_date_that_never_changes() -> None:
    dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    begin = "<|begin_of_text|>"
    assert TOKENIZER.decode(LLAMA.begin(PromptContext(" Be brief. ")).tokens) == begin + message(
        "system", dates + "Be brief."
    )
    with_tools = begin + message("system", "Environment: ipython\n" + dates)
    assert TOKENIZER.decode(LLAMA.begin(ONE_TOOL).tokens) == with_tools


def test_a_tool_loop_byte_for_byte() -> None:
    assert written([USER, CALL, OUTPUT, SAID, USER], ONE_TOOL) == (
        message("user", SHOWN + "hi")
        + message("assistant", CALL_TEXT)
        + message("ipython", '"é \\"x\\""')
        + message("assistant", "Look:")
        + message("user", "hi")
    )


def test_tools_come_first_also_where_the_user_does_not() -> None:
    developer = Message(role="developer", content="Be brief.")
    assert written([developer, USER], ONE_TOOL) == message("user", SHOWN) + message("system", "Be brief.") + message(
        "user", "hi"
    )
    start = LLAMA.begin(ONE_TOOL)
    prompt = TOKENIZER.decode(LLAMA.generation_prompt(start.state))
    assert prompt == message("user", SHOWN) + "<|start_header_id|>assistant<|end_header_id|>\n\n"
    committed = LLAMA.commit(start.state, len(start.tokens), LLAMA.encode_items(ONE_TOOL, [SAID]), [SAID])
    assert TOKENIZER.decode(committed.tokens) == prompt + "Look:<|eot_id|>"
    more = LLAMA.extend(committed.state, 0, [USER])
    assert isinstance(more, Extension)
    assert TOKENIZER.decode(more.tokens) == message("user", "hi")


def test_several_calls_are_messages_of_their_own() -> None:
    assert written([CALL, CALL]) == message("assistant", CALL_TEXT) * 2
    custom = CustomToolCall(call_id="2", name="py", input="x")
    assert written([SAID, custom]) == message("assistant", "Look:") + message(
        "assistant", '{"name": "py", "parameters": {"input": "x"}}'
    )


def test_reasoning_is_left_out_and_what_is_not_known_is_shown_as_json() -> None:
    opaque = OpaqueItem("web_search_call", b'{"type":"web_search_call"}')
    assert written([Reasoning(content=[ReasoningText(text="hm")]), opaque]) == message(
        "system", '{"type":"web_search_call"}'
    )


def test_another_stop_token_gives_way_to_the_end_of_the_turn() -> None:
    start = LLAMA.begin(PromptContext())
    committed = LLAMA.commit(start.state, 0, ids_of(TOKENIZER, CALL_TEXT + "<|eom_id|>"), [CALL])
    assert TOKENIZER.decode(committed.tokens).endswith(CALL_TEXT + "<|eot_id|>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALL_TEXT, [("function_call:ls", '{"a": 1}')]),
        (f"<|python_tag|>{CALL_TEXT}", [("function_call:ls", '{"a": 1}')]),
        (f" \n{CALL_TEXT}; {CALL_TEXT}\n{CALL_TEXT}", [("function_call:ls", '{"a": 1}')] * 3),
        (f"Look:\n<|python_tag|>{CALL_TEXT}", [("message", "Look:"), ("function_call:ls", '{"a": 1}')]),
        (f"{CALL_TEXT}\n\nDone.", [("function_call:ls", '{"a": 1}'), ("message", "Done.")]),
        ('{"type": "function", "name": "nope", "arguments": {}}', [("function_call:nope", "{}")]),
        ('{"parameters": {"a": "}"}, "name": "ls"}', [("function_call:ls", '{"a": "}"}')]),
        ('{"name": "python", "parameters": {"input": "a\\nb"}}', [("custom_tool_call:python", "a\nb")]),
        (" plain {text} \n", [("message", "plain {text}")]),
        ('{"name": "Bob", "age": 3}', [("message", '{"name": "Bob", "age": 3}')]),
        ('{"ok": true}', [("message", '{"ok": true}')]),
        ("{not json", [("message", "{not json")]),
        ("<|python_tag|>print(1)", [("message", "<|python_tag|>print(1)")]),
        (f"a {CALL_TEXT}", [("message", f"a {CALL_TEXT}")]),
        ('{"name": "ls", "parameters": {"a": <}}', [("function_call:ls", '{"a": <}}')]),
    ],
)
def test_what_is_read(text: str, expected: list[tuple[str, str]]) -> None:
    assert read(LLAMA, TOKENIZER, text, CONTEXT) == expected


def test_without_tools_everything_is_text() -> None:
    assert read(LLAMA, TOKENIZER, CALL_TEXT, PromptContext()) == [("message", CALL_TEXT)]


def test_an_answer_in_json_is_not_held_back() -> None:
    parser = LLAMA.parser(CONTEXT)
    assert parser.feed(TOKENIZER.encode('{"answer": "a'), None) != []


def test_output_cut_inside_a_call_is_incomplete() -> None:
    cut = '{"name": "ls", "parameters": {"a'
    assert read(LLAMA, TOKENIZER, cut, CONTEXT, complete=False) == [("!function_call:ls", '{"a')]
    assert read(LLAMA, TOKENIZER, '{"name": "l', CONTEXT, complete=False) == [("!message", '{"name": "l')]


def test_several_calls_read_back_as_they_were_encoded() -> None:
    said: list[Item] = [SAID, CALL, CALL]
    text = TOKENIZER.decode(LLAMA.encode_items(CONTEXT, said))
    assert text == f"Look:<|python_tag|>{CALL_TEXT}; {CALL_TEXT}<|eot_id|>"
    calls = [("function_call:ls", '{"a": 1}')] * 2
    assert read(LLAMA, TOKENIZER, text, CONTEXT) == [("message", "Look:"), *calls]


def test_a_model_does_not_write_outputs_and_a_vocabulary_needs_the_headers() -> None:
    with pytest.raises(ValueError, match="FunctionCallOutput"):
        LLAMA.encode_items(CONTEXT, [OUTPUT])
    with pytest.raises(ValueError, match=r"<\|eot_id\|>"):
        format_named("llama3", ToyTokenizer(LLAMA_SPECIALS[:3]))


def test_the_grammar_rules_calls_and_leaves_text_free() -> None:
    grammars = Grammars(TOKENIZER, "<|eot_id|>")
    call = '{"name": "shell", "parameters": {"zeta": 1}}'
    answer = json.dumps({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}).encode()

    def accepts(rules: CallRules, text: str) -> bool:
        constraint = LLAMA.constraint(CONTEXT, rules)
        assert constraint is not None
        assert grammars.error(constraint) == ""
        return grammars.accepts(constraint, grammars.ids(text))

    required, auto, none = CallRules("required"), CallRules(), CallRules("none")
    assert accepts(required, call) and not accepts(required, "text") and not accepts(required, call + "; " + call)
    assert not accepts(required, call.replace("1", '"x"'))
    assert accepts(required, '{"name": "python", "parameters": {"input": "a\\n"}}')
    assert accepts(auto, call) and accepts(auto, "some {text}") and not accepts(auto, call.replace("zeta", "other"))
    assert accepts(none, "text") and accepts(none, '{"ok": 1}') and not accepts(none, call)
    either = CallRules(text_schema=answer)
    assert accepts(either, call) and accepts(either, '{"ok": true}') and not accepts(either, "text")
    assert LLAMA.constraint(PromptContext(), CallRules()) is None
    with pytest.raises(InvalidRequest) as refused:
        LLAMA.constraint(CONTEXT, CallRules("required", allowed=frozenset()))
    assert refused.value.param == "tool_choice"
