"""What the Open Responses contract (tests/conformance/open_responses) says of our requests, objects and events.

hotloop follows OpenAI where the two differ (docs/protocol.md §15). Everything that the contract does not know is listed
here, each with its reason, checked against fields of our own and taken out before the rest is held against the contract.
Nothing else is let through.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from tests.support.hosted_order import check_as_openai_has_it

Json = dict[str, Any]

CONTRACT = Path(__file__).parents[1] / "conformance" / "open_responses" / "openapi.json"
_URI = "urn:open-responses"

# Events of OpenAI's that the contract's union lacks, with the fields docs/protocol.md §3.3 gives them. Every event has
# `sequence_number` as well.
OPENAI_ONLY_EVENTS: dict[str, frozenset[str]] = {
    # Raw reasoning under OpenAI's names; with `reasoning_events = open_responses` the contract's own are used (§3.2).
    "response.reasoning_text.delta": frozenset({"item_id", "output_index", "content_index", "delta"}),
    "response.reasoning_text.done": frozenset({"item_id", "output_index", "content_index", "text"}),
    # Custom tools: only OpenAI has them (§4.3).
    "response.custom_tool_call_input.delta": frozenset({"item_id", "output_index", "delta"}),
    "response.custom_tool_call_input.done": frozenset({"item_id", "output_index", "input"}),
    # Steering and interrupts are WebSocket-only and OpenAI's (§9).
    "response.steer.accepted": frozenset({"steer"}),
    "response.steer.pending": frozenset({"steer", "reason", "required_input"}),
    "response.steer.failed": frozenset({"steer", "error"}),
    "response.interrupt.accepted": frozenset({"response_id"}),
    "response.interrupt.failed": frozenset({"response_id", "error"}),
    "response.inject.failed": frozenset({"response_id", "input", "error"}),
    "response.output_item.interrupted": frozenset({"response_id", "item_id", "output_index"}),
    # MCP servers are OpenAI's; the SDK's types say more (tests/support/hosted_order.py).
    "response.mcp_list_tools.in_progress": frozenset({"item_id", "output_index"}),
    "response.mcp_list_tools.completed": frozenset({"item_id", "output_index"}),
    "response.mcp_list_tools.failed": frozenset({"item_id", "output_index"}),
    "response.mcp_call.in_progress": frozenset({"item_id", "output_index"}),
    "response.mcp_call.completed": frozenset({"item_id", "output_index"}),
    "response.mcp_call.failed": frozenset({"item_id", "output_index"}),
    "response.mcp_call_arguments.delta": frozenset({"item_id", "output_index", "delta"}),
    "response.mcp_call_arguments.done": frozenset({"item_id", "output_index", "arguments"}),
    # Compaction while new summary text is sampled (§3.2).
    "response.compaction.compacting": frozenset({"item_id", "output_index"}),
}
# The specification allows extensions whose type begins with an implementor's name (§3.3).
EXTENSION = "hotloop:"

# Items that are OpenAI's alone, with the fields §4.3 gives them in output.
OPENAI_ONLY_ITEMS: dict[str, frozenset[str]] = {
    "custom_tool_call": frozenset({"id", "status", "call_id", "name", "input"}),
    "local_shell_call": frozenset({"id", "status", "call_id", "action"}),
    "shell_call": frozenset({"id", "status", "call_id", "action"}),
    "apply_patch_call": frozenset({"id", "status", "call_id", "operation"}),
    "tool_search_call": frozenset({"id", "status", "call_id", "execution", "arguments"}),
    "mcp_list_tools": frozenset({"id", "server_label", "tools"}),
    "mcp_call": frozenset({"id", "status", "server_label", "name", "arguments", "output", "error"}),
    "mcp_approval_request": frozenset({"id", "server_label", "name", "arguments"}),
}
OPENAI_ONLY_EFFORTS = ("minimal", "max")  # §15: accepted and echoed as given

# Fields of which the contract asks no more than a type: events that differ in these alone are checked once.
_NAMES = (
    "id item_id call_id response_id previous_response_id created_at completed_at sequence_number output_index delta text"
    " arguments input token bytes logprob input_tokens output_tokens total_tokens cached_tokens reasoning_tokens"
)
_OF_ANY_VALUE = frozenset(_NAMES.split())


@cache
def _document() -> Json:
    found: Json = json.loads(CONTRACT.read_text())
    return found


@cache
def validator(schema: str) -> Any:
    """The contract's schema of this name, as a jsonschema validator (whose types are partly unknown)."""
    registry = cast(Any, Registry)().with_resource(_URI, DRAFT202012.create_resource(_document()))
    assert schema in _document()["components"]["schemas"], f"the contract has no {schema}"
    return Draft202012Validator({"$ref": f"{_URI}#/components/schemas/{schema}"}, registry=registry)


