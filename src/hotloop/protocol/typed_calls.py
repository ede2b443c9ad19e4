"""Calls and outputs of the tools with item types of their own (docs/protocol.md §4.2), as functions a model knows.

The item that a client sees is the truth: what the model wrote becomes it (`fields_of_call`), and the function call that
stands in the chain is read back from it, whether it comes from the model or is sent again by a client.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import msgspec

from hotloop.errors import InvalidType, MissingParameter
from hotloop.protocol.decoding import decode_as
from hotloop.protocol.hosted_items import APPROVAL_REQUEST, APPROVAL_RESPONSE, CALL, LIST_TOOLS, hosted_item
from hotloop.protocol.hosted_tool import item_without_secrets
from hotloop.protocol.items import (
    MAX_PARTS,
    CompactionTrigger,
    InputText,
    Item,
    ItemStatus,
    OpaqueItem,
    ResultPart,
    SealedItem,
    SettingItem,
    TypedCall,
    TypedCallOutput,
)
from hotloop.protocol.wire import json_bytes

SUMMARY_PROMPT = (
    "Summarize this conversation so that the work can go on from the summary alone; everything else will be forgotten. "
    "State the user's requests and constraints, what was done and found (with names of files, commands and exact values), "
    "what is decided, and what remains to be done. Do not call tools and do not address the user; write the summary only."
)

_CALLS = ("local_shell", "shell", "apply_patch", "tool_search")
CALL_ID_PREFIXES = {"local_shell": "lsh", "shell": "sh", "apply_patch": "apc", "tool_search": "tsc"}


class _LocalShell(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    command: list[str]
    working_directory: str | None = None
    timeout_ms: int | None = None
    env: dict[str, str] = {}


class _Shell(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    commands: list[str]
    timeout_ms: int | None = None
    max_output_length: int | None = None


class _Patch(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    type: Literal["create_file", "update_file", "delete_file"]
    path: str
    diff: str | None = None


_ARGUMENTS: Mapping[str, "msgspec.json.Decoder[Any]"] = {
    "local_shell": msgspec.json.Decoder(_LocalShell),
    "shell": msgspec.json.Decoder(_Shell),
    "apply_patch": msgspec.json.Decoder(_Patch),
    "tool_search": msgspec.json.Decoder(dict[str, Any]),
}


def fields_of_call(kind: str, arguments: str) -> dict[str, Any] | None:
    """What a typed item says of the call that the model wrote; None if these are no arguments of that tool."""
    try:
        given = _ARGUMENTS[kind].decode(arguments.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, RecursionError):
        return None
    match given:
        case _LocalShell():
            return {"action": {"type": "exec", "env": {}, **msgspec.to_builtins(given)}}
        case _Shell():
            limits = {"timeout_ms": given.timeout_ms, "max_output_length": given.max_output_length}
            return {"action": {"commands": given.commands, **limits}}
        case _Patch():
            diff = {} if given.type == "delete_file" else {"diff": given.diff or ""}
            return {"operation": {"type": given.type, "path": given.path, **diff}}
        case _:
            return {"arguments": given, "execution": "client"}


def typed_call(kind: str, item_id: str, call_id: str, fields: Mapping[str, Any]) -> TypedCall:
    """The item of a call that the model wrote."""
    head = {"id": item_id, "type": f"{kind}_call", "status": "completed", "call_id": call_id}
    made = _call(json_bytes({**head, **fields}), "output", kind)
    assert isinstance(made, TypedCall)
    return made


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a typed item; whatever else it says travels along."""

    id: str | None = None
    call_id: str | None = None
    status: Any = None
    action: dict[str, Any] | None = None
    operation: dict[str, Any] | None = None
    arguments: Any = None
    output: Any = None
    tools: Any = None


_wire_decoder = msgspec.json.Decoder(_Wire)


def _call(raw: bytes, param: str, kind: str) -> TypedCall | OpaqueItem:
    if kind == "tool_search":
        raw = item_without_secrets(raw)
    wire = decode_as(_wire_decoder, raw, param)
    if kind == "tool_search" and wire.call_id is None:  # a server made that search: it is no call to be answered
        return OpaqueItem("tool_search_call", raw)
    match kind:
        case "local_shell" | "shell":
            meant: Any = {key: value for key, value in (wire.action or {}).items() if value not in (None, {})}
            if kind == "local_shell":
                meant.pop("type", None)
        case "apply_patch":
            meant = wire.operation or {}
        case _:
            meant = {} if wire.arguments is None else wire.arguments
    arguments = meant if isinstance(meant, str) else json_bytes(meant).decode()
    return TypedCall(
        id=wire.id,
        status=_status(wire),
        call_id=_call_id(wire, param),
        name=kind,
        arguments=arguments,
        kind=kind,
        raw=raw,
    )


