import json

import pytest
from tests.contracts.deepseek_cases import DEEPSEEK_SPECIALS
from tests.support.grammars import ANSWER, DIGITS, EDIT, PYTHON, Grammars
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.errors import InvalidRequest
from hotloop.formats import format_named
from hotloop.protocol.tools import Tool, decode_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

EOS = "<｜end▁of▁sentence｜>"
TOKENIZER = ToyTokenizer(DEEPSEEK_SPECIALS)
GRAMMARS = Grammars(TOKENIZER, EOS)
SPELLED = ToyTokenizer([mark for mark in DEEPSEEK_SPECIALS if mark != "｜DSML｜"])
VERSIONS = ("r1", "v3.1", "v3.2", "v4")

LOOSE: dict[str, object] = {"type": "function", "name": "loose"}
LARK: dict[str, object] = {
    "type": "custom",
    "name": "lark",
    "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "x" | "y"'},
}


def tools(*entries: dict[str, object]) -> tuple[Tool, ...]:
    return decode_tools(json.dumps(entries).encode())


def constraint(
    version: str,
    rules: CallRules,
    *entries: dict[str, object],
    effort: str | None = None,
    tokenizer: ToyTokenizer = TOKENIZER,
) -> Constraint | None:
    context = PromptContext(tools=tools(*entries), reasoning_effort=effort)
    return format_named(f"deepseek-{version}", tokenizer).constraint(context, rules)


def accepts(constraint: Constraint | None, text: str, grammars: Grammars = GRAMMARS) -> bool:
    assert constraint is not None
    assert grammars.error(constraint) == ""
    return grammars.accepts(constraint, grammars.ids(text))


def dsml(name: str, **parameters: object) -> str:
    lines = [
        f'<｜DSML｜parameter name="{key}" string="{"true" if isinstance(value, str) else "false"}">'
        f"{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}</｜DSML｜parameter>\n"
        for key, value in parameters.items()
    ]
    return f'<｜DSML｜invoke name="{name}">\n{"".join(lines)}</｜DSML｜invoke>\n'


