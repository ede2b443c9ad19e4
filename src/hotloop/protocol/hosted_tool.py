"""Tools that this server runs: `type: mcp`, a server with tools of its own (docs/protocol.md §4.6).

What a client shows a server to be let in leaves this process only towards that server: never in an echo, a log or a key.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hotloop.errors import InvalidRequest, UnsupportedParameter
from hotloop.protocol.decoding import decode_as
from hotloop.protocol.wire import json_bytes


class HostedTool(msgspec.Struct, frozen=True):
    """A tool type this server does not render; `raw` is its JSON, echoed as given."""

    kind: str
    raw: bytes


class ToolFilter(msgspec.Struct, frozen=True):
    """Tools by name, or by what the server says of them. Without any member it matches nothing."""

    tool_names: frozenset[str] | None = None
    read_only: bool | None = None

    def matches(self, name: str, *, is_read_only: bool) -> bool:
        """Every member that is there agrees."""
        if self.tool_names is None and self.read_only is None:
            return False
        return (self.tool_names is None or name in self.tool_names) and (
            self.read_only is None or self.read_only == is_read_only
        )


class _Approval(msgspec.Struct, frozen=True):
    always: ToolFilter | None = None
    never: ToolFilter | None = None


class ServerTool(HostedTool, frozen=True):
    """An MCP server. `raw` is what of its JSON may be shown; without a `url` the configuration knows it by its label."""

    label: str
    url: str | None
    description: str | None = None
    allowed: ToolFilter | None = None  # None: all of its tools
    approval: _Approval | None = None  # None: never
    headers: Mapping[str, str] = {}  # authorization included

    def __repr__(self) -> str:
        return f"ServerTool({self.label!r})"

    def offers(self, name: str, *, is_read_only: bool) -> bool:
        """The request lets the model have this tool."""
        return self.allowed is None or self.allowed.matches(name, is_read_only=is_read_only)

    def needs_approval(self, name: str, *, is_read_only: bool) -> bool:
        """A call of this tool waits for the client's consent. What no filter names does."""
        if self.approval is None:
            return False
        never = self.approval.never
        return (
            never is None or not never.matches(name, is_read_only=is_read_only) or self._is_always(name, is_read_only)
        )

    def _is_always(self, name: str, is_read_only: bool) -> bool:
        always = self.approval.always if self.approval is not None else None
        return always is not None and always.matches(name, is_read_only=is_read_only)


class _ServerWire(msgspec.Struct, frozen=True, kw_only=True):
    server_label: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
    server_url: Annotated[str, Meta(max_length=2048)] | None = None
    server_description: Annotated[str, Meta(max_length=4096)] | None = None
    connector_id: Any = None
    tunnel_id: Any = None
    allowed_tools: list[str] | ToolFilter | None = None
    require_approval: Literal["always", "never"] | _Approval | None = None
    authorization: Annotated[str, Meta(min_length=1, max_length=16384, pattern=r"^[!-~ ]+$")] | None = None
    headers: (
        dict[
            Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")],
            Annotated[str, Meta(max_length=16384, pattern=r"^[\t -~]*$")],
        ]
        | None
    ) = None


_decoder = msgspec.json.Decoder(_ServerWire)
_fields_decoder = msgspec.json.Decoder(dict[str, Any])
_SECRET = ("authorization", "headers")
# The connection's own business, or what would let a client speak for another.
_RESERVED_HEADERS = frozenset(
    ("host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "upgrade", "te", "trailer")
)
_NEVER = ToolFilter()


def server_tool(raw: bytes, param: str) -> ServerTool:
    """A tool of type `mcp`. Raises the ApiError that names the field."""
    wire = decode_as(_decoder, raw, param)
    for name in ("connector_id", "tunnel_id"):
        if getattr(wire, name) is not None:
            raise UnsupportedParameter(
                f"'{name}' names a service of OpenAI's; give the server's own 'server_url'.", param=f"{param}.{name}"
            )
    return ServerTool(
        "mcp",
        _shown(raw, wire, param),
        label=wire.server_label,
        url=wire.server_url,
        description=wire.server_description,
        allowed=_filter(wire.allowed_tools),
        approval=_approval(wire.require_approval),
        headers=_headers(wire, param),
    )


def _filter(allowed: "list[str] | ToolFilter | None") -> ToolFilter | None:
    if isinstance(allowed, list):
        return ToolFilter(frozenset(allowed))
    return None if allowed == _NEVER else allowed


def _approval(asked: "str | _Approval | None") -> _Approval | None:
    if asked == "never":
        return None
    return asked if isinstance(asked, _Approval) else _Approval()


def _headers(wire: _ServerWire, param: str) -> Mapping[str, str]:
    given = wire.headers or {}
    for name in given:
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith(("mcp-", "proxy-")):
            raise InvalidRequest(f"The header '{name}' cannot be set.", param=f"{param}.headers")
    if wire.authorization is None:
        return given
    if any(name.lower() == "authorization" for name in given):
        raise InvalidRequest(
            "Give either 'authorization' or an Authorization header, not both.", param=f"{param}.authorization"
        )
    return {**given, "Authorization": f"Bearer {wire.authorization}"}


def _shown(raw: bytes, wire: _ServerWire, param: str) -> bytes:
    """The tool as the response echoes it: without secrets, the URL up to its host, for a path may hold a key."""
    fields = decode_as(_fields_decoder, raw, param)
    shown = {key: value for key, value in fields.items() if key not in _SECRET}
    if wire.server_url is not None:
        shown["server_url"] = shown_url(wire.server_url)
    return json_bytes(shown)


def shown_url(url: str) -> str:
    """A URL's scheme, host and port."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "<redacted>"
    rest = "/<redacted>" if parts.path.strip("/") or parts.query or parts.fragment else ""
    return f"{parts.scheme}://{host}{rest}"


def item_without_secrets(raw: bytes) -> bytes:
    """An item that brings tools, without what servers among them are shown to be let in: items stay with their chain."""
    if b"mcp" not in raw:
        return raw
    try:
        fields = _fields_decoder.decode(raw)
        return json_bytes({**fields, "tools": _tools_without_secrets(fields["tools"])})
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError):
        return raw  # nothing that has tools


def _tools_without_secrets(tools: list[Any]) -> list[Any]:
    return [_tool_without_secrets(cast("dict[str, Any]", tool)) if isinstance(tool, dict) else tool for tool in tools]


def _tool_without_secrets(tool: dict[str, Any]) -> dict[str, Any]:
    if isinstance(tool.get("tools"), list):
        return {**tool, "tools": _tools_without_secrets(tool["tools"])}
    if tool.get("type") != "mcp":
        return tool
    url = tool.get("server_url")
    shown = {key: value for key, value in tool.items() if key not in _SECRET}
    return {**shown, "server_url": shown_url(url)} if isinstance(url, str) else shown
