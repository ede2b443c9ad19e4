import json

import pytest
from tests.support.grammars import Grammars
from tests.support.toy_tokenizer import GLM_SPECIALS, ToyTokenizer

from hotloop.errors import InvalidRequest
from hotloop.formats import format_named
from hotloop.protocol.tools import Tool, decode_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "line": {"type": "integer"},
        "all": {"type": "boolean"},
        "mode": {"enum": ["fast", 2]},
        "size": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
        "code": {"type": "string", "pattern": "^[A-Z]+$"},
        "short": {"type": "string", "maxLength": 2},
        "any": {"type": ["string", "integer"]},
    },
    "required": ["path", "line"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string"}},
}
EDIT: dict[str, object] = {"type": "function", "name": "edit", "strict": True, "parameters": SCHEMA}
LOOSE: dict[str, object] = {"type": "function", "name": "loose", "parameters": SCHEMA}
NONE: dict[str, object] = {
    "type": "function",
    "name": "none",
    "strict": True,
    "parameters": {"type": "object", "additionalProperties": False},
}
PYTHON: dict[str, object] = {"type": "custom", "name": "python"}
DIGITS: dict[str, object] = {
    "type": "custom",
    "name": "digits",
    "format": {"type": "grammar", "syntax": "regex", "definition": "[0-9]+\n?"},
}
ANSWER = json.dumps({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}).encode()

QWEN = ToyTokenizer()
GLM = ToyTokenizer(GLM_SPECIALS)
SPELLED = ToyTokenizer(("<|im_start|>", "<|im_end|>"))
END = {"qwen3-coder": "<|im_end|>", "qwen3.5": "<|im_end|>", "glm-4.6": "<|user|>", "glm-4.7": "<|user|>"}


def tools(*entries: dict[str, object]) -> tuple[Tool, ...]:
    return decode_tools(json.dumps(entries).encode())


def constraint(
    family: str,
    rules: CallRules,
    *entries: dict[str, object],
    effort: str | None = "none",
    tokenizer: ToyTokenizer | None = None,
) -> Constraint | None:
    vocabulary = tokenizer or (GLM if family.startswith("glm") else QWEN)
    return format_named(family, vocabulary).constraint(
        PromptContext(tools=tools(*entries), reasoning_effort=effort), rules
    )


def accepts(family: str, rule: Constraint | None, text: str, *, tokenizer: ToyTokenizer | None = None) -> bool:
    assert rule is not None
    grammars = Grammars(tokenizer or (GLM if family.startswith("glm") else QWEN), END[family])
    assert grammars.error(rule) == ""
    return grammars.accepts(rule, grammars.ids(text))


def call(family: str, name: str, *arguments: tuple[str, str]) -> str:
    match family:
        case "glm-4.6":
            body = "".join(f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n" for key, value in arguments)
            return f"<tool_call>{name}\n{body}</tool_call>"
        case "glm-4.7":
            body = "".join(f"<arg_key>{key}</arg_key><arg_value>{value}</arg_value>" for key, value in arguments)
            return f"<tool_call>{name}{body}</tool_call>"
        case _:
            body = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments)
            return f"<tool_call>\n<function={name}>\n{body}</function>\n</tool_call>"


def lead(family: str) -> str:
    return "\n" if family == "glm-4.6" else ""


families = pytest.mark.parametrize("family", sorted(END))
NEEDED = (("path", "a\n</b> ä"), ("line", "3"))


@families
def test_a_required_call_fits_the_schema_value_by_value(family: str) -> None:
    required = constraint(family, CallRules("named", frozenset(["edit"])), EDIT)

    def fits(*more: tuple[str, str]) -> bool:
        return accepts(family, required, lead(family) + call(family, "edit", *NEEDED, *more))

    is_qwen = family.startswith("qwen")
    assert fits()
    assert fits(("all", "True" if is_qwen else "true"))
    assert not fits(("all", "yes"))
    assert fits(("mode", "fast")) and fits(("mode", "2")) and not fits(("mode", "slow"))
    assert fits(("size", "1.5")) and fits(("size", "None" if is_qwen else "null")) and not fits(("size", "big"))
    assert fits(("tags", '["a", "b"]')) and not fits(("tags", "[1]"))
    assert fits(("code", "AB")) and not fits(("code", "ab"))
    assert fits(("short", "ab")) and not fits(("short", "abc"))
    assert fits(("any", "7")) and fits(("any", "seven"))
    assert not fits(("other", "x"))
    assert not accepts(family, required, lead(family) + call(family, "edit", ("path", "a")))
    assert not accepts(family, required, lead(family) + call(family, "edit", ("path", "a"), ("line", "x")))


