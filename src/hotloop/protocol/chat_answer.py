"""A response shown as a chat completion: one object, or chunks made from the events of its stream.

Nothing is shown before the model has written something, or has been at work for long: a turn that fails before is answered
with its plain status.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.wire import json_bytes

_REASONING_DELTAS = frozenset({"response.reasoning_text.delta", "response.reasoning.delta"})


class _Item(msgspec.Struct):
    type: str
    content: list[dict[str, Any]] = []
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    input: str = ""


class _Details(msgspec.Struct):
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: _Details
    output_tokens_details: _Details


class _Reason(msgspec.Struct):
    reason: str


class _Error(msgspec.Struct):
    code: str
    message: str
    param: str | None = None


class _Response(msgspec.Struct):
    id: str
    created_at: int
    model: str
    status: str
    service_tier: str
    output: list[_Item] = []
    usage: _Usage | None = None
    incomplete_details: _Reason | None = None
    error: _Error | None = None


class _Event(msgspec.Struct):
    type: str
    response: _Response | None = None
    item: _Item | None = None
    delta: str = ""
    logprobs: list[Any] = []


_response_decoder = msgspec.json.Decoder(_Response)
_event_decoder = msgspec.json.Decoder(_Event)


def completion(final: bytes, *, wants_logprobs: bool) -> bytes:
    """The chat completion for a terminal response object."""
    response = _response_decoder.decode(final)
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    logprobs: list[Any] = []
    calls: list[dict[str, Any]] = []
    for item in response.output:
        text = "".join(part["text"] for part in item.content)
        match item.type:
            case "message":
                message["content"] = (message["content"] or "") + text
                logprobs += [entry for part in item.content for entry in part.get("logprobs", ())]
            case "reasoning":
                message["reasoning_content"] = message.get("reasoning_content", "") + text
            case _:
                calls.append(_call(item, item.arguments, item.input))
    if calls:
        message["tool_calls"] = calls
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(logprobs) if wants_logprobs else None,
        "finish_reason": _finish_reason(response),
    }
    head = _head(response, "chat.completion")
    return json_bytes({**head, "choices": [choice], "usage": _usage(response.usage)})


class ChunkStream:
    """Turns the events of one response into chunks.

    Args:
        include_usage: a last chunk carries the token counts.
        wants_logprobs: chunks of text carry log-probabilities.
    """

    def __init__(self, *, include_usage: bool, wants_logprobs: bool) -> None:
        self._include_usage = include_usage
        self._wants_logprobs = wants_logprobs
        self._head: dict[str, Any] = {}
        self._calls = 0
        self._works = 0  # `in_progress` events: the second one is a keep-alive
        self._has_begun = False

    def chunks(self, event: bytes) -> list[bytes]:
        """What the client is told of the event."""
        return [json_bytes(chunk) for chunk in self._chunks(_event_decoder.decode(event))]

    def _chunks(self, event: _Event) -> Iterator[dict[str, Any]]:
        match event:
            case _Event(type="response.created", response=_Response() as response):
                self._head = _head(response, "chat.completion.chunk")
            case _Event(type="response.in_progress"):
                self._works += 1
                if self._works > 1:
                    yield from self._begin() or [self._chunk({})]
            case _Event(type="response.output_text.delta", delta=delta, logprobs=logprobs):
                yield from self._begin()
                yield self._chunk({"content": delta}, logprobs=logprobs)
            case _Event(type=kind, delta=delta) if kind in _REASONING_DELTAS:
                yield from self._begin()
                yield self._chunk({"reasoning_content": delta})
            case _Event(type="response.output_item.added", item=_Item() as item) if item.call_id:
                yield from self._begin()
                yield self._chunk({"tool_calls": [{"index": self._calls, **_call(item, "", "")}]})
                self._calls += 1
            case _Event(type="response.function_call_arguments.delta", delta=delta):
                yield self._chunk({"tool_calls": [{"index": self._calls - 1, "function": {"arguments": delta}}]})
            case _Event(type="response.custom_tool_call_input.delta", delta=delta):
                yield self._chunk({"tool_calls": [{"index": self._calls - 1, "custom": {"input": delta}}]})
            case _Event(type="response.completed" | "response.incomplete", response=_Response() as response):
                yield from self._begin()
                yield self._chunk({}, finish_reason=_finish_reason(response))
                if self._include_usage:
                    yield {**self._head, "choices": [], "usage": _usage(response.usage)}
            case _Event(type="response.failed", response=_Response(error=_Error() as error)) if self._has_begun:
                yield {
                    "error": {
                        "message": error.message,
                        "type": _type_of(error.code),
                        "param": error.param,
                        "code": error.code,
                    }
                }
            case _:
                return

    def _begin(self) -> list[dict[str, Any]]:
        if self._has_begun:
            return []
        self._has_begun = True
        return [self._chunk({"role": "assistant", "content": "", "refusal": None})]

    def _chunk(
        self, delta: dict[str, Any], *, logprobs: "list[Any] | None" = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        shown = _logprobs(logprobs) if self._wants_logprobs and logprobs else None
        choice = {"index": 0, "delta": delta, "logprobs": shown, "finish_reason": finish_reason}
        chunk = {**self._head, "choices": [choice]}
        return {**chunk, "usage": None} if self._include_usage else chunk


def _head(response: _Response, kind: str) -> dict[str, Any]:
    return {
        "id": "chatcmpl-" + response.id.partition("_")[2],
        "object": kind,
        "created": response.created_at,
        "model": response.model,
        "service_tier": response.service_tier,
    }


def _call(item: _Item, arguments: str, text: str) -> dict[str, Any]:
    if item.type == "custom_tool_call":
        return {"id": item.call_id, "type": "custom", "custom": {"name": item.name, "input": text}}
    return {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": arguments}}


def _finish_reason(response: _Response) -> str:
    reason = response.incomplete_details.reason if response.incomplete_details is not None else ""
    if reason == "max_output_tokens":
        return "length"
    if reason == "content_filter":
        return "content_filter"
    return "tool_calls" if any(item.call_id for item in response.output) else "stop"


def _logprobs(entries: list[Any]) -> dict[str, Any]:
    return {"content": entries, "refusal": None}


def _usage(usage: _Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.input_tokens_details.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.output_tokens_details.reasoning_tokens},
    }


def _type_of(code: str) -> str:
    """The `type` that goes with an error code."""
    kinds: list[type[ApiError]] = [ApiError]
    for kind in kinds:
        if kind.code == code:
            return kind.type
        kinds += kind.__subclasses__()
    return ApiError.type


def chat_error(error: ApiError) -> bytes:
    """An error in the middle of a chunk stream."""
    return json_bytes(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )
