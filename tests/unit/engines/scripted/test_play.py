import json
from collections.abc import Sequence
from typing import Any

import pytest

from hotloop.engines.scripted.play import Director, Performance, Place, place_of
from hotloop.engines.scripted.script import script_of
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    ReasoningText,
    text_of,
)
from hotloop.protocol.tools import decode_tools
from hotloop.seams.prompt import CallRules, PromptContext, TurnView
from hotloop.session.item_log import ItemLog

TOOLS = decode_tools(
    b'[{"type":"function","name":"shell","parameters":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}},'
    b'{"type":"function","name":"bare"},{"type":"custom","name":"patch"},{"type":"web_search"}]'
)
OUTPUT = FunctionCallOutput(call_id="1", output="ok")


def ask(text: str) -> Message:
    return Message(role="user", content=text)


def perform(
    script: dict[str, Any], items: list[Item], *, tools: bool = True, rules: CallRules | None = None
) -> Performance:
    turn = TurnView(ItemLog(items), (), PromptContext("Be kind.", TOOLS if tools else ()), rules or CallRules())
    director = Director(script_of(script))
    return director.perform(director.find(place_of(turn)), turn)


def view(old: list[Item], new: Sequence[Item] = ()) -> TurnView:
    return TurnView(ItemLog(old), new, PromptContext(), CallRules())


def said(performance: Performance) -> list[str]:
    """The performance in short: texts, `name(arguments)`, `~reasoning`."""
    short: list[str] = []
    for item in performance.items:
        match item:
            case Message():
                short.append(text_of(item.content))
            case Reasoning():
                short.append("~" + text_of(item.content or []))
            case FunctionCall():
                short.append(f"{item.name}({item.arguments})")
            case CustomToolCall():
                short.append(f"{item.name}<{item.input}>")
            case _:
                raise AssertionError(item)
    return short


def one(**turn: Any) -> dict[str, Any]:
    return {"scripts": [{"match": "go", "turns": [turn]}]}


LOOP = {
    "scripts": [
        {
            "match": "^go",
            "turns": [
                {"reasoning": "hm", "text": "first", "call": {"name": "shell", "arguments": {"n": 1}}},
                {"calls": [{"name": "shell", "arguments": '{"n":2}'}, {"name": "patch", "input": "x\n"}]},
                {"text": "done"},
            ],
        },
        {"match": "go", "turns": [{"text": "second script"}]},
    ]
}


def test_tool_outputs_say_how_far_the_conversation_is() -> None:
    items: list[Item] = [ask("go")]
    assert said(perform(LOOP, items)) == ["~hm", "first", 'shell({"n": 1})']
    items += [OUTPUT]
    assert said(perform(LOOP, items)) == ['shell({"n":2})', "patch<x\n>"]
    items += [OUTPUT]
    assert said(perform(LOOP, items)) == ["patch<x\n>"]
    items += [CustomToolCallOutput(call_id="2", output="ok")]
    assert said(perform(LOOP, items)) == ["done"]
    items += [OUTPUT]
    assert said(perform(LOOP, items)) == ["I have no script for this."]


def test_the_newest_user_message_chooses_the_first_script_that_matches() -> None:
    assert said(perform(LOOP, [ask("go"), OUTPUT, ask("let's go")])) == ["second script"]
    assert said(perform(LOOP, [ask("stop")])) == ["I have no script for this."]
    assert said(perform({"otherwise": "?"}, [])) == ["?"]


def test_a_conversation_that_ends_in_a_call_has_nothing_more_to_say() -> None:
    script = one(call={"name": "bare"})
    assert said(perform(script, [ask("go")])) == ["bare({})"]
    assert said(perform(script, [ask("go"), OUTPUT])) == ["I have no script for this."]


def test_of_alternative_calls_the_first_that_is_offered_is_made() -> None:
    script = one(call=[{"name": "cmd"}, {"name": "bare", "arguments": {"a": "é"}}, {"name": "shell"}])
    assert said(perform(script, [ask("go")])) == ['bare({"a": "é"})']


def test_a_call_that_nobody_offers_is_a_problem() -> None:
    script = one(call=[{"name": "cmd"}, {"name": "bash"}])
    assert perform(script, [ask("go")]).problem == (
        "scripts[0].turns[0]: a call of 'cmd', 'bash' is due, and the request offers none of them"
    )


def test_input_and_arguments_fit_the_kind_of_tool() -> None:
    assert said(perform(one(call={"name": "bare", "input": "é"}), [ask("go")])) == ['bare({"input": "é"})']
    assert said(perform(one(call={"name": "patch", "arguments": {"a": 1}}), [ask("go")])) == ['patch<{"a": 1}>']


@pytest.mark.parametrize("where", ["conversation", "turn"])
def test_a_tool_that_is_required_must_be_offered(where: str) -> None:
    script = _with(where, requires_tool="shell")
    assert not perform(script, [ask("go")]).problem
    assert "the tool 'shell' is required" in perform(script, [ask("go")], tools=False).problem


@pytest.mark.parametrize("where", ["conversation", "turn"])
@pytest.mark.parametrize(
    "item",
    [
        ask("my name is Ada"),
        Message(role="developer", content="Ada"),
        FunctionCallOutput(call_id="1", output="Ada"),
        FunctionCall(call_id="1", name="shell", arguments='"Ada"'),
        CustomToolCall(call_id="1", name="patch", input="Ada"),
        Reasoning(content=[ReasoningText(text="Ada")]),
        OpaqueItem("x", b'"Ada"'),
    ],
)
def test_a_text_that_is_required_must_stand_in_the_history(where: str, item: Item) -> None:
    script = _with(where, requires_history=["Ada", "kind"])
    assert not perform(script, [item, ask("go")]).problem
    assert perform(script, [ask("go Ada")]).problem == (
        "scripts[0].turns[0]: the history must hold 'Ada', and it does not"
    )


