"""Whatever arrives is a request or a refusal that says why; never another exception."""

import json
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from hotloop.errors import ApiError
from hotloop.protocol.echo import ContextEcho, request_echo
from hotloop.protocol.items import STRUCT_BY_TYPE
from hotloop.protocol.offer import offer_of, resolve_tool_choice
from hotloop.protocol.request import ResponseCreate, decode_create, decode_input, event_head, lane_of
from hotloop.protocol.tools import decode_tools, echo_tools
from hotloop.protocol.wire import error_body, error_event

ANY_TEXT = st.text(st.characters(), max_size=8)  # lone surrogates included
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), ANY_TEXT)
JSON = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=10,
)
KEYS = st.sampled_from(
    ["type", "role", "content", "text", "id", "call_id", "name", "arguments", "output", "input", "status", "summary"]
)
TYPES = st.sampled_from(
    [*STRUCT_BY_TYPE, "input_text", "output_text", "refusal", "function", "custom", "web_search", "grammar"]
)
NEAR = st.recursive(
    st.one_of(SCALAR, TYPES, st.sampled_from(["user", "assistant", "auto", "required", "completed"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, st.one_of(inner, TYPES), max_size=5)),
    max_leaves=12,
)
FIELDS = st.sampled_from([*ResponseCreate.__struct_fields__, "type", "unknown"])


def read_whole(message: bytes) -> None:
    """Everything that is decoded of a create, as a server does."""
    head = event_head(message)
    lane_of(head.stream_id)
    request = decode_create(message)
    items = decode_input(request.input)
    assert all(item is not None for item in items)
    tools = decode_tools(bytes(request.tools))
    json.loads(echo_tools(tools))
    resolve_tool_choice(request.tool_choice, offer_of(tools))
    json.loads(b"{" + request_echo(request, request.model or "", ContextEcho(tools=echo_tools(tools))) + b"}")


def check_refusal(error: ApiError) -> None:
    assert error.status == 400
    assert error.code
    body = json.loads(error_body(error))["error"]
    assert body["message"]
    assert json.loads(error_event(error, "a"))["error"] == body


def refusal_of(message: bytes) -> ApiError | None:
    try:
        read_whole(message)
    except ApiError as error:
        return error
    return None


def reads_or_refuses(message: bytes) -> None:
    error = refusal_of(message)
    if error is not None:
        check_refusal(error)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(message: bytes) -> None:
    reads_or_refuses(message)


@given(JSON)
def test_any_json_is_refused_or_read(value: Any) -> None:
    reads_or_refuses(json.dumps(value).encode())


@given(st.dictionaries(FIELDS, st.one_of(JSON, NEAR), max_size=6))
def test_any_values_of_the_known_fields_are_refused_or_read(fields: dict[str, Any]) -> None:
    reads_or_refuses(json.dumps({"type": "response.create", **fields}).encode())


@given(st.dictionaries(FIELDS, NEAR, max_size=4), st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_good_message_with_bytes_broken_anywhere_is_refused_or_read(
    fields: dict[str, Any], at: int, junk: bytes
) -> None:
    message = json.dumps({"type": "response.create", **fields}).encode()
    at %= len(message)
    reads_or_refuses(message[:at] + junk + message[at + len(junk) :])


@given(st.dictionaries(st.sampled_from(["input", "tools"]), NEAR, min_size=1))
def test_a_refused_input_or_tool_is_named_by_a_path_that_leads_there(fields: dict[str, Any]) -> None:
    error = refusal_of(json.dumps({"type": "response.create", **fields}).encode())
    if error is None:
        return
    if error.code == "invalid_json":  # half a surrogate pair: found below the level of fields, docs/protocol.md §10.4
        assert "\\ud" in json.dumps(fields)
        return
    assert error.param is not None
    assert error.param.split("[")[0].split(".")[0] in (*fields, "tool_choice")
    value: Any = fields
    for step in error.param.replace("[", ".[").split("."):
        if step.startswith("[") and step != "[...]":
            value = cast("list[Any]", value)[int(step[1:-1])]  # the path says so
        elif isinstance(value, dict) and step in value:
            value = cast("dict[str, Any]", value)[step]  # narrowed above
        else:
            break  # the last step may be missing: that is the complaint


@given(st.text(max_size=30), st.text(max_size=30))
def test_text_survives_the_way_in_and_the_way_out(text: str, user: str) -> None:
    request = decode_create(json.dumps({"input": text, "user": user}).encode())
    (item,) = decode_input(request.input)
    assert item.content[0].text == text  # type: ignore[union-attr, index]  # a string is one user message of one part
    assert json.loads(b"{" + request_echo(request, "m", ContextEcho()) + b"}")["user"] == user
