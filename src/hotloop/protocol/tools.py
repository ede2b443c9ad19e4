"""Tools a request offers and how it wants them used (docs/protocol.md §4.6).

Parameters stay raw JSON: decoded once per distinct `tools` text, then spliced.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hotloop.errors import InvalidRequest, InvalidType, SchemaTooComplex
from hotloop.protocol.decoding import decode_as
from hotloop.protocol.hosted_tool import HostedTool as HostedTool  # one of the kinds of tools: known from here
from hotloop.protocol.hosted_tool import ServerTool, server_tool
from hotloop.protocol.wire import json_bytes

# More of either would hold up every other turn while it is read, and fits no model's context.
MAX_TOOLS = 1024
MAX_TOOLS_BYTES = 4 * 2**20

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern="^[A-Za-z0-9_.-]+$")]


class FunctionTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool whose argument is a JSON object. `parameters` is its JSON Schema, raw."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None
    strict: bool | None = None
    is_deferred: bool = False  # offered only once a tool search has found it
    is_async: bool = False  # its output may come in a later turn


class TextFormat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Free text."""


class GrammarFormat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="grammar"):
    """Text that a grammar accepts."""

    syntax: Literal["lark", "regex"]
    definition: str


class CustomTool(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="custom"):
    """A tool whose argument is text."""

    name: Name
    description: str | None = None
    format: TextFormat | GrammarFormat | None = None
    defer_loading: bool | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")  # its output may come in a later turn

    @property
    def is_deferred(self) -> bool:
        """Offered only once a tool search has found it."""
        return self.defer_loading is True


class TypedTool(HostedTool, frozen=True):
    """A tool with item types of its own, run by the client: a model is offered it as the function `function`."""

    function: FunctionTool


class NamespaceTool(HostedTool, frozen=True):
    """Tools under a common name."""

    name: str
    members: "tuple[Tool, ...]"


Tool = FunctionTool | CustomTool | HostedTool


class _FunctionWire(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="function"):
    name: Name
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None
    defer_loading: bool | None = None
    is_async: bool | None = msgspec.field(default=None, name="async")


class _NamespaceWire(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="namespace"):
    name: Name
    tools: list[msgspec.Raw] = []


class _ShellEnvironment(msgspec.Struct, frozen=True):
    type: str = "local"


class _SpecialWire(msgspec.Struct, frozen=True, kw_only=True):
    environment: _ShellEnvironment | None = None
    execution: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")


class _Head(msgspec.Struct, frozen=True):
    type: str


_list_decoder: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_head_decoder = msgspec.json.Decoder(_Head)
_function_decoder = msgspec.json.Decoder(_FunctionWire)
_custom_decoder = msgspec.json.Decoder(CustomTool)
_namespace_decoder = msgspec.json.Decoder(_NamespaceWire)
_special_decoder = msgspec.json.Decoder(_SpecialWire)


def decode_tools(raw: bytes, param: str = "tools", *, takes_servers: bool = True) -> tuple[Tool, ...]:
    """A `tools` array; null is none. Raises the ApiError that names the field.

    `takes_servers`: MCP servers in it are meant; else they are types that nobody runs, whatever else they say.
    """
    if raw in (b"null", b"[]"):
        return ()
    if len(raw) > MAX_TOOLS_BYTES:
        raise SchemaTooComplex(f"'{param}' is longer than {MAX_TOOLS_BYTES} bytes.", param=param)
    raws = decode_as(_list_decoder, raw, param)
    if len(raws) > MAX_TOOLS:
        raise SchemaTooComplex(f"'{param}' holds more than {MAX_TOOLS} tools.", param=param)
    tools = tuple(_decode_tool(item, f"{param}[{index}]", takes_servers) for index, item in enumerate(raws))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if isinstance(tool, HostedTool):
            continue
        if tool.name in seen:
            raise InvalidRequest(f"Two tools are called '{tool.name}'.", param=f"{param}[{index}].name")
        seen.add(tool.name)
    return tools


def without_secrets(raw: bytes, tools: Sequence[Tool]) -> bytes:
    """The array that these tools were decoded from, without what its servers are shown to be let in."""
    raws = decode_as(_list_decoder, raw, "tools")
    shown = [tool.raw if isinstance(tool, ServerTool) else bytes(one) for tool, one in zip(tools, raws, strict=True)]
    return b"[" + b",".join(shown) + b"]"


def _decode_tool(raw: msgspec.Raw, param: str, takes_servers: bool = False) -> Tool:
    kind = decode_as(_head_decoder, raw, param).type
    match kind:
        case "function":
            return _function_tool(decode_as(_function_decoder, raw, param), param)
        case "custom":
            return decode_as(_custom_decoder, raw, param)
        case "namespace":
            return _namespace(raw, param)
        case "mcp" if takes_servers:
            return server_tool(bytes(raw), param)
        case "local_shell" | "apply_patch":
            return TypedTool(kind, bytes(raw), TYPED_TOOLS[kind])
        case "shell":
            environment = decode_as(_special_decoder, raw, param).environment
            is_local = environment is None or environment.type == "local"
            return TypedTool(kind, bytes(raw), TYPED_TOOLS[kind]) if is_local else HostedTool(kind, bytes(raw))
        case "tool_search":
            return _tool_search(raw, param)
        case _:
            return HostedTool(kind, bytes(raw))


