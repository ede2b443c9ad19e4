"""A chain of a hundred thousand tokens that is compacted again and again: only what was summed up is ever gone.

What must be in front of the model is worked out here, item by item, and written by the oracle's template; what was in
front of it is read off the engine. A real vocabulary, the real format, a scripted engine.
"""

import asyncio
import json
import random
from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.support.live_server import LiveServer, Socket, final_response, live_server, open_socket
from tests.support.qwen_oracle import Family, render
from tests.support.scripted_model import LOOK_UP
from tests.support.vocabularies import SpyTokenizer, gguf

from hotloop.engines.scripted import ScriptedEngine, script_of
from hotloop.formats import format_named
from hotloop.models.token_model import TokenModel
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, Item, Message, OutputText
from hotloop.protocol.tools import decode_tools
from hotloop.seams.engine import KvHandle
from hotloop.seams.prompt import PromptContext
from hotloop.session.principal import Tenant
from hotloop.session.token_log import TokenView

Json = dict[str, Any]

THRESHOLD = 100_000
TURNS = 50
KEPT_CHARS = 80_000  # docs/protocol.md §7.4
SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>")
SUMMARY = "The keys are to be looked up; the word is plum. " + "Found so far: nothing. " * 80
HEAD = "Summary of the conversation so far, which it replaces:\n\n"
CONTEXT = PromptContext(tools=decode_tools(json.dumps([LOOK_UP]).encode()))
LATER = "call_later"  # of an asynchronous tool: its output comes when the client has it
TALK: list[Json] = [
    {"match": "^which word", "turns": [{"text": "plum", "requires_history": "the word is plum"}]},
    {
        "match": "^step",
        "turns": [{"call": {"name": "look_up", "arguments": {"key": "a"}}}, {"text": "Not there. " * 40}],
    },
    {"match": "^go on", "turns": [{"text": "All of it is here.", "requires_history": "the first words"}]},
]
SUMS_UP: Json = {"match": "^Summarize this conversation", "turns": [{"text": SUMMARY}]}


class WatchedEngine(ScriptedEngine):
    """Keeps the prompt of every run."""

    prompts: list["array[int]"]

    def open(self, tokens: TokenView, *, parent: KvHandle | None, tenant: Tenant) -> Any:
        handle = super().open(tokens, parent=parent, tenant=tenant)
        generate = handle.generate

        def watched(keep: int, new: "array[int]", **rest: Any) -> Any:
            self.prompts.append(handle.ids[:keep] + new)
            return generate(keep, new, **rest)

        setattr(handle, "generate", watched)  # noqa: B010  # of this handle, not of its class
        return handle


class Talk:
    """A chain on one connection, and what the model must have in front of it."""

    def __init__(self, server: LiveServer, socket: Socket, engine: WatchedEngine, tokenizer: SpyTokenizer) -> None:
        self.server = server
        self.socket = socket
        self.engine = engine
        self.items: list[Item] = []
        self.last: Json = {}
        self.compactions = 0
        self._tokenizer = tokenizer

    def fields(self, new: Sequence[Item]) -> Json:
        """Of a create that continues the chain."""
        previous = self.last.get("id")
        return {"input": list(map(wire, new)), "tools": [LOOK_UP], "previous_response_id": previous, "store": False}

    async def step(self, *new: Item) -> Json:
        """One more response, below the threshold; what it was made from is checked."""
        response = final_response(await self.socket.turn(**self.fields(new), **threshold(THRESHOLD)))
        assert response["status"] == "completed", response["error"]
        output: list[Json] = response["output"]
        if output[0]["type"] == "compaction":
            assert self.tokens([*self.items, *new]) >= THRESHOLD  # it was due
            # The model had everything before it when it wrote the summary.
            assert self.seen(-2).startswith(text([*self.items, *new]))
            self.items = kept([*self.items, *new])
            self.compactions += 1
            output = output[1:]
        else:
            self.items += new
        assert self.seen(-1) == text(self.items, generate=True)
        usage = response["usage"]
        assert usage["input_tokens"] == len(self.engine.prompts[-1]) < THRESHOLD
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
        self.items += map(item_of, output)
        self.last = response
        return response

    def seen(self, index: int) -> str:
        """What the engine was given: the last run is -1."""
        return self._tokenizer.decode(self.engine.prompts[index])

    def tokens(self, items: Sequence[Item]) -> int:
        return len(self._tokenizer.whole(text(items, generate=True)))


