"""What a response object repeats of its request (docs/protocol.md §8), as bytes made once per turn.

`instructions` and `tools` can be long and rarely change: their bytes come from the model context, spliced in.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hotloop.protocol.request import ResponseCreate, TextJsonObject, TextJsonSchema
from hotloop.protocol.wire import json_bytes

_MOST_PLAIN = 16  # kinds of request per context whose echo is kept
_TEXT_DEFAULT = b'{"format":{"type":"text"}}'
_REASONING_DEFAULT = b'{"effort":null,"summary":null}'


@dataclass(frozen=True, slots=True)
class ContextEcho:
    """The spliced part: JSON of `instructions` and of the normalised `tools`."""

    instructions: bytes = b"null"
    tools: bytes = b"[]"
    plain: "dict[tuple[object, ...], tuple[bytes, bytes]]" = field(default_factory=dict, compare=False, repr=False)


def request_echo(request: ResponseCreate, model: str, context: ContextEcho, default_temperature: float = 1.0) -> bytes:
    """The members of the response object that follow from the request, without braces, without a trailing comma.

    An agent's turns differ in `previous_response_id` only: what stands around it is kept with the context.
    """
    before, after = around_previous(request, model, context, default_temperature)
    return before + previous_echo(request) + after


def previous_echo(request: ResponseCreate) -> bytes:
    """The value of `previous_response_id`."""
    previous = request.previous_response_id
    return b"null" if previous is None else json_bytes(previous)


def around_previous(
    request: ResponseCreate, model: str, context: ContextEcho, default_temperature: float
) -> tuple[bytes, bytes]:
    """The members before the value of `previous_response_id`, and those behind it."""
    key = _plain_key(request, model, default_temperature)
    around = context.plain.get(key) if key is not None else None
    if around is None:
        around = _around_previous(request, model, context, default_temperature)
        if key is not None and len(context.plain) < _MOST_PLAIN:
            context.plain[key] = around
    return around


def _plain_key(request: ResponseCreate, model: str, default_temperature: float) -> tuple[object, ...] | None:
    """Everything that the echo depends on besides the context; None where it is more than plain values."""
    if request.metadata or request.text is not None or isinstance(request.tool_choice, dict):
        return None
    return (
        model,
        default_temperature,
        request.background,
        request.frequency_penalty,
        request.max_output_tokens,
        request.max_tool_calls,
        request.parallel_tool_calls,
        request.presence_penalty,
        request.prompt_cache_key,
        request.reasoning,
        request.safety_identifier,
        request.stores,
        request.temperature,
        request.tool_choice,
        request.top_logprobs,
        request.top_p,
        request.truncation,
        request.user,
        request.conversation_id,
    )


def _around_previous(
    request: ResponseCreate, model: str, context: ContextEcho, default_temperature: float
) -> tuple[bytes, bytes]:
    before = (
        b'"background":%b,"frequency_penalty":%b,"instructions":%b,"max_output_tokens":%b,"max_tool_calls":%b,'
        b'"metadata":%b,"model":%b,"parallel_tool_calls":%b,"presence_penalty":%b,"previous_response_id":'
    ) % (
        json_bytes(bool(request.background)),
        _number(request.frequency_penalty, b"0"),
        context.instructions,
        json_bytes(request.max_output_tokens),
        json_bytes(request.max_tool_calls),
        json_bytes(request.metadata) if request.metadata else b"{}",
        json_bytes(model),
        b"false" if request.parallel_tool_calls is False else b"true",
        _number(request.presence_penalty, b"0"),
    )
    after = (
        b',"prompt_cache_key":%b,"reasoning":%b,"safety_identifier":%b,"service_tier":%b,"store":%b,'
        b'"temperature":%b,"text":%b,"tool_choice":%b,"tools":%b,"top_logprobs":%b,"top_p":%b,"truncation":%b,"user":%b%b'
    ) % (
        _text(request.prompt_cache_key),
        _reasoning(request),
        _text(request.safety_identifier),
        b'"default"',
        b"true" if request.stores else b"false",
        _number(default_temperature if request.temperature is None else request.temperature, b"1"),
        _text_format(request),
        b'"auto"' if request.tool_choice is None else json_bytes(request.tool_choice),
        context.tools,
        _number(request.top_logprobs, b"0"),
        _number(request.top_p, b"1"),
        b'"auto"' if request.truncation == "auto" else b'"disabled"',
        _text(request.user),
        _conversation(request),
    )
    return before, after


def _conversation(request: ResponseCreate) -> bytes:
    # docs/protocol.md §8: present when the response belongs to one, else left out
    conversation_id = request.conversation_id
    return b"" if conversation_id is None else b',"conversation":{"id":%b}' % json_bytes(conversation_id)


def _number(value: float | None, default: bytes) -> bytes:
    if value is None:
        return default
    whole = int(value)
    return json_bytes(whole if whole == value else value)


def _text(value: str | None) -> bytes:
    return b"null" if value is None else json_bytes(value)


def _reasoning(request: ResponseCreate) -> bytes:
    reasoning = request.reasoning
    if reasoning is None:
        return _REASONING_DEFAULT
    return json_bytes({"effort": reasoning.effort, "summary": reasoning.summary or reasoning.generate_summary})


def _text_format(request: ResponseCreate) -> bytes:
    text = request.text
    if text is None:
        return _TEXT_DEFAULT
    echo: dict[str, Any] = {"format": _format(text.format)}
    if text.verbosity is not None:
        echo["verbosity"] = text.verbosity
    return json_bytes(echo)


def _format(form: object) -> dict[str, Any]:
    match form:
        case TextJsonSchema():
            return {
                "type": "json_schema",
                "name": form.name,
                "description": form.description,
                "schema": msgspec.Raw(bytes(form.schema)),
                "strict": bool(form.strict),
            }
        case TextJsonObject():
            return {"type": "json_object"}
        case _:
            return {"type": "text"}
