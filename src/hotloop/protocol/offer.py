"""What a model is offered of a request's tools, and which of them it may call (docs/protocol.md §4.6).

A model knows functions by name. What the protocol tells apart beyond that is undone and redone here: a namespace becomes
part of the name, a tool with item types of its own becomes a function.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from hotloop.errors import InvalidRequest, SchemaTooComplex, UnsupportedValue
from hotloop.protocol.hosted_items import ListedTool, hosted_name
from hotloop.protocol.hosted_tool import ServerTool
from hotloop.protocol.tools import MAX_TOOLS, CustomTool, FunctionTool, HostedTool, NamespaceTool, Tool, TypedTool

_PLAIN_NAMESPACE = "functions"  # the one that models write without its name; Codex puts its own tools there


def flat_name(name: str, namespace: str | None) -> str:
    """The name a model knows a tool by."""
    if namespace is None or namespace == _PLAIN_NAMESPACE:
        return name
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


@dataclass(frozen=True, slots=True)
class CallTarget:
    """How a call of an offered function looks on the wire: in a namespace, or an item of the type that `kind` stands for."""

    name: str
    namespace: str | None = None
    kind: str = ""  # of the typed tool; empty: a function or custom call
    is_async: bool = False  # the client goes on without the output, and gives it when it has it
    server: str = ""  # label of the server that has the tool: the call is run here
    needs_approval: bool = False  # and first asked about


@dataclass(frozen=True, slots=True)
class Offer:
    """Tools as a model sees them. `places` are the fields they came from, `targets` the calls that are more than a name."""

    tools: tuple[FunctionTool | CustomTool, ...] = ()
    places: tuple[str, ...] = ()
    targets: Mapping[str, CallTarget] = field(default_factory=dict[str, CallTarget])
    hosted: frozenset[str] = frozenset()  # types that were asked for and are not offered
    servers: frozenset[str] = frozenset()  # labels of the tool servers that were named

    @property
    def server_tools(self) -> frozenset[str]:
        """Names of the tools whose calls are run here."""
        return frozenset(name for name, target in self.targets.items() if target.server)

    @property
    def names(self) -> frozenset[str]:
        """Names of the tools, as the model knows them."""
        return frozenset(tool.name for tool in self.tools)

    def named(self, kind: str) -> str | None:
        """The function that stands for a tool type."""
        return next((name for name, target in self.targets.items() if target.kind == kind), None)


def offer_of(
    tools: Sequence[Tool],
    added: Sequence[Sequence[Tool]] = (),
    listed: Mapping[str, Sequence[ListedTool]] = MappingProxyType({}),
) -> Offer:
    """The tools of a request and those that its chain has `added`; a later definition of a name takes the earlier's place.

    `listed` are the tools of the servers that the request names, by label, as far as they are known; theirs are names that
    no other tool has. Tools that wait to be found by a search are left out, if there is a search. Raises InvalidRequest where
    two tools of one array cannot be told apart.
    """
    offered: dict[str, _Offered] = {}
    hosted: set[str] = set()
    searches = any(isinstance(tool, TypedTool) and tool.kind == "tool_search" for tool in tools)
    for number, array in enumerate((tools, *added)):
        place = "tools" if number == 0 else "input.tools"
        offered |= _offered(array, place, hosted, leaves_out=searches and number == 0)
    servers = [(index, tool) for index, tool in enumerate(tools) if isinstance(tool, ServerTool)]
    for index, server in servers:
        _add_server(offered, server, listed.get(server.label, ()), f"tools[{index}]")
    if len(offered) > MAX_TOOLS:
        raise SchemaTooComplex(f"The request offers more than {MAX_TOOLS} tools.", param="tools")
    return Offer(
        tools=tuple(one.tool for one in offered.values()),
        places=tuple(one.place for one in offered.values()),
        targets={name: one.target for name, one in offered.items() if one.target is not None},
        hosted=frozenset(hosted),
        servers=frozenset(server.label for _, server in servers),
    )


def _add_server(offered: "dict[str, _Offered]", server: ServerTool, tools: Sequence[ListedTool], place: str) -> None:
    for tool in tools:
        if not server.offers(tool.name, is_read_only=tool.is_read_only):
            continue
        name = base = hosted_name(server.label, tool.name)
        number = 2
        while name in offered:
            name, number = f"{base}_{number}", number + 1
        needs_approval = server.needs_approval(tool.name, is_read_only=tool.is_read_only)
        target = CallTarget(tool.name, server=server.label, needs_approval=needs_approval)
        offered[name] = _Offered(_function_of(name, server, tool), place, target)


def _function_of(name: str, server: ServerTool, tool: ListedTool) -> FunctionTool:
    """Not strict: what servers call a schema, no grammar may know."""
    described = [text for text in (tool.description, server.description) if text]
    return FunctionTool(
        name=name, description="\n\n".join(described) or None, parameters=tool.input_schema, strict=False
    )


@dataclass(frozen=True, slots=True)
class _Offered:
    tool: FunctionTool | CustomTool
    place: str
    target: CallTarget | None = None


def _offered(tools: Sequence[Tool], place: str, hosted: set[str], *, leaves_out: bool) -> dict[str, _Offered]:
    found: dict[str, _Offered] = {}

    def add(one: _Offered) -> None:
        if leaves_out and one.tool.is_deferred:
            return
        if one.tool.name in found:
            raise InvalidRequest(f"Two tools are called '{one.tool.name}'.", param=f"{one.place}.name")
        found[one.tool.name] = one

    for index, tool in enumerate(tools):
        at = f"{place}[{index}]"
        match tool:
            case TypedTool():
                add(_Offered(tool.function, at, CallTarget(tool.function.name, kind=tool.kind)))
            case NamespaceTool():
                for number, member in enumerate(tool.members):
                    if not isinstance(member, HostedTool):
                        add(_member(member, tool.name, f"{at}.tools[{number}]"))
            case ServerTool():
                pass  # its own tools are offered, once they are known
            case HostedTool():
                hosted.add(tool.kind)
            case _:
                add(_Offered(tool, at, CallTarget(tool.name, is_async=True) if tool.is_async else None))
    return found


def _member(tool: FunctionTool | CustomTool, namespace: str, place: str) -> _Offered:
    named = msgspec.structs.replace(tool, name=flat_name(tool.name, namespace))
    return _Offered(named, place, CallTarget(tool.name, namespace, is_async=tool.is_async is True))


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`mode` is `auto`, `none` or `required`; `names` limits the tools that may be called (None: all)."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: frozenset[str] | None = None


def resolve_tool_choice(choice: "str | dict[str, Any] | None", offer: Offer) -> ToolChoice:
    """What `tool_choice` asks for, checked against what is offered. Raises with param `tool_choice`."""
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            if not offer.tools:
                raise InvalidRequest("'tool_choice' is 'required' but no callable tool is given.", param="tool_choice")
            return ToolChoice("required")
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list()}:
            assert isinstance(choice, dict)  # the pattern says so; not every type checker sees it
            names = frozenset(name for entry in choice["tools"] for name in _names_of(entry, offer))
            if mode == "required" and not names:
                raise InvalidRequest("'tool_choice' requires a call but allows no callable tool.", param="tool_choice")
            return ToolChoice(mode, names)
        case {"type": "function" | "custom", "name": str()}:
            return ToolChoice("required", frozenset(_names_of(choice, offer)))
        case {"type": "mcp", "server_label": str()}:
            return ToolChoice("required", frozenset(_names_of(choice, offer)))
        case {"type": str(kind)}:
            name = offer.named(kind)
            if name is not None:
                return ToolChoice("required", frozenset([name]))
            if kind in offer.hosted:
                raise UnsupportedValue(f"The hosted tool '{kind}' is not served here.", param="tool_choice")
            if kind not in ("allowed_tools", "function", "custom"):
                raise _not_offered(kind)
        case _:
            pass
    raise InvalidRequest("'tool_choice' is not one of the forms the protocol knows.", param="tool_choice")


def _names_of(entry: object, offer: Offer) -> list[str]:
    """The offered tools that an entry of `tool_choice` means; a hosted tool is none. Raises for one that is not offered."""
    match entry:
        case {"type": "mcp", "server_label": str(label), "name": str(name)}:
            return _names_on(label, name, offer)
        case {"type": "mcp", "server_label": str(label)}:
            return _names_on(label, None, offer)
        case {"type": "namespace", "name": str(namespace)}:
            return [name for name, target in offer.targets.items() if target.namespace == namespace]
        case {"name": str(name), "namespace": str(namespace)}:
            return [_checked(flat_name(name, namespace), name, offer)]
        case {"name": str(name)}:
            return [_checked(name, name, offer)]
        case {"type": str(kind)}:
            typed = offer.named(kind)
            return [] if typed is None else [typed]
        case _:
            return []


def _names_on(label: str, name: str | None, offer: Offer) -> list[str]:
    on_server = {flat: target.name for flat, target in offer.targets.items() if target.server == label}
    found = [flat for flat, known in on_server.items() if name is None or known == name]
    if not found:
        what = f"the server '{label}'" if name is None else f"a tool of the server '{label}'"
        raise InvalidRequest(f"'tool_choice' names {what}, which 'tools' does not offer.", param="tool_choice")
    return found


def _checked(flat: str, name: str, offer: Offer) -> str:
    if flat in offer.names:
        return flat
    # Without its namespace a tool may be named where only one has the name.
    meant = [
        known for known, target in offer.targets.items() if target.name == name and not (target.kind or target.server)
    ]
    if flat == name and len(meant) == 1:
        return meant[0]
    raise _not_offered(name)


def _not_offered(name: str) -> InvalidRequest:
    return InvalidRequest(f"'tool_choice' names the tool '{name}', which is not in 'tools'.", param="tool_choice")