def text(items: Sequence[Item], *, generate: bool = False) -> str:
    return render(Family(thinking=False), CONTEXT, items, generate=generate)


def kept(items: Sequence[Item]) -> list[Item]:
    """The newest user messages as far as they fit, the call that is still open, and the summary."""
    messages: list[Item] = []
    room = KEPT_CHARS
    for item in reversed(items):
        if isinstance(item, Message) and item.role == "user":
            assert isinstance(item.content, str)
            room -= len(item.content)
            if room < 0:
                break
            messages.insert(0, item)
    answered = {item.call_id for item in items if isinstance(item, FunctionCallOutput)}
    calls = [item for item in items if isinstance(item, FunctionCall) and item.call_id not in answered]
    return [*messages, *calls, Message(role="developer", content=HEAD + SUMMARY.strip())]


def wire(item: Item) -> Json:
    match item:
        case Message(role=role, content=str(content)):
            return {"type": "message", "role": role, "content": content}
        case FunctionCall():
            call = {"type": "function_call", "call_id": item.call_id, "name": item.name, "arguments": item.arguments}
            return {**call, "async": True} if item.is_async else call
        case FunctionCallOutput():
            return {"type": "function_call_output", "call_id": item.call_id, "output": item.output}
        case _:
            raise AssertionError(item)


def item_of(output: Json) -> Item:
    if output["type"] == "function_call":
        return FunctionCall(call_id=output["call_id"], name=output["name"], arguments=output["arguments"])
    (part,) = output["content"]
    return Message(role="assistant", content=[OutputText(text=part["text"])])


def threshold(tokens: int) -> Json:
    return {"context_management": [{"type": "compaction", "compact_threshold": tokens}]}


def user(content: str) -> Message:
    return Message(role="user", content=content)


def words(choose: random.Random, count: int) -> str:
    return " ".join(choose.choice(("file", "error", "value", "test", "return", "name", "path")) for _ in range(count))


