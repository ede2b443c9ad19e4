"""What items change for the responses behind them, wherever the chain comes from."""

from typing import Any

import pytest
from tests.support.turns import ME, Pipeline, body

from hotloop.errors import ApiError

EFFORT = {"type": "configuration_update", "reasoning": {"effort": "high"}}
JSON_TEXT = {"type": "configuration_update", "text": {"format": {"type": "json_object"}}}
TOOLS = {"type": "additional_tools", "role": "developer", "tools": [{"type": "function", "name": "ls"}]}


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}


@pytest.mark.parametrize("connection", [1, None], ids=["cached", "stored"])
async def test_an_update_lasts_until_a_request_says_otherwise(connection: int | None) -> None:
    pipeline = Pipeline()
    first = body(await pipeline.run(input=[EFFORT, JSON_TEXT, TOOLS, user("a")], connection=connection))
    if connection is None:
        pipeline.chains.evict(ME, None, first["id"])
    await pipeline.run(input=[user("b")], previous_response_id=first["id"], connection=connection)
    turn = pipeline.engine.runs[-1].turn
    assert turn.context.reasoning_effort == "high"
    assert turn.rules.text_schema == b"{}"
    assert [getattr(tool, "name", "") for tool in turn.context.tools] == ["ls"]
    own: dict[str, Any] = {"reasoning": {"effort": "low"}, "text": {"format": {"type": "text"}}}
    await pipeline.run(input=[user("b")], previous_response_id=first["id"], connection=connection, **own)
    turn = pipeline.engine.runs[-1].turn
    assert turn.context.reasoning_effort == "low"
    assert turn.rules.text_schema is None


async def test_items_that_only_set_something_render_as_nothing() -> None:
    pipeline = Pipeline()
    await pipeline.run(input=[user("a"), EFFORT, user("b")])
    assert pipeline.prompt.count("<user>") == 2
    assert "configuration" not in pipeline.prompt


@pytest.mark.parametrize(
    "item",
    [
        {"type": "configuration_update", "reasoning": {"effort": "enormous"}},
        {"type": "additional_tools", "tools": [{"type": "function"}]},
        {"type": "additional_tools", "tools": "all"},
    ],
)
async def test_an_item_that_sets_nonsense_is_refused(item: dict[str, Any]) -> None:
    outcome = await Pipeline().run(input=[item, user("a")])
    assert isinstance(outcome.error, ApiError)
    assert outcome.is_refused
    assert (outcome.error.param or "").startswith("input")


async def test_a_history_sent_again_is_recognised_with_the_tools_it_brings() -> None:
    pipeline = Pipeline()
    first = body(await pipeline.run(input=[TOOLS, user("a")], store=False))
    await pipeline.run(input=[TOOLS, user("a"), *first["output"], user("b")], store=False)
    record = pipeline.records.latest()[-1]
    assert (record.recognised_items, record.fallbacks) == (3, ())
