import json

import pytest
from tests.support.grammars import ANSWER, DIGITS, EDIT, HOSTED, LOOSE, PYTHON, Grammars
from tests.support.toy_tokenizer import ToyTokenizer
from tests.support.vocabularies import HARMONY_IDS

from hotloop.errors import InvalidRequest
from hotloop.formats.families.harmony.format import Harmony
from hotloop.protocol.tools import decode_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

TOKENIZER = ToyTokenizer(tuple(HARMONY_IDS))
GRAMMARS = Grammars(TOKENIZER, "<|return|>")
LARK: dict[str, object] = {
    "type": "custom",
    "name": "lark",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "a\\n" | "b"'},
}
THINK = "<|channel|>analysis<|message|>hm {}<|end|><|start|>assistant"
PREAMBLE = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"


def constraint(rules: CallRules, *tools: dict[str, object]) -> Constraint | None:
    return Harmony(TOKENIZER).constraint(PromptContext(tools=decode_tools(json.dumps(tools).encode())), rules)


def accepts(constraint: Constraint | None, text: str) -> bool:
    assert constraint is not None and constraint.trigger is None
    assert GRAMMARS.error(constraint) == ""
    return GRAMMARS.accepts(constraint, GRAMMARS.ids(text))


def call(name: str, arguments: str) -> str:
    return f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}"


GOOD = call("edit", '{"path":"ä","line":3}')


def test_auto_lets_the_model_think_speak_and_call() -> None:
    auto = constraint(CallRules(), EDIT, LOOSE)
    for lead in ("", THINK, THINK + PREAMBLE, PREAMBLE + THINK):
        assert accepts(auto, lead + GOOD)
        assert accepts(auto, f"{lead}{FINAL}some text <tool> {{")
    assert accepts(auto, ' to=functions.edit<|channel|>commentary json<|message|>{"path":"ä","line":3}')
    assert accepts(auto, call("loose", '{"any":[1,{"x":null}]}'))
    assert not accepts(auto, call("edit", '{"path":"a"}'))
    assert not accepts(auto, call("other", "{}"))
    assert not accepts(auto, call("loose", "[1]"))
    assert not accepts(auto, "no head")


@pytest.mark.parametrize("rules", [CallRules("required"), CallRules("named", frozenset(["edit"]))])
def test_a_forced_call_comes_behind_reasoning_only(rules: CallRules) -> None:
    forced = constraint(rules, EDIT, LOOSE)
    assert accepts(forced, GOOD) and accepts(forced, THINK + GOOD)
    assert not accepts(forced, f"{FINAL}no") and not accepts(forced, PREAMBLE + GOOD)
    assert accepts(forced, call("loose", "{}")) == (rules.choice == "required")


def test_only_allowed_tools_can_be_called() -> None:
    auto = constraint(CallRules(allowed=frozenset(["edit"])), EDIT, LOOSE)
    assert accepts(auto, GOOD) and not accepts(auto, call("loose", "{}"))


def test_none_forbids_calls_not_text() -> None:
    none = constraint(CallRules("none"), EDIT)
    assert accepts(none, f"{THINK}{FINAL}x") and not accepts(none, GOOD)


def test_without_tools_and_schema_everything_is_free() -> None:
    assert constraint(CallRules()) is None
    assert constraint(CallRules(), HOSTED) is None


def test_a_schema_rules_the_answer_or_a_call_is_made() -> None:
    rules = CallRules(text_schema=ANSWER)
    assert accepts(constraint(rules), f'{THINK}{FINAL}{{"ok":true}}')
    assert not accepts(constraint(rules), f"{FINAL}yes") and not accepts(constraint(rules), GOOD)
    both = constraint(rules, EDIT)
    assert accepts(both, GOOD) and accepts(both, f'{FINAL}{{"ok":true}}') and not accepts(both, f"{FINAL}yes")
    assert accepts(constraint(CallRules(text_schema=b"{}")), f'{FINAL}{{"any":1}}')


def test_custom_tools_take_text_and_a_grammar_is_kept() -> None:
    auto = constraint(CallRules(), PYTHON, DIGITS, LARK)
    assert accepts(auto, call("lark", '{"input":"a\\n"}')) and not accepts(auto, call("lark", '{"input":"c"}'))
    assert accepts(auto, call("python", '{"input":"print(1)\\n"}'))
    assert accepts(auto, call("digits", '{"input":"12"}')) and not accepts(auto, call("digits", '{"input":"a"}'))


def test_a_call_that_nothing_allows_is_refused_by_name() -> None:
    for rules in (CallRules("required"), CallRules("named", frozenset(["gone"]))):
        with pytest.raises(InvalidRequest) as refused:
            constraint(rules, HOSTED)
        assert refused.value.param == "tool_choice"