def history(choose: random.Random, tokens: int) -> list[Item]:
    """An agent's work so far, some `tokens` long."""
    items: list[Item] = [user("the first words")]
    items.append(FunctionCall(call_id=LATER, name="look_up", arguments='{"key": "late"}', is_async=True))
    for number in range(tokens // 4000):
        call_id = f"call_{number}"
        items += [
            user(f"task {number} {words(choose, 1000)}"),
            FunctionCall(call_id=call_id, name="look_up", arguments='{"key": "b"}'),
            FunctionCallOutput(call_id=call_id, output=words(choose, 2950)),
        ]
    return items


@asynccontextmanager
async def talking(script: Sequence[Json], tokens: int = 98_000) -> AsyncGenerator[Talk]:
    """A chain of so many tokens."""
    tokenizer = SpyTokenizer(gguf("qwen2"), SPECIALS)
    format = format_named("chatml", tokenizer)
    engine = WatchedEngine(script_of({"scripts": [*script, *TALK]}), format, tokenizer, context_tokens=262_144)
    engine.prompts = []
    model = TokenModel("test", format=format, tokenizer=tokenizer, engine=engine)
    async with live_server(model) as server, open_socket(server) as socket:
        talk = Talk(server, socket, engine, tokenizer)
        await talk.step(*history(random.Random(1), tokens), user("go on"))
        assert tokens - 3000 < len(engine.prompts[-1]) < THRESHOLD
        yield talk


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_fifty_turns_below_the_threshold_lose_nothing_but_what_was_summed_up() -> None:
    choose = random.Random(2)
    async with talking([SUMS_UP]) as talk:
        in_a_loop = 0
        for number in range(TURNS):
            newest = talk.last["output"][-1]
            before = talk.compactions
            if newest["type"] == "function_call":
                await talk.step(FunctionCallOutput(call_id=newest["call_id"], output=words(choose, 12_000)))
                in_a_loop += talk.compactions - before
            else:
                await talk.step(user(f"step {number} {words(choose, 3000)}"))
        assert talk.compactions >= 3
        assert in_a_loop  # one at least stood between a call and what follows its output
        while (newest := talk.last["output"][-1])["type"] == "function_call":
            await talk.step(FunctionCallOutput(call_id=newest["call_id"], output="none"))
        # The call that was open all the time is answered at last, and the chain knows what it was told first.
        await talk.step(FunctionCallOutput(call_id=LATER, output="late"), user("which word?"))
        assert talk.last["output"][-1]["content"][0]["text"] == "plum"
        _, *records = talk.server.app.services.records.latest()  # the first was given a history nobody had seen
        assert [record.fallbacks for record in records if record.fallbacks] == []


FAILURES = {
    "engine": {"text": "half of a summary", "fail": {"reason": "unavailable", "after_tokens": 2}},
    "killed": {"text": "half of a summary", "fail": {"reason": "host_death", "after_tokens": 2}},
    "timeout": {"text": "half", "fail": {"reason": "timeout"}},
    "empty": {"text": "  \n"},
    "long": {"text": "word " * 20_000},  # over the most that a summary may have
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_compaction_leaves_the_chain_as_it_was(failure: str) -> None:
    async with talking([{**SUMS_UP, "turns": [FAILURES[failure]]}]) as talk:
        # By its own threshold a turn goes on without.
        fields = talk.fields([user("go on")])
        response = final_response(await talk.socket.turn(**fields, **threshold(50_000)))
        assert [item["type"] for item in response["output"]] == ["message"]
        assert talk.seen(-1) == text([*talk.items, user("go on")], generate=True)
        assert talk.server.app.services.records.latest()[-1].fallbacks[0] == "compaction_failed"
        # Asked for, it fails by name.
        failed = await talk.socket.turn(**{**fields, "input": [{"type": "compaction_trigger"}]})
        assert failed[-1]["type"] == "response.failed"
        assert failed[-1]["response"]["output"] == []
        # Either way the chain answers from where it stood.
        await talk.step(user("go on"))


async def test_a_client_that_leaves_while_a_stored_chain_is_summed_up_finds_it_as_it_was() -> None:
    async with talking([{**SUMS_UP, "turns": [{"text": SUMMARY, "delay": 600}]}]) as talk:
        stored = final_response(await talk.socket.turn(**{**talk.fields([user("go on")]), "store": True}))
        given = [*talk.items, user("go on"), item_of(stored["output"][0])]
        async with open_socket(talk.server) as other:
            create = {
                **talk.fields([]),
                "input": [{"type": "compaction_trigger"}],
                "previous_response_id": stored["id"],
            }
            await other.send(**create)
            assert [(await other.receive())["type"] for _ in range(2)] == ["response.created", "response.in_progress"]
        await talk.socket.connection.close()
        await asyncio.wait_for(talk.server.app.connections.wait_empty(), 30)
        assert not talk.engine.runs
        async with open_socket(talk.server) as talk.socket:
            talk.items, talk.last = given, stored
            await talk.step(user("go on"))


async def test_a_trigger_and_the_endpoint_sum_up_a_chain_of_that_size() -> None:
    async with talking([SUMS_UP]) as talk:
        whole = [*talk.items]
        fields = {**talk.fields([]), "input": [{"type": "compaction_trigger"}]}
        response = final_response(await talk.socket.turn(**fields))
        (item,) = response["output"]
        assert item["type"] == "compaction"
        assert talk.seen(-2).startswith(text(whole))
        assert response["usage"]["input_tokens"] == len(talk.engine.prompts[-1]) < 30_000
        # The chain goes on from the summary, and the original from where it stood.
        original, talk.last, talk.items = talk.last, response, kept(whole)
        await talk.step(user("which word?"))
        talk.last, talk.items = original, whole
        await talk.step(user("go on"))
        async with httpx.AsyncClient(base_url=talk.server.url, timeout=120) as client:
            given = [
                wire(one) if not isinstance(one, Message) or isinstance(one.content, str) else said(one)
                for one in whole
            ]
            answer = await client.post("/responses/compact", json={"model": "test", "input": given, "tools": [LOOK_UP]})
        assert answer.status_code == 200, answer.text
        talk.last, talk.items = {}, []
        begun = [*answer.json()["output"], wire(user("which word?"))]
        after = final_response(await talk.socket.turn(input=begun, tools=[LOOK_UP], store=False))
        assert after["output"][-1]["content"][0]["text"] == "plum"
        assert talk.seen(-1) == text([*kept(whole), user("which word?")], generate=True)


def said(message: Message) -> Json:
    assert not isinstance(message.content, str)
    (part,) = message.content
    assert isinstance(part, OutputText)
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": part.text}]}
