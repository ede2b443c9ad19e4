"""Long bodies of every route are read in another process, and answered as short ones are."""

import json
import os
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from tests.support.live_server import LiveServer, live_server
from tests.support.scripted_model import scripted_model

from hotloop.decoding.forms import CONVERSATION_BODIES
from hotloop.decoding.reader import UNAVAILABLE
from hotloop.processes.child import Child

Json = dict[str, Any]

LONG = 2000
PADDING = "padding " * (LONG // 8)
SUMMARY = {"match": "^Summarize this conversation", "turns": [{"text": "The summary."}]}


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


def chat(text: object, **fields: Any) -> Json:
    return {"role": "user", "content": text, **fields}


PADDED = user(PADDING)

BODIES: dict[str, Json] = {
    "/conversations": {"items": [PADDED, user("hello")], "metadata": {"n": "1"}},
    "/conversations/ID/items": {"items": [user("hello"), PADDED]},
    "/conversations/ID": {"metadata": {"n": "2"}, "padding": PADDING},
    "/responses/compact": {"model": "test", "input": [PADDED, user("hello")]},
    "/responses/input_tokens": {"model": "test", "input": [PADDED, user("hello")]},
    "/chat/completions": {"model": "test", "messages": [chat(PADDING), chat("hello")], "logprobs": True},
}

WRONG: dict[str, list[Json]] = {
    "/conversations": [
        {"items": [user("hello"), {"role": "nobody", "content": ""}]},
        {"items": [user("hello"), {"type": "function_call", "name": "f"}, {"type": "item_reference", "id": "msg_x"}]},
        {"items": [{"type": "item_reference", "id": "msg_unknown"}]},
        {"items": [{**user("a"), "id": "msg_a"}, {**user("b"), "id": "msg_a"}]},
        {"items": [user("hello")] * 21},
        {"items": "hello"},
        {"metadata": {str(n): "" for n in range(17)}},
        {"metadata": {"n": 7}},
    ],
    "/conversations/ID/items": [{}, {"items": None}, {"items": [user("hello"), 7]}, {"items": [user("hello")] * 21}],
    "/conversations/ID": [{}, {"metadata": {"n": "x" * 513}}],
    "/conversations/conv_unknown/items": [{"items": [user("hello")]}],
    "/responses/compact": [
        {"input": [user("hello")]},
        {"model": "test", "input": [user("hello"), {"role": "nobody"}]},
        {"model": "test", "input": [{"type": "compaction_trigger"}, user("hello")]},
        {"model": "test", "input": [user("hello")], "conversation": "conv_unknown"},
        {"model": "test", "input": 7},
        {"model": "other", "input": [user("hello")]},
        {"model": "test", "input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
    ],
    "/responses/input_tokens": [{"model": "test", "input": [user("hello"), {"role": "nobody"}]}],
    "/chat/completions": [
        {"messages": [chat("hello")]},
        {"model": "test", "messages": []},
        {"model": "test", "messages": [chat("hello"), {"role": "nobody"}]},
        {"model": "test", "messages": [chat("hello"), chat([{"type": "image_url", "image_url": {"url": ""}}])]},
        {"model": "test", "messages": [chat("a"), {"role": "tool", "tool_call_id": "c", "content": "x"}]},
        {"model": "test", "messages": [chat("a"), {"role": "assistant", "content": [{"type": "input_audio"}]}]},
        {"model": "test", "messages": [chat("hello")], "stop": ["x"]},
        {"model": "test", "messages": [chat("hello")], "n": 2},
        {"model": "test", "messages": [chat("hello")], "tools": [{"type": "function", "function": {"name": " "}}]},
        {"model": "test", "messages": [chat("hello")], "tool_choice": "required"},
        {"model": "test", "messages": [chat("hello")], "max_tokens": 0},
    ],
}


class Client:
    """Posts to a server that takes bodies of `LONG` bytes for long ones, and knows a conversation there."""

    def __init__(self, server: LiveServer, http: httpx.AsyncClient, conversation_id: str) -> None:
        self.server = server
        self._http = http
        self._id = conversation_id

    async def post(self, path: str, body: Json | bytes) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._http.post(path.replace("ID", self._id), content=content)

    @property
    def fallbacks(self) -> int:
        return self.server.app.services.records.counters.fallbacks.get(UNAVAILABLE, 0)


@asynccontextmanager
async def connected() -> AsyncGenerator[Client]:
    async with live_server(scripted_model([SUMMARY]), checks_requests=False) as server:
        server.app.reader._long_bytes = LONG
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            made = await http.post("/conversations", content=b"")
            yield Client(server, http, made.json()["id"])


def comparable(answer: httpx.Response) -> tuple[int, str]:
    """An answer without what is another one each time."""
    text = re.sub(r"\b(conv|msg|cmp|resp|chatcmpl)[_-]\w+", r"\1", answer.text)
    return answer.status_code, re.sub(r'("encrypted_content":"|"cached_tokens":|"created(?:_at)?":)[^,}]*', r"\1", text)


def break_reading_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads a body in the server itself raises from now on; the decode process is another program."""

    def read_here(body: bytes, *_: object) -> Any:
        raise AssertionError("read on the loop")

    for form in CONVERSATION_BODIES:
        monkeypatch.setitem(CONVERSATION_BODIES, form, read_here)
    for name in ("decode_create", "read_chat"):
        monkeypatch.setattr(f"hotloop.decoding.reader.{name}", read_here)
    monkeypatch.setattr("hotloop.turns.history.split_input", read_here)


@pytest.mark.parametrize("path", WRONG)
async def test_refusals_of_long_bodies_are_those_of_short_ones(path: str) -> None:
    async with connected() as client:
        for body in WRONG[path]:
            short = await client.post(path, {**body, "x": ""})
            long = await client.post(path, {**body, "x": PADDING})
            assert (long.status_code, long.content) == (short.status_code, short.content), body
            assert short.status_code in (400, 404)
        for broken in (b'{"x":"%s"', b'{"x":"%s\xff"}', b'["%s"]'):
            short = await client.post(path, broken % b"")
            long = await client.post(path, broken % PADDING.encode())
            assert (long.status_code, long.json()["error"]["code"]) == (400, short.json()["error"]["code"])
        assert client.server.app.reader.pids


@pytest.mark.parametrize("path", BODIES)
async def test_a_long_body_is_answered_alike_and_not_read_on_the_loop(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected() as client:
        client.server.app.reader._long_bytes = 2**20
        short = await client.post(path, BODIES[path])
        client.server.app.reader._long_bytes = LONG
        assert client.server.app.reader.pids == []
        break_reading_here(monkeypatch)
        long = await client.post(path, BODIES[path])
        assert comparable(long) == comparable(short)
        assert short.status_code == 200
        assert client.server.app.reader.pids
        assert client.fallbacks == 0


@pytest.mark.parametrize("path", BODIES)
async def test_the_process_is_killed_while_it_reads(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as client:
        await client.post(path, BODIES[path])
        break_reading_here(monkeypatch)
        (pid,) = client.server.app.reader.pids
        os.kill(pid, signal.SIGSTOP)
        told = _kill_when_asked(pid, monkeypatch)
        assert (await client.post(path, BODIES[path])).status_code == 200
        assert told == [True]
        assert client.server.app.reader.pids != [pid]
        assert client.fallbacks == 0


def _kill_when_asked(pid: int, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Kill the process, which does not move, once a message is on its way to it."""
    told: list[bool] = []
    say = Child.say

    async def say_and_kill(child: Child, *parts: bytes) -> None:
        if not told:
            told.append(child.pid == pid)
            os.kill(pid, signal.SIGKILL)
        await say(child, *parts)

    monkeypatch.setattr(Child, "say", say_and_kill)
    return told


@pytest.mark.parametrize("path", BODIES)
async def test_without_the_process_the_body_is_read_here_and_that_is_counted(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected() as client:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        assert (await client.post(path, BODIES[path])).status_code == 200
        assert client.fallbacks == 1
        refused = await client.post(path, b'{"x":"%s"' % PADDING.encode())
        assert refused.status_code == 400
        assert client.fallbacks == 2


async def test_a_long_chat_is_recognised_when_it_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected() as client:
        break_reading_here(monkeypatch)
        messages = BODIES["/chat/completions"]["messages"]
        first = await client.post("/chat/completions", {"model": "test", "messages": messages})
        answered = first.json()["choices"][0]["message"]
        again = [*messages, {"role": "assistant", "content": answered["content"]}, chat("hello")]
        second = await client.post("/chat/completions", {"model": "test", "messages": again, "stream": True})
        assert second.status_code == 200 and b"[DONE]" in second.content
        record = client.server.app.services.records.latest()[-1]
        assert record.recognised_items == len(messages) + 1
        assert record.fallbacks == ()
