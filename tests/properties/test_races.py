"""One connection, everything at once: creates, steers, interrupts, engine steps, garbage and the end, in any order.

Virtual time and an engine that moves only when told: the order of things is the generated one, not the machine's.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.connections import RecordingConnectionSink
from tests.support.event_order import TERMINAL, check_response_events, split_responses
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import ARGS, END, TEXT, TOOL, call, say, think
from tests.support.turns import ME, Pipeline
from tests.support.virtual_time import run_virtual

from hotloop.decoding.reader import MessageReader
from hotloop.protocol.connection import Limits
from hotloop.server.served_connection import ServedConnection, SocketSettings

LIMITS = Limits(running=2, waiting=3, lanes=2, steers=2)
SUBMIT_TICKS = 3  # from a create to the engine
LANES = (None, "a", "b", "c")

Op = tuple[str, Any]


def reply(prompt: list[int]) -> Sequence[int]:
    """Reasoning and text, a call, a call with text behind it, or a word: what the prompt's length says."""
    whole = [TOOL, *map(ord, "run"), ARGS, *map(ord, "{}"), TEXT, *map(ord, "and"), END]
    return (think("hm", say("hello")), call("run", "{}"), whole, say("ok"))[len(prompt) % 4]


class Client:
    """Says what the operations say; targets are the responses it was told of, by number."""

    def __init__(self, step: int) -> None:
        self.pipeline = Pipeline(ToyEngine(reply, step=step), turn_timeout_s=1e6)
        self.engine = self.pipeline.engine
        self.engine.pause()
        self.sink = RecordingConnectionSink()
        settings = SocketSettings(LIMITS, 2**20)
        self.served = ServedConnection(
            self.pipeline.runner, settings, ME, self.sink, MessageReader(2**20), wants_timing=False
        )
        self.serving = asyncio.create_task(self.served.serve())
        self.creates = 0
        self.steers = 0

    async def do(self, op: Op) -> None:
        kind, value = op
        match kind:
            case "create":
                lane, parent, store, text = value
                fields = {"model": "toy", "store": store, "input": "x" * text, "metadata": {"n": str(self.creates)}}
                self.creates += 1
                self.say("create", stream_id=lane, previous_response_id=self.target(parent), **fields)
            case "answer":
                await self.answer(value)
            case "steer":
                self.steers += 1
                self.say("steer", previous_response_id=self.target(value) or "resp_gone", input="y" * (value % 4))
            case "interrupt":
                self.say("interrupt", response_id=self.target(value) or "resp_gone")
            case "ticks":
                for _ in range(value):
                    await asyncio.sleep(0)
            case "steps":
                for _ in range(SUBMIT_TICKS):
                    await asyncio.sleep(0)
                self.engine.advance(value)
            case "raw":
                self.served.receive(value)
            case "fail":
                self.engine.fails_after = value
            case "drain":
                self.served.drain()
            case _:
                raise AssertionError(kind)

    def say(self, kind: str, **fields: Any) -> None:
        self.served.receive(json.dumps({"type": f"response.{kind}", **fields}).encode())

    def target(self, number: int | None) -> str | None:
        """A response: one of those that run, if `number` is even, else any; the newest first."""
        ends = {event["response"]["id"] for event in self.sink.events if event["type"] in TERMINAL}
        known = [event["response"]["id"] for event in self.sink.events if event["type"] == "response.created"]
        if number is not None and number % 2 == 0:
            known = [response_id for response_id in known if response_id not in ends] or known
        return known[-1 - number // 2 % len(known)] if known and number is not None else None

    async def answer(self, number: int) -> None:
        """Continue the newest response that ended with calls, as a client would."""
        ends = [event for event in self.sink.events if event["type"] in TERMINAL]
        owing = [
            event for event in ends if any(item["type"] == "function_call" for item in event["response"]["output"])
        ]
        if owing:
            event = owing[-1 - number % len(owing)]
            output = [
                {"type": "function_call_output", "call_id": item["call_id"], "output": "z"}
                for item in event["response"]["output"]
                if item["type"] == "function_call"
            ]
            fields = {"model": "toy", "store": False, "input": output, "metadata": {"n": str(self.creates)}}
            self.creates += 1
            self.say("create", stream_id=event.get("stream_id"), previous_response_id=event["response"]["id"], **fields)

    async def finish(self) -> None:
        """Let everything that runs or waits come to its end."""
        self.engine.resume()
        await asyncio.sleep(1000)

    async def leave(self) -> None:
        self.served.stop()
        await asyncio.wait_for(self.serving, 1000)
        self.engine.resume()
        await asyncio.sleep(1)

    def check_answers(self) -> None:
        """Every create was answered once, every response is whole, every accepted steer came to something."""
        events = self.sink.events
        errors = [event for event in events if event["type"] == "error"]
        responses = [event for event in events if event["type"] == "response.created"]
        asked = {event["response"]["metadata"]["n"] for event in responses}
        assert len(errors) + len(asked) == self.creates, "a create without an answer, or with two"
        known = {event["response"]["id"] for event in responses}
        for lane in LANES:
            own = [event for event in events if event.get("stream_id") == lane and _belongs(event, known)]
            for part in split_responses(own):
                check_response_events(part, lane=lane)
        accepted = {event["steer"]["id"] for event in events if event["type"] == "response.steer.accepted"}
        answers = [event for event in events if event["type"] in ("response.steer.accepted", "response.steer.failed")]
        direct = [event for event in answers if event["type"].endswith("accepted") or "id" not in event["steer"]]
        assert len(direct) == self.steers, "every steer is answered"
        returned = [
            event["steer"]["id"] for event in answers if event["type"].endswith("failed") and "id" in event["steer"]
        ]
        assert len(set(returned)) == len(returned)
        assert set(returned) <= accepted

    def check_nothing_is_left(self) -> None:
        """After the connection is gone: what is stored is kept, and that can be let go of."""
        for event in self.sink.events:
            if event["type"] == "response.created":
                self.pipeline.chains.evict(ME, None, event["response"]["id"])
        self.pipeline.services.prefixes.clear()
        assert len(self.pipeline.chains) == self.pipeline.chains.total_bytes == 0
        assert self.engine.open_handles == 0, "a KV handle, and so a pin, was left"
        assert all(run.is_over for run in self.engine.runs)
        assert all(row.ended is not None for row in self.pipeline.ledger.rows()), "a turn without an end in the ledger"
        assert self.sink.code != 1011, "a bug reached the edge"


def _belongs(event: dict[str, Any], known: set[str]) -> bool:
    """The event is one of a response's own."""
    if event["type"].startswith("response.steer."):
        return event["steer"]["previous_response_id"] in known
    return event["type"] not in ("error", "response.interrupt.failed", "response.inject.failed")


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


NUMBERS = st.integers(0, 5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from(["toy", "a", "", "resp_1", "text"])
        for name in (
            "model", "input", "previous_response_id", "stream_id", "tools", "store", "response_id", "mode", "generate",
            "tool_choice", "text", "reasoning", "metadata", "include", "conversation", "context_management",
        )
    },
)  # fmt: skip
TYPES = st.sampled_from(
    ["response.create", "response.steer", "response.interrupt", "response.inject", "response.processed", "error", ""]
)
GARBAGE = st.binary(max_size=20) | JSON.map(lambda value: json.dumps(value).encode()) | st.builds(_event, TYPES, FIELDS)
CREATE: st.SearchStrategy[Op] = st.tuples(
    st.just("create"), st.tuples(st.sampled_from(LANES[:3]), st.none() | NUMBERS, st.booleans(), NUMBERS)
)
MOVE: st.SearchStrategy[Op] = st.tuples(st.just("ticks"), st.integers(1, 5)) | st.tuples(
    st.just("steps"), st.integers(1, 8)
)
ACT: st.SearchStrategy[Op] = st.tuples(st.sampled_from(["answer", "steer", "steer", "interrupt"]), NUMBERS)
OPS = st.one_of(CREATE, MOVE, ACT, MOVE, ACT)
RARE: st.SearchStrategy[Op] = st.tuples(st.just("fail"), st.integers(0, 3) | st.none()) | st.tuples(
    st.just("drain"), st.none()
)
PLAYS = st.lists(st.integers(0, 12).flatmap(lambda dice: OPS if dice else RARE), min_size=6, max_size=40)


