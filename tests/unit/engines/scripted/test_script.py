from pathlib import Path

import pytest

from hotloop.engines.scripted import Script, ScriptError, load_script, parse_script, script_of
from hotloop.engines.scripted.script import Call, Pace


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("scripts:\n- match: hi\n  turns:\n  - call: {name: ls}\n  - text: é\n")
    (tmp_path / "a.json").write_text('{"scripts":[{"match":"hi","turns":[{"call":{"name":"ls"}},{"text":"é"}]}]}')
    script = load_script(tmp_path / "a.yaml")
    assert script == load_script(str(tmp_path / "a.json"))
    assert script.scripts[0].turns[0].all_calls == [[Call(name="ls")]]
    assert script.pace == Pace(tokens=1, seconds=0)


def test_an_empty_file_is_a_script_without_conversations() -> None:
    assert parse_script("") == Script()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scripts: [", "f.yaml:1:11: not YAML: "),
        ("a: \x00", "f.yaml: not YAML: unacceptable character"),
        ("[1]", "f.yaml: $: Expected `object`, got `array`"),
        ("script: []", "f.yaml: $: Object contains unknown field `script`"),
        ("scripts: [{match: a, turns: []}]", "f.yaml: $.scripts[0].turns: Expected `array` of length >= 1"),
        ("scripts: [{turns: [{text: a}]}]", "f.yaml: $.scripts[0]: Object missing required field `match`"),
        ("scripts: [{match: a, turns: [{text: 1}]}]", "f.yaml: $.scripts[0].turns[0].text: Expected `str`, got `int`"),
        ("scripts: [{match: a, turns: [{delay: -1}]}]", "f.yaml: $.scripts[0].turns[0].delay: Expected `float` >= 0"),
        ("scripts: [{match: '(', turns: [{text: a}]}]", "f.yaml: $.scripts[0].match: not a regular expression: "),
        ("scripts: [{match: a, turns: [{text: a}, {text: b}]}]", "f.yaml: $.scripts[0].turns[0]: without a call"),
        ("scripts: [{match: a, turns: [{delay: 1}]}]", "f.yaml: $.scripts[0].turns[0]: the turn says nothing"),
        (
            "scripts: [{match: a, turns: [{call: {name: x, input: a, arguments: {}}}]}]",
            "f.yaml: $.scripts[0].turns[0]: 'x' takes arguments or input, not both",
        ),
    ],
)
def test_an_error_names_file_place_and_reason_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ScriptError) as error:
        parse_script(text, source="f.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"none\.yaml: No such file"):
        load_script(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ScriptError, match=r"latin\.yaml: not UTF-8 text"):
        load_script(tmp_path / "latin.yaml")
    (tmp_path / "bad.json").write_text('{"a": }')
    with pytest.raises(ScriptError, match=r"bad\.json:1:7: not JSON: Expecting value"):
        load_script(tmp_path / "bad.json")


def test_objects_will_do_as_well() -> None:
    assert script_of({"otherwise": "?"}).otherwise == "?"