def _output(raw: bytes, param: str, kind: str) -> TypedCallOutput | SettingItem:
    wire = decode_as(_wire_decoder, raw, param)
    if kind == "tool_search" and wire.call_id is None:  # it answers no call, its tools are there all the same
        return _setting(raw, param, "tool_search_output")
    output = json_bytes(wire.tools).decode() if kind == "tool_search" else _output_text(wire.output, wire.status)
    return TypedCallOutput(
        id=wire.id, status=_status(wire), call_id=_call_id(wire, param), output=output, kind=kind, raw=raw
    )


def _call_id(wire: _Wire, param: str) -> str:
    # A local_shell_call_output names its call by its own id (OpenAI SDK types).
    found = wire.call_id or wire.id
    if found is None:
        raise MissingParameter(f"{param}.call_id")
    return found


def _status(wire: _Wire) -> ItemStatus | None:
    match wire.status:
        case "in_progress" | "completed" | "incomplete" as known:
            status: ItemStatus = known
            return status
        case _:  # `failed`, of an output
            return None


def _output_text(output: Any, status: object) -> str | list[ResultPart]:
    match output:
        case str():
            return output
        case None:
            return str(status or "completed")
        case list():
            pieces = [_piece_text(piece) for piece in cast("list[object]", output)]  # JSON: of whatever
            # A model is shown them as one text anyway.
            return [InputText(text=text) for text in (pieces if len(pieces) <= MAX_PARTS else ["".join(pieces)])]
        case _:
            return json_bytes(output).decode()


class _Piece(msgspec.Struct, frozen=True):
    """What one command of a shell call printed, or a content part."""

    text: str | None = None
    stdout: str = ""
    stderr: str = ""
    outcome: dict[str, Any] = {}


def _piece_text(piece: object) -> str:
    """What was printed, and how it ended; whatever else it is, its JSON."""
    try:
        known = msgspec.convert(piece, _Piece)
    except msgspec.ValidationError:
        return json_bytes(piece).decode()
    if known.text is not None:
        return known.text
    printed = known.stdout + known.stderr
    if known.outcome.get("type") == "timeout":
        return f"{printed}\n[timed out]"
    code = known.outcome.get("exit_code")
    return f"{printed}\n[exit code {code}]" if code else printed


def _trigger(raw: bytes, param: str, kind: str) -> CompactionTrigger:
    return CompactionTrigger(role="user", content=SUMMARY_PROMPT, raw=raw)


class _Tools(msgspec.Struct, frozen=True):
    tools: msgspec.Raw = msgspec.Raw(b"[]")


_tools_decoder = msgspec.json.Decoder(_Tools)


def _setting(raw: bytes, param: str, kind: str) -> SettingItem:
    if kind != "configuration_update" and bytes(decode_as(_tools_decoder, raw, param).tools)[:1] not in (b"[", b"n"):
        raise InvalidType(f"'{param}.tools' must be an array.", param=f"{param}.tools")
    return SettingItem(kind, raw if kind == "configuration_update" else item_without_secrets(raw))


def _hosted(raw: bytes, param: str, kind: str) -> Item:
    return hosted_item(kind, raw)


def _sealed(raw: bytes, param: str, kind: str) -> SealedItem:
    return SealedItem(kind, raw)


_Reader = Callable[[bytes, str, str], Item]

_READERS: dict[str, tuple[_Reader, str]] = {
    **{f"{kind}_call": (_call, kind) for kind in _CALLS},
    **{f"{kind}_call_output": (_output, kind) for kind in _CALLS},
    "tool_search_output": (_output, "tool_search"),
    "additional_tools": (_setting, "additional_tools"),
    "configuration_update": (_setting, "configuration_update"),
    **{kind: (_hosted, kind) for kind in (LIST_TOOLS, CALL, APPROVAL_REQUEST, APPROVAL_RESPONSE)},
    "compaction_trigger": (_trigger, ""),
    "compaction": (_sealed, "compaction"),
    "compaction_summary": (_sealed, "compaction"),
}


def decode_special(kind: str, raw: bytes, param: str) -> Item:
    """An item that is not read as it stands. One of a type that nothing here knows is carried whole."""
    found = _READERS.get(kind)
    if found is None:
        return OpaqueItem(kind, raw)
    read, known = found
    return read(raw, param, known)


def tools_in(item: Item) -> bytes | None:
    """The `tools` array that an item adds to its chain, raw, if it adds any."""
    match item:
        case (
            SettingItem(kind="additional_tools" | "tool_search_output", raw=raw)
            | TypedCallOutput(kind="tool_search", raw=raw)
        ):
            facts = item.facts
            tools = bytes(_tools_decoder.decode(raw).tools) if facts is None else facts.tools or b""
            return tools if tools[:1] == b"[" else None
        case _:
            return None
