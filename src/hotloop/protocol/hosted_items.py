"""Items of the tools that this server runs (docs/protocol.md §4.2): `mcp_list_tools`, `mcp_call`, and the consent to calls.

One `mcp_call` is a call and its output. A model knows them as two things, and by a name of its own for the tool; a call that
waits for consent is an `mcp_approval_request` first, and then only its output is new.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import msgspec

from hotloop.protocol.hosted_calls import ApprovalRequest, ApprovalResponse, CallStatus, HostedCall
from hotloop.protocol.items import (
    FunctionCall,
    FunctionCallOutput,
    HostedItem,
    Item,
    ItemStatus,
    OpaqueItem,
    SettingItem,
)
from hotloop.protocol.wire import json_bytes

LIST_TOOLS = "mcp_list_tools"
CALL = "mcp_call"
APPROVAL_REQUEST = "mcp_approval_request"
APPROVAL_RESPONSE = "mcp_approval_response"
_MAX_NAME = 128
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


def hosted_name(label: str, name: str) -> str:
    """The name a model knows a server's tool by."""
    flat = _NOT_IN_NAMES.sub("_", f"{label}__{name}")
    if len(flat) <= _MAX_NAME:
        return flat
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{flat[: _MAX_NAME - 9]}_{digest}"


class _WireTool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    description: str | None = None
    input_schema: Any = None
    annotations: Any = None


class _Hints(msgspec.Struct, frozen=True):
    is_read_only: Any = msgspec.field(default=None, name="readOnlyHint")
    read_only: Any = None


_hints_decoder = msgspec.json.Decoder(_Hints)


class ListedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool in an `mcp_list_tools`. Its schema, raw, keeps its order, in which a model reads it."""

    name: str
    description: str | None = None
    input_schema: msgspec.Raw = msgspec.Raw(b"null")
    annotations: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def is_read_only(self) -> bool:
        """Its server says that it changes nothing."""
        try:
            hints = _hints_decoder.decode(self.annotations)
        except msgspec.ValidationError:  # no object
            return False
        return hints.is_read_only is True or hints.read_only is True


class ToolList(msgspec.Struct, frozen=True, kw_only=True):
    """An `mcp_list_tools`."""

    server_label: str
    tools: list[_WireTool]
    error: Any = None


_call_decoder = msgspec.json.Decoder(HostedCall)
_request_decoder = msgspec.json.Decoder(ApprovalRequest)
_response_decoder = msgspec.json.Decoder(ApprovalResponse)
_list_decoder = msgspec.json.Decoder(ToolList)
_DECODERS: Mapping[str, "msgspec.json.Decoder[Any]"] = {
    LIST_TOOLS: _list_decoder,
    CALL: _call_decoder,
    APPROVAL_REQUEST: _request_decoder,
    APPROVAL_RESPONSE: _response_decoder,
}


def hosted_item(kind: str, raw: bytes) -> Item:
    """An item of these types. One of another shape is carried whole, as what another server may have meant by it."""
    try:
        _DECODERS[kind].decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return OpaqueItem(kind, raw)
    return SettingItem(kind, raw) if kind == LIST_TOOLS else HostedItem(kind, raw)


def read_call(item: Item) -> HostedCall | None:
    """The call, if the item is one."""
    if not isinstance(item, HostedItem) or item.kind != CALL:
        return None
    return _call_decoder.decode(item.raw) if item.facts is None else item.facts.call


def read_request(item: Item) -> ApprovalRequest | None:
    """The request for consent, if the item is one."""
    if not isinstance(item, HostedItem) or item.kind != APPROVAL_REQUEST:
        return None
    return _request_decoder.decode(item.raw) if item.facts is None else item.facts.request


def read_response(item: Item) -> ApprovalResponse | None:
    """The answer to such a request, if the item is one."""
    if not isinstance(item, HostedItem) or item.kind != APPROVAL_RESPONSE:
        return None
    return _response_decoder.decode(item.raw) if item.facts is None else item.facts.response


def id_in(request: HostedItem) -> str:
    """The id of a request for consent."""
    found = read_request(request)
    assert found is not None
    return found.id


def listed_tools(item: Item) -> tuple[str, bytes] | None:
    """Label and tools of a list that succeeded, in one spelling: however a client writes it again, it is the same."""
    if not isinstance(item, SettingItem) or item.kind != LIST_TOOLS:
        return None
    if item.facts is not None:
        return None if item.facts.tools is None else (item.facts.label, item.facts.tools)
    found = _list_decoder.decode(item.raw)
    return None if found.error else (found.server_label, json_bytes(found.tools))


_tools_decoder = msgspec.json.Decoder(list[ListedTool])


def tools_listed(tools: bytes) -> list[ListedTool]:
    """The tools as `listed_tools` gives them."""
    return _tools_decoder.decode(tools)


# --- as a model sees them ---


def as_called(item: HostedItem, names: Mapping[tuple[str, str], str] = MappingProxyType({})) -> Item:
    """The call that the model wrote; `names` are those that are not the usual ones, by label and tool."""
    call = read_call(item)
    if call is not None:
        status: ItemStatus = "incomplete" if call.status == "incomplete" else "completed"
        return _function_call(call, call.id or CALL, names, status)
    request = read_request(item)
    return item if request is None else _function_call(request, request.id, names, "completed")


def as_answered(item: HostedItem) -> FunctionCallOutput | None:
    """What the model is told of the call; None while there is nothing to tell."""
    call = read_call(item)
    if call is not None:
        if call.status == "incomplete":
            return None
        output = call.output if call.output is not None else error_text(call.error)
        return FunctionCallOutput(call_id=call.approval_request_id or call.id or CALL, output=output)
    response = read_response(item)
    if response is not None and not response.approve:
        reason = f" Reason: {response.reason}" if response.reason else ""
        return FunctionCallOutput(
            call_id=response.approval_request_id, output=f"The user did not allow this call.{reason}"
        )
    return None


def seen_by_model(item: HostedItem) -> list[Item]:
    """The item as what stands in a model's conversation for it."""
    call = read_call(item)
    seen: list[Item] = []
    if item.kind == APPROVAL_REQUEST or (call is not None and call.approval_request_id is None):
        seen.append(as_called(item))
    answer = as_answered(item)
    return seen if answer is None else [*seen, answer]


