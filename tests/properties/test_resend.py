"""A client that resends its whole history, edits it, drops reasoning, asks again and switches contexts, with an index that
forgets at any time: the engine's prompt is always the one that rendering everything from the start gives.
"""

import asyncio
import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import call, say, think
from tests.support.turns import Pipeline, body

from hotloop.protocol.request import decode_input
from hotloop.seams.format import Extension
from hotloop.seams.prompt import PromptContext
from hotloop.session.prefix_index import IndexLimits

Json = dict[str, Any]

REPLIES = (say("ok"), think("hm", say("yes")), call("look", '{"a": 1}'), think("so", call("look", "{}")))
CONTEXTS: tuple[Json, ...] = ({}, {"instructions": "brief"})
STEP = st.tuples(
    st.sampled_from(["turn", "turn", "turn", "turn", "again", "edit", "drop reasoning", "forget", "by id"]),
    st.integers(0, 50),
    st.sampled_from([0, 0, 0, 1]),  # which context
    st.booleans(),  # over WebSocket
)
LIMITS = st.builds(IndexLimits, bytes_per_tenant=st.sampled_from([0, 6_000, 10**9]), warm=st.sampled_from([1, 2, 8]))

Step = tuple[str, int, int, bool]


class Client:
    """Keeps the history as it got it, without ids and status, and sends all of it each time."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.history: list[Json] = []
        self.asked: list[Json] = []  # the history as it was sent last
        self.latest: tuple[str, list[Json]] | None = None  # of the connection, with the history behind it

    async def play(self, step: Step) -> None:
        kind, choice, context, over_socket = step
        if kind == "forget":
            self.pipeline.services.prefixes.clear()
            return
        if kind == "drop reasoning":
            self.history = [item for item in self.history if item["type"] != "reasoning"]
        elif kind == "edit" and self.history:
            item = self.history[choice % len(self.history)]
            if item["type"] == "message" and item["role"] == "user":
                item["content"] = f"edited {choice}"
        fields: Json = {**CONTEXTS[context], "store": False}
        if kind == "by id" and over_socket and self.latest is not None:
            fields["previous_response_id"], self.history = self.latest[0], list(self.latest[1])
        new = self.new_items(choice)
        if kind == "again" and self.asked:
            self.history, new = self.asked, []  # another answer to the last question; the one before is dropped
        sent = new if "previous_response_id" in fields else [*self.history, *new]
        outcome = await self.pipeline.run(input=sent, connection=1 if over_socket else None, **fields)
        assert not outcome.is_refused, outcome.error
        assert self.pipeline.engine.runs[-1].prompt == self.full_prompt([*self.history, *new], CONTEXTS[context])
        self.asked = [*self.history, *new]
        self.history = [*self.asked, *(self.resent(item) for item in body(outcome)["output"])]
        if over_socket:
            self.latest = body(outcome)["id"], [dict(item) for item in self.history]

    def new_items(self, choice: int) -> list[Json]:
        answered = {item["call_id"] for item in self.history if item["type"] == "function_call_output"}
        open_calls = [item for item in self.history if item["type"] == "function_call"]
        new: list[Json] = [
            {"type": "function_call_output", "call_id": item["call_id"], "output": f"result {choice}"}
            for item in open_calls
            if item["call_id"] not in answered
        ]
        return new or [{"type": "message", "role": "user", "content": f"question {choice}"}]

    def resent(self, item: Json) -> Json:
        return {key: value for key, value in item.items() if key not in ("id", "status")}

    def full_prompt(self, history: list[Json], context: Json) -> list[int]:
        format_ = self.pipeline.format
        prompt = PromptContext(instructions=context.get("instructions"))
        start = format_.begin(prompt)
        items = decode_input(msgspec.Raw(json.dumps(history).encode()))
        extension = format_.extend(start.state, len(start.tokens), items)
        assert isinstance(extension, Extension)
        return list(start.tokens + extension.tokens + format_.generation_prompt(extension.state))


@given(
    steps=st.lists(STEP, min_size=1, max_size=14),
    replies=st.lists(st.sampled_from(REPLIES), min_size=1, max_size=6),
    limits=LIMITS,
    can_rewind=st.booleans(),
)
def test_every_prompt_is_the_one_a_full_render_gives(
    steps: list[Step], replies: list[list[int]], limits: IndexLimits, can_rewind: bool
) -> None:
    async def scenario() -> None:
        engine = ToyEngine(lambda prompt: replies[len(prompt) % len(replies)], can_rewind=can_rewind)
        pipeline = Pipeline(engine, prefix_limits=limits)
        client = Client(pipeline)
        for step in steps:
            engine.loses_kv = step[1] % 7 == 0
            await client.play(step)
        pipeline.chains.drop_connection(1)
        pipeline.services.prefixes.clear()
        assert engine.open_handles == 0, "a KV handle was left open"
        assert all(handle.close_calls == 1 for handle in engine.handles), "a KV handle was closed twice"
        assert (pipeline.services.prefixes.total_bytes, pipeline.chains.total_bytes) == (0, 0)

    asyncio.run(scenario())