ALTERNATIVES: list[tuple[dict[str, object], list[str], list[str]]] = [
    (
        {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer", "maximum": 9, "minimum": 0}]},
        ["abc", "", "7"],
        ["abcd", "12", "7a"],
    ),
    ({"anyOf": [{"type": "null"}, {"type": "integer", "multipleOf": 3, "minimum": 0}]}, ["NULL", "6"], ["4", "null!"]),
    ({"anyOf": [{"const": True}, {"type": "array", "items": {"const": 1}}]}, ["TRUE", "[1]"], ["FALSE", "[2]"]),
    ({"oneOf": [{"type": "string", "pattern": "^[a-c]+$"}, {"type": "object"}]}, ["ab", "{}"], ["d", "{"]),
    ({"type": ["string", "null"]}, ["NULL", "anything", "7"], []),
    ({"enum": ["on", True, None]}, ["on", "TRUE", "NULL"], ["FALSE", "off"]),
    ({"anyOf": [{"$ref": "#/$defs/day"}, {"type": "boolean"}]}, ["2024-02-29", "FALSE"], ["2023-02-29", "day", "1"]),
    ({"type": "string", "format": "ipv4"}, ["127.0.0.1"], ["127.0.0.256"]),
]


@families
@pytest.mark.parametrize(("schema", "good", "bad"), ALTERNATIVES)
def test_each_alternative_of_a_value_is_ruled(
    family: str, schema: dict[str, object], good: list[str], bad: list[str]
) -> None:
    is_qwen = family.startswith("qwen")
    words = {"TRUE": str(True), "FALSE": str(False), "NULL": str(None)} if is_qwen else {}
    parameters = {
        "type": "object",
        "properties": {"value": schema},
        "required": ["value"],
        "$defs": {"day": {"type": "string", "format": "date"}},
    }
    tool: dict[str, object] = {"type": "function", "name": "set", "strict": True, "parameters": parameters}
    required = constraint(family, CallRules("required"), tool)

    def fits(value: str) -> bool:
        written = words.get(value, value.lower() if value.isupper() else value)
        return accepts(family, required, lead(family) + call(family, "set", ("value", written)))

    assert all(map(fits, good)), [one for one in good if not fits(one)]
    assert not any(map(fits, bad)), [one for one in bad if fits(one)]


@families
def test_a_loose_tool_takes_any_arguments_and_one_without_takes_none(family: str) -> None:
    required = constraint(family, CallRules("required"), LOOSE, NONE)
    start = lead(family)
    assert accepts(family, required, start + call(family, "loose"))
    assert accepts(family, required, start + call(family, "loose", ("any key", "any\nvalue"), ("b", "")))
    assert accepts(family, required, start + call(family, "none"))
    assert not accepts(family, required, start + call(family, "none", ("a", "b")))
    assert not accepts(family, required, start + call(family, "other"))
    assert not accepts(family, required, "text")


@families
def test_several_calls_stand_as_the_template_writes_them(family: str) -> None:
    one = call(family, "none")
    between = "" if family == "glm-4.7" else "\n"
    two = lead(family) + one + between + one
    assert accepts(family, constraint(family, CallRules("required"), NONE), two)
    assert not accepts(family, constraint(family, CallRules("required", parallel=False), NONE), two)


@families
def test_auto_rules_what_follows_the_call_marker_only(family: str) -> None:
    auto = constraint(family, CallRules(), EDIT)
    assert auto is not None and auto.trigger is not None
    assert accepts(family, auto, call(family, "edit", *NEEDED).removeprefix("<tool_call>"))
    assert not accepts(family, auto, call(family, "edit").removeprefix("<tool_call>"))
    assert constraint(family, CallRules()) is None
    assert not accepts(family, constraint(family, CallRules("none"), EDIT), "a <tool_call>")


@families
def test_custom_tools_take_their_text_raw(family: str) -> None:
    required = constraint(family, CallRules("required"), PYTHON, DIGITS)
    start = lead(family)
    assert accepts(family, required, start + call(family, "python", ("input", 'print("a")\n')))
    assert accepts(family, required, start + call(family, "digits", ("input", "12\n")))
    assert not accepts(family, required, start + call(family, "digits", ("input", "x")))


@families
def test_a_text_schema_rules_the_answer(family: str) -> None:
    either = constraint(family, CallRules(text_schema=ANSWER), EDIT)
    assert accepts(family, either, lead(family) + '{"ok": true}')
    assert accepts(family, either, lead(family) + call(family, "edit", *NEEDED))
    assert not accepts(family, either, lead(family) + '{"ok": 1}')


def test_a_thinking_model_thinks_first() -> None:
    thoughts = {"qwen3.5": "hm\n</think>\n\n", "glm-4.6": "\n<think>hm</think>\n", "glm-4.7": "hm</think>"}
    for family, thought in thoughts.items():
        required = constraint(family, CallRules("required"), NONE, effort=None)
        assert accepts(family, required, thought + call(family, "none"))
        assert not accepts(family, required, lead(family) + call(family, "none"))


def test_a_vocabulary_without_markers_spells_them() -> None:
    required = constraint("qwen3.5", CallRules("required"), EDIT, effort=None, tokenizer=SPELLED)
    text = "hm\n</think>\n\n" + call("qwen3.5", "edit", *NEEDED)
    assert accepts("qwen3.5", required, text, tokenizer=SPELLED)


def test_required_without_a_callable_tool_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        constraint("glm-4.6", CallRules("required", allowed=frozenset()), EDIT)
    assert refused.value.param == "tool_choice"


def test_a_pattern_that_cannot_be_ruled_is_refused_by_name() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)y"}}}
    tool: dict[str, object] = {"type": "function", "name": "f", "strict": True, "parameters": schema}
    with pytest.raises(InvalidRequest) as refused:
        constraint("qwen3-coder", CallRules("required"), tool)
    assert refused.value.param == "tools[0].parameters"
