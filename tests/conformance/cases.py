"""The compliance cases of Open Responses, release 2026-04-24 (docs/protocol.md §13), as that runner plays them.

A case raises AssertionError. It knows a base URL and a model's name, and nothing of the server behind them. Events and
objects are held against the contract strictly: an event type that only OpenAI has fails a case.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from tests.support.event_order import check_response_events
from tests.support.open_responses import check_event_strictly, check_request, check_schema
from tests.support.recorded_traffic import sse_events
from websockets.asyncio.client import ClientConnection, connect

Json = dict[str, Any]

TURN_TIMEOUT_S = 30.0  # the runner's
ENDS = ("response.completed", "response.failed", "response.incomplete", "error")
# One white pixel.
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg=="
WEATHER: Json = {
    "type": "function",
    "name": "get_weather",
    "description": "Tell the weather of a place.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}


@dataclass(frozen=True, slots=True)
class Target:
    """A running server. `url` ends in `/v1`."""

    url: str
    model: str


Case = Callable[[Target], Awaitable[None]]


def said(role: str, content: str | list[Json], **fields: Any) -> Json:
    """A message item."""
    return {"type": "message", "role": role, "content": content, **fields}


async def post(target: Target, path: str, body: Json) -> httpx.Response:
    async with httpx.AsyncClient(timeout=TURN_TIMEOUT_S) as client:
        return await client.post(f"{target.url}{path}", json=body)


async def answered(target: Target, *items: Json, **fields: Any) -> Json:
    """The response to a plain POST; completed, with output, every key in place."""
    body: Json = {"model": target.model, "input": list(items), **fields}
    check_request(body, websocket=False)
    answer = await post(target, "/responses", body)
    assert answer.status_code == 200, answer.text
    response: Json = answer.json()
    check_schema("ResponseResource", response)
    assert response["output"], "no output"
    return response


async def completes(target: Target, *items: Json, **fields: Any) -> None:
    assert (await answered(target, *items, **fields))["status"] == "completed"


async def compacted(target: Target) -> Json:
    body = {
        "model": target.model,
        "input": [said("user", "Remember the word plum."), said("assistant", "I will."), said("user", "Good.")],
        "prompt_cache_key": "conformance",
    }
    check_schema("CompactResponseMethodPublicBody", body)
    answer = await post(target, "/responses/compact", body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    check_schema("CompactResource", found)
    return found


class Wire:
    """One WebSocket, one turn at a time."""

    def __init__(self, connection: ClientConnection, model: str) -> None:
        self._connection = connection
        self._model = model

    async def turn(self, **fields: Any) -> Json:
        """The last event of a turn; all of them are the contract's and in order."""
        create: Json = {"type": "response.create", "model": self._model, **fields}
        check_schema("WebSocketResponseCreateEvent", create)
        await self._connection.send(json.dumps(create))
        events: list[Json] = []
        async with asyncio.timeout(TURN_TIMEOUT_S):
            while not events or events[-1]["type"] not in ENDS:
                message = await self._connection.recv()
                assert message != "[DONE]", "SSE's end on a WebSocket"
                events.append(json.loads(message))
        for event in events:
            check_event_strictly(event)
        if events[-1]["type"] != "error":
            check_response_events(events)
        return events[-1]

    async def completed(self, **fields: Any) -> Json:
        """The response of a turn that completes."""
        last = await self.turn(**fields)
        assert last["type"] == "response.completed", last
        response: Json = last["response"]
        check_schema("ResponseResource", response)
        return response

    async def fails(self, **fields: Any) -> str | None:
        """The code with which a turn fails."""
        last = await self.turn(**fields)
        assert last["type"] in ("error", "response.failed"), last["type"]
        error = last["error"] if last["type"] == "error" else last["response"]["error"]
        code: str | None = error["code"]
        return code


@asynccontextmanager
async def wire(target: Target) -> AsyncGenerator[Wire]:
    url = target.url.replace("http", "ws", 1) + "/responses"
    async with connect(url, max_size=None, additional_headers={"Authorization": "Bearer none"}) as connection:
        yield Wire(connection, target.model)


# --- the cases over HTTP ---


async def basic_response(target: Target) -> None:
    await completes(target, said("user", "Say hello in three words."))


async def assistant_phase(target: Target) -> None:
    await completes(
        target,
        said("user", "What is two and two?"),
        said("assistant", "Let me count.", phase="commentary"),
        said("assistant", "Four.", phase="final_answer"),
        said("user", "And three and three?"),
    )


async def response_output_phase_schema(target: Target) -> None:
    """Sends nothing: output messages may carry a phase."""
    part: Json = {"type": "output_text", "text": "Four.", "annotations": [], "logprobs": []}
    for phase in ("commentary", "final_answer"):
        check_schema("ItemField", said("assistant", [part], id="msg_1", status="completed", phase=phase))


