import json

import pytest
from tests.support.grammars import Grammars
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.errors import InvalidRequest
from hotloop.formats import chatml
from hotloop.protocol.tools import Tool, decode_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

TOKENIZER = ToyTokenizer()
GRAMMARS = Grammars(TOKENIZER)
SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "line": {"type": "integer"}},
    "required": ["path", "line"],
    "additionalProperties": False,
}
ANSWER = json.dumps({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}).encode()


def tools(*entries: dict[str, object]) -> tuple[Tool, ...]:
    return decode_tools(json.dumps(entries).encode())


EDIT: dict[str, object] = {"type": "function", "name": "edit", "strict": True, "parameters": SCHEMA}
LOOSE: dict[str, object] = {"type": "function", "name": "loose", "parameters": SCHEMA}
HOSTED: dict[str, object] = {"type": "web_search"}
PYTHON: dict[str, object] = {"type": "custom", "name": "python"}
DIGITS: dict[str, object] = {
    "type": "custom",
    "name": "digits",
    "format": {"type": "grammar", "syntax": "regex", "definition": '[0-9]+\n|"'},
}
LARK: dict[str, object] = {
    "type": "custom",
    "name": "lark",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x"'},
}


def constraint(
    rules: CallRules, *entries: dict[str, object], thinking: bool = False, effort: str | None = None
) -> Constraint | None:
    context = PromptContext(tools=tools(*entries), reasoning_effort=effort)
    return chatml(TOKENIZER, thinking=thinking).constraint(context, rules)


def accepts(constraint: Constraint | None, text: str) -> bool:
    assert constraint is not None
    assert GRAMMARS.error(constraint) == ""
    return GRAMMARS.accepts(constraint, GRAMMARS.ids(text))


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


GOOD = call("edit", '{"path": "ä\\n\\"b\\"", "line": 3}')


def test_auto_rules_what_follows_the_call_marker_only() -> None:
    auto = constraint(CallRules(), EDIT, LOOSE)
    assert auto is not None
    assert (auto.trigger, auto.once) == (TOKENIZER.special("<tool_call>"), False)
    assert accepts(auto, GOOD.removeprefix("<tool_call>"))
    assert accepts(auto, call("loose", '{"any": [1, {"x": null}]}').removeprefix("<tool_call>"))
    assert not accepts(auto, call("edit", '{"path": "a"}').removeprefix("<tool_call>"))
    assert not accepts(auto, call("other", "{}").removeprefix("<tool_call>"))
    assert not accepts(auto, call("loose", "[1]").removeprefix("<tool_call>"))


def test_auto_without_parallel_calls_ends_after_one() -> None:
    auto = constraint(CallRules(parallel=False), EDIT)
    assert auto is not None and auto.once


def test_auto_without_tools_is_free() -> None:
    assert constraint(CallRules()) is None
    assert constraint(CallRules(), HOSTED) is None
    assert constraint(CallRules("none"), HOSTED) is None


def test_only_allowed_tools_can_be_called() -> None:
    auto = constraint(CallRules(allowed=frozenset(["edit"])), EDIT, LOOSE)
    assert accepts(auto, GOOD.removeprefix("<tool_call>"))
    assert not accepts(auto, call("loose", "{}").removeprefix("<tool_call>"))


@pytest.mark.parametrize("rules", [CallRules("none"), CallRules(allowed=frozenset())])
def test_none_forbids_the_call_marker_and_nothing_else(rules: CallRules) -> None:
    none = constraint(rules, EDIT)
    assert accepts(none, "some text, <think> marks and {} too")
    assert not accepts(none, "a call: <tool_call>")


def test_required_begins_with_a_call_and_allows_more() -> None:
    required = constraint(CallRules("required"), EDIT, LOOSE)
    assert accepts(required, GOOD)
    assert accepts(required, GOOD + "\n" + call("loose", "{}") + "\n" + GOOD)
    assert not accepts(required, "text")
    assert not accepts(required, "")
    assert not accepts(required, GOOD + GOOD)


@pytest.mark.parametrize("rules", [CallRules("required", parallel=False), CallRules("named", frozenset(["edit"]))])
def test_named_or_not_parallel_is_exactly_one_call(rules: CallRules) -> None:
    one = constraint(rules, EDIT, LOOSE)
    assert accepts(one, GOOD)
    assert not accepts(one, GOOD + "\n" + GOOD)


