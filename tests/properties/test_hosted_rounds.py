"""Whatever a model calls in however many rounds: one chain, nothing rendered twice, every event in its place."""

import asyncio
import json

from hypothesis import given
from hypothesis import strategies as st
from tests.support.hosted import ask, both, by_results, hosted_pipeline, prompts, result
from tests.support.toy_format import REPLY, call, say, think

CALLS = st.tuples(st.sampled_from(["look", "fail"]), st.sampled_from(["", "a", "é"]))
ROUNDS = st.lists(
    st.tuples(st.sampled_from(["", "hm"]), st.lists(CALLS, min_size=1, max_size=3)), min_size=1, max_size=4
)


def written(thought: str, calls: list[tuple[str, str]]) -> list[int]:
    """The ids of a round's output."""
    ids = both(*(call(f"files__{name}", json.dumps({"key": key})) for name, key in calls))
    return think(thought, ids) if thought else ids


def told(calls: list[tuple[str, str]]) -> list[int]:
    """The ids of its results."""
    return [token for name, key in calls for token in result(f"<{key}>" if name == "look" else "Error: no such key")]


@given(ROUNDS, st.booleans(), st.integers(1, 9))
def test_rounds_are_one_chain_that_the_next_turn_continues(
    rounds: list[tuple[str, list[tuple[str, str]]]], store: bool, step: int
) -> None:
    async def main() -> None:
        outputs = {0: written(*rounds[0])}
        count = 0
        for index, (_, calls) in enumerate(rounds):
            count += len(calls)
            outputs[count] = written(*rounds[index + 1]) if index + 1 < len(rounds) else say("done")
        engine = by_results(*(outputs.get(number, []) for number in range(count + 1)))
        engine.step = step
        pipeline, servers = hosted_pipeline(engine)
        first = await ask(pipeline, input="hi", store=store)
        assert first["output"][-1]["content"][0]["text"] == "done"
        expected = prompts(pipeline)[0]
        for prompt, (thought, calls) in zip(prompts(pipeline)[1:], rounds, strict=True):
            expected = [*expected, *written(thought, calls), *told(calls), REPLY]
            assert prompt == expected
        kept = [run.keep for run in pipeline.engine.runs[1:]]
        assert all(keep > 0 for keep in kept), "every round continues the KV of the one before"
        await ask(pipeline, input="on", previous_response_id=first["id"], store=store)
        assert prompts(pipeline)[len(rounds) + 1][: len(expected)] == expected
        assert {record.fallbacks for record in pipeline.records.latest()} == {()}
        pipeline.chains.drop_connection(1)
        assert servers.visits == 0

    asyncio.run(main())