async def streaming_response(target: Target) -> None:
    body: Json = {"model": target.model, "input": [said("user", "Count from one to five.")], "stream": True}
    answer = await post(target, "/responses", body)
    assert answer.status_code == 200, answer.text
    events = sse_events(answer.text)
    assert events
    for event in events:
        check_event_strictly(event)
    final = check_response_events(events)
    check_schema("ResponseResource", final)
    assert final["status"] == "completed"


async def system_prompt(target: Target) -> None:
    await completes(target, said("system", "You are a pirate."), said("user", "Say hello."))


async def tool_calling(target: Target) -> None:
    asked = said("user", "What is the weather in San Francisco?")
    response = await answered(target, asked, tools=[WEATHER])
    assert any(item["type"] == "function_call" for item in response["output"]), "no function_call"


async def image_input(target: Target) -> None:
    look: list[Json] = [
        {"type": "input_text", "text": "What is in this image?"},
        {"type": "input_image", "image_url": PNG},
    ]
    await completes(target, said("user", look))


async def multi_turn(target: Target) -> None:
    await completes(
        target, said("user", "My name is Alice."), said("assistant", "Hello Alice!"), said("user", "What is my name?")
    )


async def compact_response(target: Target) -> None:
    found = await compacted(target)
    assert found["object"] == "response.compaction"
    assert any(item["type"] == "compaction" for item in found["output"])


async def compact_missing_model(target: Target) -> None:
    answer = await post(target, "/responses/compact", {"input": [said("user", "Hello.")]})
    assert answer.status_code in (400, 422), answer.text


# --- the cases over WebSocket ---


async def websocket_response(target: Target) -> None:
    async with wire(target) as socket:
        await socket.completed(input=[said("user", "Say hello.")])


async def websocket_sequential_responses(target: Target) -> None:
    async with wire(target) as socket:
        await socket.completed(input=[said("user", "Say hello.")], store=False)
        await socket.completed(input=[said("user", "Say hello again.")], store=False)


async def websocket_continuation(target: Target) -> None:
    async with wire(target) as socket:
        first = await socket.completed(input=[said("user", "My name is Alice.")], store=False)
        await socket.completed(input=[said("user", "What is my name?")], store=False, previous_response_id=first["id"])


async def websocket_reconnect_store_false_recovery(target: Target) -> None:
    async with wire(target) as one:
        first = await one.completed(input=[said("user", "Say hello.")], store=False)
    async with wire(target) as two:
        again = {"input": [said("user", "Say hello again.")], "store": False}
        assert await two.fails(**again, previous_response_id=first["id"]) == "previous_response_not_found"
        await two.completed(**again)


async def websocket_previous_response_not_found(target: Target) -> None:
    async with wire(target) as socket:
        code = await socket.fails(input=[said("user", "Say hello.")], store=False, previous_response_id="resp_unknown")
        assert code == "previous_response_not_found"


async def websocket_failed_continuation_evicts_cache(target: Target) -> None:
    async with wire(target) as socket:
        first = await socket.completed(input=[said("user", "Say hello.")], store=False)
        output = {"type": "function_call_output", "call_id": "call_unknown", "output": "nothing"}
        assert await socket.fails(input=[output], store=False, previous_response_id=first["id"])
        code = await socket.fails(
            input=[said("user", "Say hello again.")], store=False, previous_response_id=first["id"]
        )
        assert code == "previous_response_not_found"


async def websocket_compact_new_chain(target: Target) -> None:
    found = await compacted(target)
    async with wire(target) as socket:
        await socket.completed(input=[*found["output"], said("user", "What was the word?")], tools=[], store=False)


CASES: dict[str, Case] = {
    "basic-response": basic_response,
    "assistant-phase": assistant_phase,
    "response-output-phase-schema": response_output_phase_schema,
    "streaming-response": streaming_response,
    "system-prompt": system_prompt,
    "tool-calling": tool_calling,
    "image-input": image_input,
    "multi-turn": multi_turn,
    "compact-response": compact_response,
    "compact-missing-model": compact_missing_model,
    "websocket-response": websocket_response,
    "websocket-sequential-responses": websocket_sequential_responses,
    "websocket-continuation": websocket_continuation,
    "websocket-reconnect-store-false-recovery": websocket_reconnect_store_false_recovery,
    "websocket-previous-response-not-found": websocket_previous_response_not_found,
    "websocket-failed-continuation-evicts-cache": websocket_failed_continuation_evicts_cache,
    "websocket-compact-new-chain": websocket_compact_new_chain,
}