def test_named_calls_the_named_tool_only() -> None:
    assert not accepts(constraint(CallRules("named", frozenset(["loose"])), EDIT, LOOSE), GOOD)


def test_json_is_written_like_json_dumps() -> None:
    required = constraint(CallRules("required"), EDIT)
    assert not accepts(required, call("edit", '{"path":"a","line":3}'))
    assert not accepts(required, call("edit", '{ "path": "a", "line": 3}'))


def test_required_without_a_callable_tool_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        constraint(CallRules("required", allowed=frozenset()), EDIT)
    assert refused.value.param == "tool_choice"


def test_a_thinking_model_may_think_first() -> None:
    required = constraint(CallRules("required"), EDIT, thinking=True)
    assert accepts(required, "<think>\nwell, {\n</think>\n\n" + GOOD)
    assert accepts(required, GOOD)
    assert not accepts(required, "<think>\nwell\n</think>\n\ntext")


def test_a_thinking_model_told_not_to_think_does_not() -> None:
    required = constraint(CallRules("required"), EDIT, thinking=True, effort="none")
    assert accepts(required, GOOD)
    assert not accepts(required, "<think>\nwell\n</think>\n\n" + GOOD)


def test_a_text_schema_rules_from_the_first_token() -> None:
    text = constraint(CallRules(text_schema=ANSWER))
    assert accepts(text, '{"ok": true}')
    assert not accepts(text, '{"ok": 1}')
    assert not accepts(text, "true")


def test_a_text_schema_with_tools_lets_the_model_choose() -> None:
    either = constraint(CallRules(text_schema=ANSWER), EDIT)
    assert accepts(either, '{"ok": true}')
    assert accepts(either, GOOD + "\n" + GOOD)
    assert not accepts(either, "text")
    assert not accepts(constraint(CallRules("none", text_schema=ANSWER), EDIT), GOOD)


@pytest.mark.parametrize("schema", [b"{}", b"true"])
def test_the_empty_schema_is_any_json_object(schema: bytes) -> None:
    text = constraint(CallRules(text_schema=schema))
    assert accepts(text, '{"a": [1, 2]}')
    assert not accepts(text, "[1]")


def test_a_schema_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        constraint(CallRules(text_schema=b"[1]"))


def test_custom_tools_take_one_string() -> None:
    custom = constraint(CallRules("required"), PYTHON, LARK)
    assert accepts(custom, call("python", '{"input": "print(1)\\n"}'))
    assert accepts(custom, call("lark", '{"input": "x"}'))
    assert not accepts(custom, call("lark", '{"input": "anything"}'))
    assert not accepts(custom, call("python", '{"input": 1}'))
    assert not accepts(custom, call("python", '{"input": "a", "b": 1}'))


def test_a_regex_is_enforced_inside_the_json_string() -> None:
    custom = constraint(CallRules("required"), DIGITS)
    assert accepts(custom, call("digits", '{"input": "12\\n"}'))
    assert accepts(custom, call("digits", '{"input": "\\""}'))
    assert not accepts(custom, call("digits", '{"input": "x"}'))


def test_a_vocabulary_without_markers_spells_them() -> None:
    tokenizer = ToyTokenizer(["<|im_start|>", "<|im_end|>"])
    format = chatml(tokenizer, thinking=True)
    context = PromptContext(tools=tools(EDIT))
    grammars = Grammars(tokenizer)

    def takes(rules: CallRules, text: str) -> bool:
        constraint = format.constraint(context, rules)
        assert constraint is not None
        assert grammars.error(constraint) == ""
        return grammars.accepts(constraint, tokenizer.encode(text))

    bad = call("edit", "{}")
    assert takes(CallRules("required"), GOOD + "\n" + GOOD)
    assert takes(CallRules(), f"text <tool {GOOD}\n{GOOD} more < text")
    assert takes(CallRules(), "text only")
    assert not takes(CallRules(), f"text {bad}")
    assert takes(CallRules(parallel=False), f"text {GOOD}")
    assert not takes(CallRules(parallel=False), GOOD + GOOD)
    assert takes(CallRules("none"), "text <tool_cal")
    assert not takes(CallRules("none"), f"text {GOOD}")