@given(PLAYS, st.sampled_from([1, 3, 100]))
def test_every_create_is_answered_and_every_turn_ends_once(ops: list[Op], step: int) -> None:
    async def main() -> None:
        client = Client(step)
        await asyncio.sleep(0)
        await client.do(("create", (None, None, False, 0)))
        for op in ops:
            await client.do(op)
        await client.finish()
        client.check_answers()
        await client.leave()
        client.check_nothing_is_left()

    run_virtual(main())


@given(PLAYS, st.sampled_from([1, 100]), st.integers(0, 4))
def test_a_client_that_leaves_at_any_moment_leaves_nothing_behind(ops: list[Op], step: int, ticks: int) -> None:
    async def main() -> None:
        client = Client(step)
        await asyncio.sleep(0)
        for op in ops:
            await client.do(op)
        for _ in range(ticks):
            await asyncio.sleep(0)
        client.sink.close(1006)
        await client.leave()
        client.check_nothing_is_left()

    run_virtual(main())


@given(st.lists(st.one_of(GARBAGE.map(lambda data: ("raw", data)), OPS), max_size=12))
def test_whatever_is_sent_is_answered_in_the_protocols_own_words(ops: list[Op]) -> None:
    async def main() -> None:
        client = Client(3)
        await asyncio.sleep(0)
        for op in ops:
            await client.do(op)
        client.served.receive(b"", is_text=False)
        await client.finish()
        for event in client.sink.events:
            assert event["type"] == "error" or event["type"].startswith("response."), event
            if event["type"] == "error":
                assert 400 <= event["status"] < 500, event
                assert event["error"]["code"]
            elif event["type"] == "response.failed":
                assert event["response"]["error"]["code"] != "server_error", event
        await client.leave()
        client.check_nothing_is_left()

    run_virtual(main())