def _with(where: str, **demand: object) -> dict[str, Any]:
    turn: dict[str, Any] = {"text": "fine"}
    conversation: dict[str, Any] = {"match": "go", "turns": [turn]}
    (turn if where == "turn" else conversation).update(demand)
    return {"scripts": [conversation]}


def test_without_parallel_calls_they_are_made_one_by_one() -> None:
    script = {
        "scripts": [{"match": "go", "turns": [{"calls": [{"name": "shell"}, {"name": "bare"}]}, {"text": "end"}]}]
    }
    rules = CallRules(parallel=False)
    assert said(perform(script, [ask("go")], rules=rules)) == ["shell({})"]
    assert said(perform(script, [ask("go"), OUTPUT], rules=rules)) == ["bare({})"]
    assert said(perform(script, [ask("go"), OUTPUT, OUTPUT], rules=rules)) == ["end"]


def test_tool_choice_none_leaves_the_text() -> None:
    rules = CallRules("none")
    assert said(perform(LOOP, [ask("go")], rules=rules)) == ["~hm", "first"]
    assert said(perform(one(call={"name": "bare"}), [ask("go")], rules=rules)) == ["I have no script for this."]


def test_only_allowed_tools_are_called() -> None:
    script = one(text="t", call=[{"name": "shell"}, {"name": "bare"}])
    assert said(perform(script, [ask("go")], rules=CallRules(allowed=frozenset(["bare"])))) == ["t", "bare({})"]
    assert said(perform(script, [ask("go")], rules=CallRules(allowed=frozenset(["patch"])))) == ["t"]


@pytest.mark.parametrize(
    ("rules", "call"),
    [
        (CallRules("required"), 'shell({"n": 1})'),
        (CallRules("named", frozenset(["bare"])), "bare({})"),
        (CallRules("named", frozenset(["patch"])), "patch<text>"),
    ],
)
def test_a_forced_call_is_made_up_where_the_script_has_none(rules: CallRules, call: str) -> None:
    assert said(perform(one(text="t"), [ask("go")], rules=rules)) == [call]
    assert said(perform(one(text="t"), [ask("what")], rules=rules)) == [call]


def test_a_forced_call_of_the_script_is_kept() -> None:
    assert said(perform(LOOP, [ask("go")], rules=CallRules("required"))) == ["~hm", 'shell({"n": 1})']


SCHEMA = b'{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}'


def test_a_text_schema_gets_json() -> None:
    rules = CallRules(text_schema=SCHEMA)
    assert said(perform(one(text="words"), [ask("go")], rules=rules)) == ['{"ok": true}']
    assert said(perform(one(text='{"ok": false}'), [ask("go")], rules=rules)) == ['{"ok": false}']
    assert said(perform({}, [ask("go")], rules=rules)) == ['{"ok": true}']
    assert said(perform(one(text="t", call={"name": "bare"}), [ask("go")], rules=rules)) == ["bare({})"]


def test_reasoning_alone_is_a_turn() -> None:
    assert said(perform(one(reasoning="hm"), [ask("go")])) == ["~hm"]


def test_a_known_place_saves_reading_back() -> None:
    old: list[Item] = [ask("go"), OUTPUT]
    known = place_of(view(old))
    assert known == Place(2, "go", 1) == place_of(view([], old)) == place_of(view(old[:1], old[1:]))
    assert place_of(view(old), known) == known
    more: list[Item] = [OUTPUT, Message(role="developer", content="x")]
    assert place_of(view(old, more), known) == place_of(view(old, more)) == Place(4, "go", 2)
    asked: list[Item] = [ask("new"), OUTPUT]
    assert place_of(view([*old, *more], asked), known) == place_of(view([*old, *more, *asked])) == Place(6, "new", 1)
    assert place_of(view([OUTPUT]), Place(0, "", 0)) == Place(1, "", 1)


@pytest.mark.parametrize(
    ("turns", "scenes"),
    [
        ([{"text": "t"}], [(0, 0)]),
        ([{"call": {"name": "a"}}, {"text": "t"}], [(0, 0), (1, 0)]),
        ([{"calls": [{"name": "a"}, {"name": "b"}]}, {"call": {"name": "c"}}], [(0, 0), (0, 1), (1, 0)]),
    ],
)
def test_what_is_due_follows_from_how_many_calls_are_answered(
    turns: list[dict[str, Any]], scenes: list[tuple[int, int]]
) -> None:
    director = Director(script_of({"scripts": [{"match": "go", "turns": turns}]}))
    found = [director.find(Place(1, "go", outputs)) for outputs in range(len(scenes) + 1)]
    assert [(scene.turn, scene.answered) for scene in found if scene is not None] == scenes
    assert found[-1] is None


def test_arguments_are_json_as_json_dumps_writes_it() -> None:
    arguments = {"b": [1, 2.5, None], "a": {"x": True}}
    assert said(perform(one(call={"name": "bare", "arguments": arguments}), [ask("go")])) == [
        f"bare({json.dumps(arguments)})"
    ]