def _namespace(raw: msgspec.Raw, param: str) -> NamespaceTool:
    wire = decode_as(_namespace_decoder, raw, param)
    if len(wire.tools) > MAX_TOOLS:
        raise SchemaTooComplex(f"'{param}.tools' holds more than {MAX_TOOLS} tools.", param=f"{param}.tools")
    members = tuple(_member(member, f"{param}.tools[{index}]") for index, member in enumerate(wire.tools))
    return NamespaceTool("namespace", bytes(raw), wire.name, members)


def _member(raw: msgspec.Raw, param: str) -> Tool:
    kind = decode_as(_head_decoder, raw, param).type
    # Only what is called by a name can be called by one within a namespace; a namespace holds no other.
    return _decode_tool(raw, param) if kind in ("function", "custom") else HostedTool(kind, bytes(raw))


def _tool_search(raw: msgspec.Raw, param: str) -> HostedTool:
    """Searched by the client; a search that the server would have to make is not served."""
    wire = decode_as(_special_decoder, raw, param)
    if wire.execution != "client":
        return HostedTool("tool_search", bytes(raw))
    parameters = wire.parameters.copy() if bytes(wire.parameters)[:1] == b"{" else None
    known = TYPED_TOOLS["tool_search"]
    function = FunctionTool(
        name="tool_search",
        description=wire.description or known.description,
        parameters=parameters or known.parameters,
    )
    return TypedTool("tool_search", bytes(raw), function)


def _function_tool(wire: _FunctionWire, param: str) -> FunctionTool:
    first = bytes(wire.parameters)[:1]
    if first not in (b"{", b"n"):
        raise InvalidType(f"'{param}.parameters' must be a JSON Schema object.", param=f"{param}.parameters")
    # A copy: a Raw is a view that would keep the whole message alive.
    parameters = wire.parameters.copy() if first == b"{" else None
    return FunctionTool(
        name=wire.name,
        description=wire.description,
        parameters=parameters,
        strict=wire.strict,
        is_deferred=wire.defer_loading is True,
        is_async=wire.is_async is True,
    )


def _typed_function(name: str, description: str, properties: dict[str, Any], required: list[str]) -> FunctionTool:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return FunctionTool(name=name, description=description, parameters=msgspec.Raw(json_bytes(schema)), strict=True)


_TIMEOUT = {"type": "integer", "description": "Milliseconds after which the command is stopped."}

# How a model is offered the tools whose calls are items of their own.
TYPED_TOOLS: dict[str, FunctionTool] = {
    "local_shell": _typed_function(
        "local_shell",
        "Runs a command on the user's machine and returns its output.",
        {
            "command": {"type": "array", "items": {"type": "string"}, "description": "The program and its arguments."},
            "working_directory": {"type": "string", "description": "Where to run it."},
            "timeout_ms": _TIMEOUT,
        },
        ["command"],
    ),
    "shell": _typed_function(
        "shell",
        "Runs shell commands on the user's machine and returns what they print.",
        {
            "commands": {"type": "array", "items": {"type": "string"}, "description": "Command lines, run in order."},
            "timeout_ms": _TIMEOUT,
            "max_output_length": {"type": "integer", "description": "Most characters of output to return."},
        },
        ["commands"],
    ),
    "apply_patch": _typed_function(
        "apply_patch",
        "Creates, changes or deletes one file on the user's machine.",
        {
            "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
            "path": {"type": "string", "description": "Path of the file."},
            "diff": {"type": "string", "description": "The change, as a V4A diff; nothing for a file to be deleted."},
        },
        ["type", "path"],
    ),
    "tool_search": FunctionTool(
        name="tool_search",
        description="Finds more tools; those found can be called afterwards.",
        parameters=msgspec.Raw(b'{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]}'),
    ),
}


def echo_tools(tools: Sequence[Tool]) -> bytes:
    """The `tools` of a response object: function tools with all five keys, others as given."""
    return b"[" + b",".join(_echo_tool(tool) for tool in tools) + b"]"


_OPTIONAL = ("defer_loading", "async")


def _echo_tool(tool: Tool) -> bytes:
    match tool:
        case HostedTool():
            return tool.raw
        case CustomTool():
            fields: dict[str, Any] = msgspec.to_builtins(tool)
            return json_bytes({key: value for key, value in fields.items() if key not in _OPTIONAL or value})
        case FunctionTool():
            return b'{"type":"function","name":%b,"description":%b,"parameters":%b,"strict":%b%b%b}' % (
                json_bytes(tool.name),
                json_bytes(tool.description),
                b"null" if tool.parameters is None else bytes(tool.parameters),
                json_bytes(tool.strict),
                b',"defer_loading":true' if tool.is_deferred else b"",
                b',"async":true' if tool.is_async else b"",
            )