def calls(version: str, *made: tuple[str, dict[str, object]]) -> str:
    """A whole row of calls, as the version writes it."""
    ones: list[str] = []
    for name, arguments in made:
        text = json.dumps(arguments, ensure_ascii=False)
        match version:
            case "r1":
                ones.append(
                    f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{text}\n```<｜tool▁call▁end｜>"
                )
            case "v3.1":
                ones.append(f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{text}<｜tool▁call▁end｜>")
            case _:
                ones.append(dsml(name, **arguments))
    if version in ("v3.2", "v4"):
        section = "function_calls" if version == "v3.2" else "tool_calls"
        return f"\n\n<｜DSML｜{section}>\n{''.join(ones)}</｜DSML｜{section}>"
    return f"<｜tool▁calls▁begin｜>{('' if version == 'v3.1' else chr(10)).join(ones)}<｜tool▁calls▁end｜>"


def thought(version: str) -> str:
    """R1 has always reasoned first."""
    return "well\n</think>\n\n" if version == "r1" else ""


GOOD: tuple[str, dict[str, object]] = ("edit", {"path": "ä </b> \n", "line": 3})
ANY: tuple[str, dict[str, object]] = ("loose", {"any": [1, {"x": None}], "text": "t"})


@pytest.mark.parametrize("version", VERSIONS)
def test_auto_rules_what_follows_the_marker_only(version: str) -> None:
    auto = constraint(version, CallRules(), EDIT, LOOSE)
    assert auto is not None and not auto.once
    marker = TOKENIZER.pieces[auto.trigger or 0].decode()

    def behind(*made: tuple[str, dict[str, object]]) -> bool:
        return accepts(auto, calls(version, *made).partition(marker)[2])

    assert behind(GOOD, ANY)
    assert behind(GOOD)
    assert not behind(("edit", {"path": "a"}))
    assert not behind(("edit", {"path": "a", "line": "x"}))
    assert not behind(("other", {}))


@pytest.mark.parametrize("version", VERSIONS)
def test_one_call_only_where_they_are_not_parallel(version: str) -> None:
    auto = constraint(version, CallRules(parallel=False), EDIT)
    assert auto is not None and auto.once
    for rules in (CallRules("required", parallel=False), CallRules("named", frozenset(["edit"]))):
        one = constraint(version, rules, EDIT, LOOSE)
        assert accepts(one, thought(version) + calls(version, GOOD))
        assert not accepts(one, thought(version) + calls(version, GOOD, GOOD))


@pytest.mark.parametrize("version", VERSIONS)
def test_required_begins_with_a_call_and_allows_more(version: str) -> None:
    required = constraint(version, CallRules("required"), EDIT, LOOSE)
    assert accepts(required, thought(version) + calls(version, GOOD, ANY, GOOD))
    assert not accepts(required, thought(version) + "text")
    assert not accepts(required, thought(version))
    assert not accepts(required, thought(version) + calls(version, GOOD) + "text")
    with pytest.raises(InvalidRequest) as refused:
        constraint(version, CallRules("required", allowed=frozenset()), EDIT)
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize("version", VERSIONS)
def test_none_forbids_the_marker_and_nothing_else(version: str) -> None:
    none = constraint(version, CallRules("none"), EDIT)
    assert accepts(none, "some text, <｜tool▁calls and {} too")
    assert not accepts(none, "a call: " + calls(version, GOOD))
    assert constraint(version, CallRules()) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_schema_rules_the_text_and_leaves_the_choice_of_calls(version: str) -> None:
    text = constraint(version, CallRules(text_schema=ANSWER), EDIT)
    assert accepts(text, thought(version) + '{"ok": true}')
    assert accepts(text, thought(version) + calls(version, GOOD))
    assert not accepts(text, thought(version) + '{"ok": 1}')
    assert not accepts(constraint(version, CallRules("none", text_schema=ANSWER), EDIT), thought(version) + "text")


def test_a_model_that_reasons_has_done_so_first() -> None:
    required = constraint("v3.2", CallRules("required"), EDIT, effort="high")
    assert accepts(required, "well, {</think>" + calls("v3.2", GOOD))
    assert not accepts(required, calls("v3.2", GOOD))
    text = constraint("v3.1", CallRules(text_schema=ANSWER), effort="high")
    assert accepts(text, 'well</think>{"ok": true}')


@pytest.mark.parametrize("version", VERSIONS)
def test_custom_tools_take_their_text(version: str) -> None:
    custom = constraint(version, CallRules("required"), PYTHON, DIGITS, LARK)
    for name, good, bad in (("python", "if a </b>:\n", None), ("digits", "12", "1x"), ("lark", "y", "z")):
        assert accepts(custom, thought(version) + calls(version, (name, {"input": good})))
        assert bad is None or not accepts(custom, thought(version) + calls(version, (name, {"input": bad})))


KINDS: dict[str, object] = {
    "type": "function",
    "name": "kinds",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {
            "one": {"enum": ["a", 1, ""]},
            "two": {"const": "b"},
            "three": {"type": ["string", "null"]},
            "four": {"$ref": "#/$defs/four"},
            "five": {},
            "six": {"type": ["string"]},
        },
        "required": ["one"],
        "$defs": {"four": {"type": "integer"}},
    },
}


def test_dsml_parameters_are_typed_by_their_schema() -> None:
    required = constraint("v3.2", CallRules("required"), KINDS)

    def takes(**parameters: object) -> bool:
        return accepts(required, calls("v3.2", ("kinds", parameters)))

    assert takes(one="a") and takes(one=1) and takes(one="")
    assert takes(one="a", two="b", three="any", four=4, five="text", six="s")
    assert takes(one="a", three=None, five=[1])
    assert not takes() and not takes(one="c") and not takes(one="a", two="c")
    assert not takes(one="a", three=1) and not takes(one="a", four="x") and not takes(one="a", six=1)


def test_a_vocabulary_without_dsml_spells_it() -> None:
    grammars = Grammars(SPELLED, EOS)
    required = constraint("v3.2", CallRules("required"), EDIT, PYTHON, tokenizer=SPELLED)
    assert accepts(required, calls("v3.2", GOOD, ("python", {"input": "</b>"})), grammars)
    assert not accepts(required, calls("v3.2", ("edit", {"path": "a"})), grammars)
    auto = constraint("v3.2", CallRules(), EDIT, tokenizer=SPELLED)
    assert auto is not None and auto.trigger is None
    assert accepts(auto, "text" + calls("v3.2", GOOD), grammars)
    assert not accepts(auto, "text" + calls("v3.2", ("edit", {})), grammars)