def error_text(error: object) -> str:
    """An error as the model reads it."""
    match error:
        case str():
            return f"Error: {error}"
        case {"type": "mcp_tool_execution_error", "content": list()}:
            return f"Error: {_content_text(cast('dict[str, list[object]]', error)['content'])}"
        case {"message": str(message)}:
            return f"Error: {message}"
        case _:
            return "Error: the call gave no output."


def _content_text(content: Sequence[object]) -> str:
    texts: list[str] = []
    for block in content:
        match block:
            case {"text": str(text)}:
                texts.append(text)
            case _:
                texts.append(json_bytes(block).decode())
    return "\n".join(texts)


def _function_call(
    call: HostedCall | ApprovalRequest, call_id: str, names: Mapping[tuple[str, str], str], status: ItemStatus
) -> FunctionCall:
    name = names.get((call.server_label, call.name)) or hosted_name(call.server_label, call.name)
    return FunctionCall(call_id=call_id, name=name, arguments=call.arguments, status=status)


# --- as they are written ---


def call_item(
    *,
    item_id: str,
    label: str,
    name: str,
    arguments: str,
    status: CallStatus,
    output: str | None = None,
    error: object = None,
    approval_request_id: str | None = None,
) -> HostedItem:
    """An `mcp_call`."""
    fields = {
        "id": item_id,
        "type": CALL,
        "status": status,
        "approval_request_id": approval_request_id,
        "arguments": arguments,
        "error": error,
        "name": name,
        "output": output,
        "server_label": label,
    }
    return HostedItem(CALL, json_bytes(fields))


def request_item(*, item_id: str, label: str, name: str, arguments: str) -> HostedItem:
    """An `mcp_approval_request`."""
    fields = {"id": item_id, "type": APPROVAL_REQUEST, "arguments": arguments, "name": name, "server_label": label}
    return HostedItem(APPROVAL_REQUEST, json_bytes(fields))


def list_item(
    *, item_id: str, label: str, tools: Sequence[Mapping[str, Any]] = (), error: str | None = None
) -> SettingItem:
    """An `mcp_list_tools`."""
    fields = {"id": item_id, "type": LIST_TOOLS, "server_label": label, "tools": tools}
    return SettingItem(LIST_TOOLS, json_bytes(fields if error is None else {**fields, "error": error}))
