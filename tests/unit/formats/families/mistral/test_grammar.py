import json

import pytest
from tests.support.grammars import ANSWER, DIGITS, EDIT, HOSTED, LOOSE, Grammars
from tests.support.toy_tokenizer import ToyTokenizer
from tests.support.vocabularies import MISTRAL_MARKS

from hotloop.errors import InvalidRequest
from hotloop.formats.families.mistral.format import Mistral
from hotloop.formats.families.mistral.text import V3, V11, V13, V13_THINKING, Version
from hotloop.protocol.tools import decode_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

TOKENIZER = ToyTokenizer(MISTRAL_MARKS)
GRAMMARS = Grammars(TOKENIZER, "</s>")
LARK: dict[str, object] = {
    "type": "custom",
    "name": "lark",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "a" | "b"'},
}
GOOD = '{"path": "ä", "line": 3}'
every_version = pytest.mark.parametrize("version", [V3, V11, V13, V13_THINKING], ids=lambda version: version.name)


def constraint(version: Version, rules: CallRules, *tools: dict[str, object]) -> Constraint | None:
    context = PromptContext(tools=decode_tools(json.dumps(tools).encode()))
    return Mistral(TOKENIZER, version).constraint(context, rules)


def accepts(constraint: Constraint | None, text: str) -> bool:
    assert constraint is not None
    assert GRAMMARS.error(constraint) == ""
    return GRAMMARS.accepts(constraint, GRAMMARS.ids(text))


def calls(version: Version, *calls: tuple[str, str], ids: bool = False) -> str:
    """The text of calls, the first marker included."""
    if version is V3:
        tail = ', "id": "abcdefgh1"' if ids else ""
        return "[TOOL_CALLS][" + ", ".join(f'{{"name": "{n}", "arguments": {a}{tail}}}' for n, a in calls) + "]"
    middle = "[CALL_ID]abcdefgh1[ARGS]" if ids else "[ARGS]"
    return "".join(f"[TOOL_CALLS]{name}{middle}{arguments}" for name, arguments in calls)


@every_version
def test_auto_rules_what_follows_the_marker_only(version: Version) -> None:
    auto = constraint(version, CallRules(), EDIT, LOOSE, DIGITS, LARK)
    assert auto is not None and auto.trigger == TOKENIZER.special("[TOOL_CALLS]")
    assert auto.once == (version is V3)  # elsewhere every call has its marker

    def one(name: str, arguments: str, *, ids: bool = False) -> str:
        return calls(version, (name, arguments), ids=ids).removeprefix("[TOOL_CALLS]")

    assert accepts(auto, one("edit", GOOD)) and accepts(auto, one("loose", '{"any": [1, {"x": null}]}'))
    assert accepts(auto, one("digits", '{"input": "12"}')) and accepts(auto, one("lark", '{"input": "b"}'))
    assert accepts(auto, one("edit", GOOD, ids=True)) == (version in (V3, V11))
    for name, arguments in (("edit", "{}"), ("gone", "{}"), ("loose", "1"), ("digits", '{"input": "x"}')):
        assert not accepts(auto, one(name, arguments))
    assert constraint(version, CallRules(parallel=False), EDIT) == constraint(
        version, CallRules(parallel=False), EDIT, HOSTED
    )


@every_version
def test_forced_calls_are_all_there_is(version: Version) -> None:
    several = constraint(version, CallRules("required"), EDIT, LOOSE)
    single = constraint(version, CallRules("required", parallel=False), EDIT, LOOSE)
    named = constraint(version, CallRules("named", frozenset(["edit"])), EDIT, LOOSE)
    one, two = calls(version, ("edit", GOOD)), calls(version, ("edit", GOOD), ("loose", "{}"))
    assert accepts(several, one) and accepts(several, two)
    assert accepts(single, one) and not accepts(single, two)
    assert accepts(named, one) and not accepts(named, calls(version, ("loose", "{}")))
    assert not accepts(several, "text") and not accepts(several, "")
    assert accepts(several, "[THINK]hm {[/THINK]" + one) == (version is V13_THINKING)


@every_version
def test_without_parallel_calls_auto_ends_after_one(version: Version) -> None:
    auto = constraint(version, CallRules(parallel=False), LOOSE)
    assert auto is not None and auto.once
    assert not accepts(auto, calls(version, ("loose", "{}"), ("loose", "{}")).removeprefix("[TOOL_CALLS]"))


@every_version
def test_none_forbids_the_marker_only(version: Version) -> None:
    none = constraint(version, CallRules("none"), EDIT)
    assert accepts(none, "any text { [") and not accepts(none, "a[TOOL_CALLS]")


@every_version
def test_a_schema_rules_the_answer_or_calls_are_made(version: Version) -> None:
    rules = CallRules(text_schema=ANSWER)
    assert accepts(constraint(version, rules), '{"ok": true}') and not accepts(constraint(version, rules), "yes")
    both = constraint(version, rules, EDIT)
    assert accepts(both, '{"ok": true}') and accepts(both, calls(version, ("edit", GOOD))) and not accepts(both, "yes")


@every_version
def test_without_tools_everything_is_free_and_a_forced_call_is_refused(version: Version) -> None:
    assert constraint(version, CallRules(), HOSTED) is None
    with pytest.raises(InvalidRequest) as refused:
        constraint(version, CallRules("required"), HOSTED)
    assert refused.value.param == "tool_choice"
