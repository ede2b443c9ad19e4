import json

import pytest
from tests.support.grammars import Grammars
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.errors import InvalidRequest, SchemaTooComplex, UnsupportedValue
from hotloop.formats.grammar.parts import (
    COMPACT,
    SPACED,
    AllowedTool,
    allowed_tools,
    argument_schema,
    arguments,
    json_value,
    plan,
    raw_input,
    raw_input_until,
    ruled,
    string_text,
    think_block,
)
from hotloop.protocol.tools import decode_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

TOKENIZER = ToyTokenizer()
GRAMMARS = Grammars(TOKENIZER)
CALL_END = TOKENIZER.special_ids["</tool_call>"]
STRICT: dict[str, object] = {
    "type": "function",
    "name": "edit",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}


def custom(syntax: str, definition: str) -> dict[str, object]:
    grammar = {"type": "grammar", "syntax": syntax, "definition": definition}
    return {"type": "custom", "name": "free", "format": grammar}


def allowed(entry: dict[str, object]) -> AllowedTool:
    return AllowedTool(decode_tools(json.dumps([entry]).encode())[0], "tools[2]")  # type: ignore[arg-type]  # none is hosted


def takes(expression: str, text: str) -> bool:
    constraint = Constraint(f'start: "<" x\nx: {expression}')
    assert GRAMMARS.error(constraint) == ""
    return GRAMMARS.accepts(constraint, GRAMMARS.ids("<" + text))


def test_json_is_written_in_the_familys_style_only() -> None:
    assert takes(arguments(allowed(STRICT), SPACED), '{"a": 1, "b": "x"}')
    assert not takes(arguments(allowed(STRICT), SPACED), '{"a":1,"b":"x"}')
    assert takes(arguments(allowed(STRICT), COMPACT), '{"a":1,"b":"x"}')
    assert not takes(arguments(allowed(STRICT), COMPACT), '{"a": 1, "b": "x"}')


def test_a_schema_cannot_change_the_style() -> None:
    schema = {"type": "object", "x-guidance": {"whitespace_flexible": True}}
    assert not takes(json_value(schema, COMPACT, "text"), '{ "a":1}')


def test_a_plain_text_keeps_to_the_ascii_digits_of_its_pattern() -> None:
    rule = string_text({"pattern": r"^\d-[A-Z]$"}, "tools[0]") + ' ";"'
    assert takes(rule, "1-L;")
    assert not takes(rule, "\u0661-L;")


def test_raw_text_ends_at_the_control_token_behind_it() -> None:
    def reads(entry: dict[str, object], text: str) -> bool:
        return takes(f"{raw_input(allowed(entry))} <[{CALL_END}]>", f"{text}</tool_call>")

    assert reads({"type": "custom", "name": "free"}, 'any "text"\n')
    assert reads(custom("regex", "[0-9]+/[a-z]"), "12/a")
    assert not reads(custom("regex", "[0-9]+/[a-z]"), "12/")
    assert reads(custom("lark", "start: /.+/ LF\n%import common.LF"), "a\n")
    assert reads(custom("regex", ""), "")


def test_raw_text_may_end_with_a_spelled_marker() -> None:
    free = raw_input_until(allowed({"type": "custom", "name": "free"}), "</x>")
    assert takes(free, "a < b </x</x>")
    assert not takes(free, "a</x>b</x>")
    assert takes(raw_input_until(allowed(custom("regex", "(?s:[a-y<].*)")), "</x>"), "a </x</x>")
    assert not takes(raw_input_until(allowed(custom("regex", "(?s:[a-y<].*)")), "</x>"), "z</x>")
    assert takes(raw_input_until(allowed(custom("lark", 'start: "a"+')), "</x>"), "aa</x>")


def test_a_grammar_that_cannot_be_ruled_names_its_field() -> None:
    with pytest.raises(UnsupportedValue) as refused:
        arguments(allowed(custom("regex", "(?=a)")), SPACED)
    assert refused.value.param == "tools[2].format.definition"
    with pytest.raises(SchemaTooComplex) as too_big:
        raw_input(allowed(custom("lark", "start: " + "(" * 60_000)))
    assert too_big.value.param == "tools[2].format.definition"


def test_a_schema_too_deep_for_the_decoder_names_its_field() -> None:
    depth = 200_000
    schema = b'{"a":' * depth + b"1" + b"}" * depth
    with pytest.raises(SchemaTooComplex) as refused:
        plan(PromptContext(), CallRules(text_schema=schema), SPACED)
    assert refused.value.param == "text.format.schema"


def test_tools_are_named_by_their_place_in_the_request() -> None:
    tools = decode_tools(json.dumps([{"type": "custom", "name": "a"}, {"type": "custom", "name": "b"}]).encode())
    context = PromptContext(tools=tools, tool_places=("tools[0]", "tools[4]"))
    assert [tool.param for tool in allowed_tools(context, CallRules())] == ["tools[0]", "tools[4]"]
    assert [tool.param for tool in allowed_tools(context, CallRules(allowed=frozenset("b")))] == ["tools[4]"]
    assert [tool.param for tool in allowed_tools(PromptContext(tools=tools), CallRules())] == ["tools[0]", "tools[1]"]


def test_a_required_call_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        plan(PromptContext(), CallRules("required"), SPACED)


def test_arguments_key_by_key_come_from_the_strict_schema_alone() -> None:
    assert argument_schema(allowed(STRICT)) == STRICT["parameters"]
    assert argument_schema(allowed({**STRICT, "strict": False})) == {"type": "object"}


def test_a_think_block_ends_at_its_marker_however_that_is_written() -> None:
    spelled = ruled(['"x"'], [], think=think_block('"<think>"', None, "</think>", "\n"), must_think=True)
    assert GRAMMARS.accepts(spelled, TOKENIZER.encode("<think>a < b</think>\nx"))
    assert not GRAMMARS.accepts(spelled, TOKENIZER.encode("x"))
    marked = ruled(['"x"'], [], think=think_block("", TOKENIZER.special("</think>"), "</think>"), must_think=True)
    assert GRAMMARS.accepts(marked, GRAMMARS.ids("open already</think>x"))
