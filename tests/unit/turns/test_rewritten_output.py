"""What the client holds is the conversation: a call that left as something else than what was sampled is written anew."""

from typing import Any

import pytest
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import call, think
from tests.support.turns import Pipeline, RecordingSink, body

from hotloop.turns.turn_request import TurnOutcome

TOOLS: list[dict[str, Any]] = [{"type": "shell"}, {"type": "apply_patch"}, {"type": "local_shell"}]


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


GARBLED = [
    call("shell", '{"nonsense": 1}'),
    call("shell", '{"commands": ["ls"'),
    call("shell", ""),
    call("apply_patch", '{"type": "move_file", "path": "a"}'),
    call("local_shell", "ls -l"),
    think("hm", call("shell", "[]")),
    call("shell", "no") + call("local_shell", "no either")[:-1],
]
OTHERWISE = [
    (call("shell", '{"commands": ["ls"], "timeout_ms": null}'), "shell_call_output"),
    (call("apply_patch", '{"type": "delete_file", "path": "a", "diff": "whatever"}'), "apply_patch_call_output"),
]
AS_SAMPLED = [
    (call("shell", '{ "commands" : ["ls"]}'), "shell_call_output"),
    (call("apply_patch", '{"type": "update_file", "path": "a", "diff": "-b"}'), "apply_patch_call_output"),
]


async def both_ways(sampled: list[int], answer_type: str = "") -> tuple[Pipeline, str, str, str]:
    """What the engine reads in the next turn: continued by id, sent again to this server, and to one that knows nothing."""
    pipeline = Pipeline(ToyEngine(lambda prompt: sampled))
    given = [user("go")]
    first = body(await pipeline.run(input=given, tools=TOOLS))
    new: list[dict[str, Any]] = [user("on")]
    if answer_type:
        call_id = first["output"][-1]["call_id"]
        new = [{"type": answer_type, "call_id": call_id, "output": "done", "status": "completed"}, *new]
    await pipeline.run(input=new, tools=TOOLS, previous_response_id=first["id"])
    continued = pipeline.prompt
    resent = [*given, *first["output"], *new]
    await pipeline.run(input=resent, tools=TOOLS, store=False)
    again = pipeline.prompt
    stranger = Pipeline(ToyEngine(lambda prompt: sampled))
    shown = [{key: value for key, value in item.items() if key != "encrypted_content"} for item in resent]
    await stranger.run(input=shown, tools=TOOLS, store=False)
    return pipeline, continued, again, stranger.prompt


@pytest.mark.parametrize("sampled", GARBLED)
async def test_a_garbled_call_is_the_text_it_left_as_however_the_conversation_goes_on(sampled: list[int]) -> None:
    pipeline, continued, again, anew = await both_ways(sampled)
    assert continued == again == anew
    assert "<tool>" not in continued.rpartition("<reply>")[0]
    counted = pipeline.records.counters.fallbacks
    assert counted["output_rewritten"] == 3  # in each of the turns
    assert counted.keys() <= {"output_rewritten", "kv_not_held"}  # nothing was rendered in full


@pytest.mark.parametrize(("sampled", "answer_type"), OTHERWISE)
async def test_a_call_whose_item_says_less_is_what_its_item_says(sampled: list[int], answer_type: str) -> None:
    pipeline, continued, again, anew = await both_ways(sampled, answer_type)
    assert continued == again == anew
    assert "output_rewritten" in pipeline.records.counters.fallbacks


@pytest.mark.parametrize(("sampled", "answer_type"), AS_SAMPLED)
async def test_a_call_that_left_whole_keeps_its_sampled_ids(sampled: list[int], answer_type: str) -> None:
    pipeline, continued, again, _ = await both_ways(sampled, answer_type)
    assert continued == again and "output_rewritten" not in pipeline.records.counters.fallbacks


async def test_a_call_that_is_cut_off_is_the_text_that_was_shown() -> None:
    pipeline = Pipeline(ToyEngine(lambda prompt: call("shell", '{"commands": ["ls"]}')[:-4]))
    sink = RecordingSink()
    outcome: TurnOutcome = await pipeline.run(sink, input=[user("go")], tools=TOOLS, max_output_tokens=12)
    cut = body(outcome)
    assert (cut["status"], cut["output"][0]["type"]) == ("incomplete", "message")
    await pipeline.run(input=[user("on")], tools=TOOLS, previous_response_id=cut["id"])
    assert "<tool>" not in pipeline.prompt and cut["output"][0]["content"][0]["text"] in pipeline.prompt