def check_schema(schema: str, value: object) -> None:
    """Assert that `value` is what the contract calls `schema`."""
    for error in validator(schema).iter_errors(value):
        raise AssertionError(f"not a {schema}: {_telling(error)}")


def _telling(error: Any) -> str:
    """What is wrong where, in the branch of a union that the value's `type` asks for."""
    while error.context:
        other = {inner.schema_path[0] for inner in error.context if list(inner.path)[-1:] == ["type"]}
        fitting = [inner for inner in error.context if inner.schema_path[0] not in other]
        error = max(fitting or error.context, key=lambda inner: len(inner.absolute_path))
    return f"{error.json_path}: {error.message[:500]}"


@cache
def event_schemas() -> dict[str, str]:
    """The contract's name of every event type of its streaming union."""
    post = _document()["paths"]["/responses"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    names = [entry["$ref"].rpartition("/")[2] for entry in post["schema"]["oneOf"]]
    schemas = _document()["components"]["schemas"]
    return {schemas[name]["properties"]["type"]["enum"][0]: name for name in names}


_checked: set[object] = set()


def check_event(event: Json) -> None:
    """Assert that an event of a response is the contract's, or one of the listed ones that only OpenAI has."""
    kind = event["type"]
    if kind.startswith(EXTENSION) or kind in OPENAI_ONLY_EVENTS:
        assert isinstance(event["sequence_number"], int)
        missing = OPENAI_ONLY_EVENTS.get(kind, frozenset()) - set(event)
        assert not missing, f"{kind} lacks {sorted(missing)}"
        if kind.startswith("response.mcp_"):
            check_as_openai_has_it(event)
        return
    schema = event_schemas().get(kind)
    assert schema is not None, f"an event type that nobody knows: {kind}"
    shape = _shape(event)
    if shape not in _checked:
        check_schema(schema, _contract_event(event))
        _checked.add(shape)


def _shape(value: Any, name: str = "") -> object:
    """What the contract sees of a value."""
    if isinstance(value, dict):
        entries: Json = value  # pyright: ignore[reportUnknownVariableType]
        return tuple((key, _shape(entry, key)) for key, entry in entries.items())
    if isinstance(value, list):
        elements: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return ("list", *(_shape(element, name) for element in elements))
    kind = type(value).__name__
    return kind if name in _OF_ANY_VALUE else (kind, value)


def check_event_strictly(event: Json) -> None:
    """As the Open Responses runner does: the contract's own events and error envelope, nothing of OpenAI's."""
    if event["type"] == "error":
        check_error(event)
        return
    schema = event_schemas().get(event["type"])
    assert schema is not None, f"not an event of Open Responses: {event['type']}"
    check_schema(schema, event)


def _contract_event(event: Json) -> Json:
    """The event without what only OpenAI has."""
    if "response" in event:
        return {**event, "response": _contract_response(event["response"])}
    if "item" in event and _is_openai_only(event["item"]):
        return {**event, "item": None}
    return event


def check_response(response: Json) -> None:
    """Assert that a response object is complete to the letter."""
    check_schema("ResponseResource", _contract_response(response))


def check_error(event: Json) -> None:
    """Assert that an `error` event of a WebSocket is the contract's."""
    check_schema("WebSocketErrorEvent", event)
    assert isinstance(event["error"]["type"], str)


def check_error_body(body: Json) -> None:
    """Assert that the body of an HTTP error is an error payload."""
    check_schema("ErrorPayload", body["error"])
    assert isinstance(body["error"]["code"], str), "an error without a code"


def _is_openai_only(item: Mapping[str, Any]) -> bool:
    fields = OPENAI_ONLY_ITEMS.get(item["type"])
    if fields is None:
        return False
    assert fields <= set(item), f"{item['type']} lacks {sorted(fields - set(item))}"
    return True


def _contract_response(response: Json) -> Json:
    """The response without what only OpenAI has: custom and hosted tools, custom tool calls, two efforts, a schema."""
    known = dict(response)
    known["tools"] = [tool for tool in response["tools"] if tool["type"] == "function"]
    known["output"] = [item for item in response["output"] if not _is_openai_only(item)]
    known["tool_choice"] = _contract_choice(response["tool_choice"])
    form = response["text"]["format"]
    if form["type"] == "json_schema":
        assert isinstance(form["schema"], dict), "the schema is not echoed"
        known["text"] = {**response["text"], "format": {**form, "schema": None}}  # all that the contract's type allows
    reasoning = response["reasoning"]
    if reasoning is not None and reasoning["effort"] in OPENAI_ONLY_EFFORTS:
        known["reasoning"] = {**reasoning, "effort": None}
    return known


def _contract_choice(choice: str | Json) -> str | Json:
    """`tool_choice` without custom and hosted tools."""
    if isinstance(choice, str) or choice["type"] == "function":
        return choice
    if choice["type"] == "allowed_tools":
        return {**choice, "tools": [tool for tool in choice["tools"] if tool["type"] == "function"]}
    return "auto"


# --- requests ---

# Top-level fields with values that OpenAI's clients send and the contract forbids or bounds otherwise: left out of the
# comparison where the value is OpenAI's.
_NOT_OVER_WEBSOCKET = ("stream", "stream_options", "background")  # §15: real clients send `stream`
_IS_OPENAI_ONLY: dict[str, Callable[[Any], bool]] = {
    "max_output_tokens": lambda value: value < 16,  # there is no reason to refuse fewer (docs/compatibility.md)
    "safety_identifier": lambda value: 64 < len(value) <= 128,  # §15
    "service_tier": lambda value: value in ("scale", "fast", "ultrafast"),  # §2.1
    "include": lambda value: (
        not {"reasoning.encrypted_content", "message.output_text.logprobs"}.issuperset(value)
    ),  # §4.7
}
_REQUEST_ITEMS = frozenset(
    {"message", "function_call", "function_call_output", "reasoning", "item_reference", "compaction"}
)


def check_request(request: Json, *, websocket: bool) -> None:
    """Assert that a request is the contract's once what only OpenAI has is taken out."""
    known = {name: value for name, value in request.items() if value is not None}  # OpenAI: null is absent
    for name, is_openai_only in _IS_OPENAI_ONLY.items():
        if name in known and is_openai_only(known[name]):
            del known[name]
    if isinstance(known.get("input"), list):
        known["input"] = _contract_items(known["input"])
    if "tools" in known:
        known["tools"] = [_without_nulls(tool) for tool in known["tools"] if tool["type"] == "function"]
    if "tool_choice" in known:
        known["tool_choice"] = _contract_choice(known["tool_choice"])
    reasoning = known.get("reasoning")
    if reasoning is not None and reasoning.get("effort") in OPENAI_ONLY_EFFORTS:
        known["reasoning"] = {**reasoning, "effort": None}
    if websocket:
        known = {name: value for name, value in known.items() if name not in _NOT_OVER_WEBSOCKET}
        check_schema("WebSocketResponseCreateEvent", known)
    else:
        check_schema("CreateResponseBody", known)


def _contract_items(items: Sequence[Json]) -> list[Json]:
    found: list[Json] = []
    for item in items:
        # OpenAI's short form: a message may leave its type out.
        typed = {"type": "message", **item} if "role" in item else item
        kind = typed.get("type", "item_reference")
        if kind in _REQUEST_ITEMS:
            # Raw reasoning comes back as it went out; the contract's item for input knows its summary only.
            found.append(_without_nulls(typed, *(("content",) if kind == "reasoning" else ())))
    return found


def _without_nulls(value: Json, *left_out: str) -> Json:
    return {name: entry for name, entry in value.items() if entry is not None and name not in left_out}
