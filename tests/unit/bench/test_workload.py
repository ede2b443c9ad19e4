import re
from pathlib import Path

from hotloop.bench.arms import Scale
from hotloop.bench.scripts import ANSWERS, write_script
from hotloop.bench.workload import ITEM_CHARS, LONG_TOOL, create, encoded, history, post, question
from hotloop.engines.scripted.script import load_script
from hotloop.protocol.items import Message, text_of
from hotloop.protocol.request import decode_item


def test_the_same_work_is_made_every_time() -> None:
    assert history(5_000) == history(5_000)
    assert question("short", 3) == question("short", 3)


def test_a_longer_history_begins_like_a_shorter_one() -> None:
    assert history(20 * ITEM_CHARS)[:21] == history(10 * ITEM_CHARS)


def test_history_has_the_characters_asked_for_and_every_call_its_output() -> None:
    items = history(3_500)
    outputs = [item for item in items if item["type"] == "function_call_output"]
    calls = [item for item in items if item["type"] == "function_call"]
    assert sum(len(item["output"]) for item in outputs) == 3_500
    assert [item["call_id"] for item in outputs] == [item["call_id"] for item in calls]


def test_a_create_of_a_measured_turn_is_about_one_kilobyte() -> None:
    previous = "resp_" + 32 * "0"
    for body in (
        create("scripted", [question("short", 1)], previous=previous),
        create("scripted", [question("short", 0, 0)], previous=previous, tool=LONG_TOOL),
    ):
        assert 900 <= len(encoded(body)) <= 1_150


def test_both_transports_carry_the_same_conversation() -> None:
    items = history(2_000)
    socket, http = create("m", items), post("m", items)
    assert socket["type"] == "response.create"
    assert {key: http[key] for key in ("model", "store", "tools", "input")} == {
        key: socket[key] for key in ("model", "store", "tools", "input")
    }


def test_the_scale_says_how_much_text_makes_a_base() -> None:
    scale = Scale(offset=300, per_char=0.25, warm_up=20, turn=150, question=140)
    assert scale.chars(1_300) == 4_000
    assert scale.chars(100) == 0


def test_the_script_answers_each_kind_of_question_at_its_own_length(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    write_script(path)
    script = load_script(path)
    for conversation, (name, words) in zip(script.scripts, ANSWERS.items(), strict=True):
        message = decode_item(encoded(question(name, 1)), "input[0]")
        assert isinstance(message, Message)
        assert re.search(conversation.match, text_of(message.content))
        (answer,) = conversation.turns
        assert len(answer.text.split()) == words
        assert answer.pace is not None
        assert answer.pace.tokens == (16 if name == "batch" else 1)
