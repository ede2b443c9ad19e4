"""Tools a request offers and how it wants them used (docs/protocol.md §4.6).

Parameters stay raw JSON: decoded once per distinct `tools` text, then spliced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hotloop.errors import InvalidRequest, InvalidType, SchemaTooComplex, UnsupportedValue
from hotloop.protocol.decoding import decode_as
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


class HostedTool(msgspec.Struct, frozen=True):
    """A tool type this server does not render; `raw` is its JSON, echoed as given."""

    kind: str
    raw: bytes


Tool = FunctionTool | CustomTool | HostedTool


class _FunctionWire(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="function"):
    name: Name
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw(b"null")
    strict: bool | None = None


class _Head(msgspec.Struct, frozen=True):
    type: str


_list_decoder: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_head_decoder = msgspec.json.Decoder(_Head)
_function_decoder = msgspec.json.Decoder(_FunctionWire)
_custom_decoder = msgspec.json.Decoder(CustomTool)


def decode_tools(raw: bytes) -> tuple[Tool, ...]:
    """The `tools` array; null is none. Raises the ApiError that names the field."""
    if raw in (b"null", b"[]"):
        return ()
    if len(raw) > MAX_TOOLS_BYTES:
        raise SchemaTooComplex(f"'tools' is longer than {MAX_TOOLS_BYTES} bytes.", param="tools")
    raws = decode_as(_list_decoder, raw, "tools")
    if len(raws) > MAX_TOOLS:
        raise SchemaTooComplex(f"'tools' holds more than {MAX_TOOLS} tools.", param="tools")
    tools = tuple(_decode_tool(item, f"tools[{index}]") for index, item in enumerate(raws))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if isinstance(tool, HostedTool):
            continue
        if tool.name in seen:
            raise InvalidRequest(f"Two tools are called '{tool.name}'.", param=f"tools[{index}].name")
        seen.add(tool.name)
    return tools


def _decode_tool(raw: msgspec.Raw, param: str) -> Tool:
    kind = decode_as(_head_decoder, raw, param).type
    if kind == "function":
        return _function_tool(decode_as(_function_decoder, raw, param), param)
    if kind == "custom":
        return decode_as(_custom_decoder, raw, param)
    return HostedTool(kind, bytes(raw))


def _function_tool(wire: _FunctionWire, param: str) -> FunctionTool:
    first = bytes(wire.parameters)[:1]
    if first not in (b"{", b"n"):
        raise InvalidType(f"'{param}.parameters' must be a JSON Schema object.", param=f"{param}.parameters")
    # A copy: a Raw is a view that would keep the whole message alive.
    parameters = wire.parameters.copy() if first == b"{" else None
    return FunctionTool(name=wire.name, description=wire.description, parameters=parameters, strict=wire.strict)


def echo_tools(tools: Sequence[Tool]) -> bytes:
    """The `tools` of a response object: function tools with all five keys, others as given."""
    return b"[" + b",".join(_echo_tool(tool) for tool in tools) + b"]"


def _echo_tool(tool: Tool) -> bytes:
    match tool:
        case HostedTool():
            return tool.raw
        case CustomTool():
            return json_bytes(tool)
        case FunctionTool():
            return b'{"type":"function","name":%b,"description":%b,"parameters":%b,"strict":%b}' % (
                json_bytes(tool.name),
                json_bytes(tool.description),
                b"null" if tool.parameters is None else bytes(tool.parameters),
                json_bytes(tool.strict),
            )


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is `auto`, `none` or `required`; `names` limits the tools that may be called (None: all)."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: frozenset[str] | None = None


def resolve_tool_choice(choice: "str | dict[str, Any] | None", tools: Sequence[Tool]) -> ToolChoice:
    """What `tool_choice` asks for, checked against `tools`. Raises with param `tool_choice`."""
    offered = {tool.name for tool in tools if not isinstance(tool, HostedTool)}
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            if not offered:
                raise InvalidRequest("'tool_choice' is 'required' but no callable tool is given.", param="tool_choice")
            return ToolChoice("required")
        case {"type": "function" | "custom", "name": str(name)}:
            return ToolChoice("required", frozenset([_offered(name, offered)]))
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list()}:
            assert isinstance(choice, dict)  # the pattern says so; not every type checker sees it
            names = frozenset(_offered(name, offered) for name in _names_in(choice["tools"]))
            if mode == "required" and not names:
                raise InvalidRequest("'tool_choice' requires a call but allows no callable tool.", param="tool_choice")
            return ToolChoice(mode, names)
        case {"type": str(kind)} if any(isinstance(tool, HostedTool) and tool.kind == kind for tool in tools):
            raise UnsupportedValue(f"The hosted tool '{kind}' is not served here.", param="tool_choice")
        case _:
            raise InvalidRequest("'tool_choice' is not one of the forms the protocol knows.", param="tool_choice")


def _offered(name: str, offered: set[str]) -> str:
    if name not in offered:
        raise InvalidRequest(f"'tool_choice' names the tool '{name}', which is not in 'tools'.", param="tool_choice")
    return name


def _names_in(entries: list[Any]) -> list[str]:
    """Names of the tools listed; hosted tools have none."""
    names: list[str] = []
    for entry in entries:
        match entry:
            case {"name": str(name)}:
                names.append(name)
            case _:
                pass
    return names
