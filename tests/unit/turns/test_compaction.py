"""A compaction that is ended, fails, or is asked for at an odd moment."""

import asyncio
import base64
from typing import Any

from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say
from tests.support.turns import Pipeline, RecordingSink, body

from hotloop.turns.turn_request import RunningTurn

TRIGGER: dict[str, Any] = {"type": "compaction_trigger"}


def engine(summary: str = "sum") -> ToyEngine:
    """Says `summary` when it is asked for one, else ok."""

    def reply(prompt: list[int]) -> list[int]:
        text = "".join(chr(token) for token in prompt if token < 0x110000)
        is_asked = text.endswith("write the summary only.")
        return say(summary if is_asked else "ok")

    return ToyEngine(reply, context_tokens=1_000_000)


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


async def test_an_interrupt_while_the_summary_is_written_ends_the_turn_on_its_chain() -> None:
    pipeline = Pipeline(engine())
    sink = RecordingSink()
    pipeline.engine.pause()
    turn = pipeline.turn(input=[user("a" * 200)], context_management=[{"type": "compaction", "compact_threshold": 50}])
    running_turns: list[RunningTurn] = []
    turn.on_created = running_turns.append
    task = asyncio.create_task(pipeline.runner.run(turn, sink))
    await asyncio.wait_for(pipeline.engine.has_run.wait(), 60)
    running_turns[0].interrupt()
    pipeline.engine.resume()
    outcome = await asyncio.wait_for(task, 60)
    assert body(outcome)["incomplete_details"] == {"reason": "interrupted"}
    check_response_events(sink.events)
    after = await pipeline.run(input=[user("b")], previous_response_id=body(outcome)["id"])
    assert body(after)["status"] == "completed"


async def test_an_empty_summary_is_none() -> None:
    pipeline = Pipeline(engine("  "))
    first = body(await pipeline.run(input=[user("a")]))
    outcome = await pipeline.run(input=[TRIGGER], previous_response_id=first["id"])
    assert outcome.error is not None
    assert outcome.keeps_parent
    assert body(outcome)["status"] == "failed"
    after = await pipeline.run(input=[user("b")], previous_response_id=first["id"])
    assert body(after)["status"] == "completed"


async def test_a_call_that_may_still_be_answered_stays() -> None:
    pipeline = Pipeline(engine())
    call = {"type": "function_call", "name": "ls", "arguments": "{}", "async": True}
    answered = {"type": "function_call_output", "call_id": "done", "output": "x"}
    given = [user("a"), {**call, "call_id": "done"}, {**call, "call_id": "open"}, answered, TRIGGER]
    first = body(await pipeline.run(input=given))
    late = {"type": "function_call_output", "call_id": "open", "output": "late"}
    after = await pipeline.run(input=[late, user("b")], previous_response_id=first["id"])
    assert body(after)["status"] == "completed"
    assert "late" in pipeline.prompt
    again = await pipeline.run(input=[{**late, "call_id": "done"}], previous_response_id=first["id"])
    assert again.error is not None  # that one is summed up


async def test_the_newest_user_message_stays_however_long_it_is() -> None:
    pipeline = Pipeline(engine())
    first = body(await pipeline.run(input=[user("before"), user("long " * 30_000), TRIGGER]))
    await pipeline.run(input=[user("go on")], previous_response_id=first["id"])
    assert pipeline.prompt.count("long ") == 30_000
    assert "before" not in pipeline.prompt


async def test_user_messages_and_settings_stay_and_nothing_leaks() -> None:
    pipeline = Pipeline(engine())
    tools: dict[str, Any] = {
        "type": "additional_tools",
        "role": "developer",
        "tools": [{"type": "function", "name": "ls"}],
    }
    found: dict[str, Any] = {
        "type": "tool_search_output",
        "call_id": "c",
        "tools": [{"type": "function", "name": "rm"}],
    }
    call: dict[str, Any] = {"type": "tool_search_call", "call_id": "c", "arguments": {}}
    old = user("old " * 30_000)
    given = [tools, old, call, found, user("newest")]
    first = body(await pipeline.run(input=[*given, TRIGGER]))
    await pipeline.run(input=[user("go on")], previous_response_id=first["id"])
    assert pipeline.prompt.count("<user>") == 2 + 1  # the newest, the summary as the toy writes it, the question
    assert "newest" in pipeline.prompt
    assert "old" not in pipeline.prompt
    turn = pipeline.engine.runs[-1].turn
    assert [getattr(tool, "name", "") for tool in turn.context.tools] == ["ls", "rm"]
    pipeline.services.prefixes.clear()
    pipeline.chains.drop_connection(1)


async def test_a_file_counts_by_its_text_when_it_is_decided_what_stays() -> None:
    pipeline = Pipeline(engine())
    data = base64.b64encode(b"x" * 100_000).decode()
    file = {"type": "input_file", "filename": "long.txt", "file_data": f"data:text/plain;base64,{data}"}
    given = [{"type": "message", "role": "user", "content": [file]}, user("a"), user("b")]
    outcome = await pipeline.run(input=[*given, TRIGGER])
    after = await pipeline.run(input=[user("c")], previous_response_id=body(outcome)["id"])
    assert body(after)["status"] == "completed"
    assert "long.txt" not in pipeline.prompt and "<user>a<end>" in pipeline.prompt
