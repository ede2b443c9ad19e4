"""A mock engine for servers that are compared: `python -m hotloop.bench.peer_mock PORT`. No model runs in it.

It speaks what gateways expect behind them (OpenAI's chat completions, the Responses API as vLLM offers it, `/v1/models`,
`/health`), answers every request with one word at once, and counts what it is asked to read: `GET /counts`. A token is four
characters of the request's texts here: how much was sent is compared, not how it is tokenized.
"""

import json
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hotloop.bench.workload import Json

MODEL = "mock"
CHARS_PER_TOKEN = 4
_ANSWER = "ok"


@dataclass(slots=True)
class Counts:
    """What the mock was asked to read."""

    requests: int = 0
    prompt_chars: int = 0

    def add(self, body: Json) -> int:
        """Count one request; its prompt tokens."""
        chars = sum(map(len, _texts(body.get("messages", body.get("input", "")))))
        self.requests += 1
        self.prompt_chars += chars
        return chars // CHARS_PER_TOKEN


def _texts(value: Any) -> Iterator[str]:
    """Every text of a conversation, whatever it is wrapped in: contents, arguments, outputs."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:  # pyright: ignore[reportUnknownVariableType]  # JSON
            yield from _texts(entry)
    elif isinstance(value, dict):
        for key in ("content", "text", "arguments", "output", "tool_calls", "function", "summary"):
            yield from _texts(value.get(key))  # pyright: ignore[reportUnknownMemberType]  # JSON


def mock_app() -> Starlette:
    """The mock as an application of its own, with its own counts."""
    counts = Counts()
    mark = uuid4().hex  # of this process: gateways keep responses by their ids

    async def chat(request: Request) -> Response:
        body = await request.json()
        tokens = counts.add(body)
        usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
        head = {"id": f"chatcmpl-{mark}{counts.requests}", "created": 0, "model": body.get("model", MODEL)}
        if not body.get("stream"):
            message = {"role": "assistant", "content": _ANSWER}
            choice: Json = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        deltas: list[Json] = [
            {"index": 0, "delta": {"role": "assistant", "content": _ANSWER}, "finish_reason": None},
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        ]
        chunk = {**head, "object": "chat.completion.chunk"}
        chunks: list[Json] = [{**chunk, "choices": [delta]} for delta in deltas]
        return _stream([*chunks, {**chunk, "choices": [], "usage": usage}])

    async def responses(request: Request) -> Response:
        body = await request.json()
        tokens = counts.add(body)
        usage = {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens + 1,
        }
        events = _response_events(body.get("model", MODEL), usage, f"{mark}{counts.requests}")
        return _stream(events) if body.get("stream") else JSONResponse(events[-1]["response"])

    async def models(request: Request) -> Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "mock", "max_model_len": 2**21}
        return JSONResponse({"object": "list", "data": [model]})

    async def health(request: Request) -> Response:
        return Response()

    async def count(request: Request) -> Response:
        tokens = counts.prompt_chars // CHARS_PER_TOKEN
        return JSONResponse({"requests": counts.requests, "prompt_tokens": tokens})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/responses", responses, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/counts", count),
        ]
    )


def _response_events(model: str, usage: Json, name: str) -> list[Json]:
    """A turn of one word in the order of the Responses API."""
    part: Json = {"type": "output_text", "text": _ANSWER, "annotations": []}
    item: Json = {
        "type": "message",
        "id": f"msg_{name}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }
    response: Json = {
        "id": f"resp_{name}", "object": "response", "created_at": 0, "model": model, "output": [], "status": "in_progress",
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    events: list[Json] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": item | {"status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": part | {"text": ""}},
        {"type": "response.output_text.delta", **place, "delta": _ANSWER, "logprobs": []},
        {"type": "response.output_text.done", **place, "text": _ANSWER, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {
            "type": "response.completed",
            "response": response | {"status": "completed", "output": [item], "usage": usage},
        },
    ]
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def _stream(events: list[Json]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            yield f"{name}data: {json.dumps(event)}\n\n"
        if "type" not in events[-1]:
            yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def main() -> None:
    """Serve until killed."""
    parser = ArgumentParser(prog="python -m hotloop.bench.peer_mock", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    uvicorn.run(mock_app(), host="127.0.0.1", port=parser.parse_args().port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
