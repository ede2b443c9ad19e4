"""The file that says which tool servers there are and which others a request may name (docs/hosted-tools.md)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import yaml
from msgspec import Meta

from hotloop.seams.hosted_tools import ToolLimits
from hotloop.tool_servers.urls import AllowedUrl, UrlProblem

Label = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class ToolSettingsError(Exception):
    """The file cannot be used. One line: the file, the place in it, the reason; no value of it."""


class StdioServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A program that speaks MCP on its standard input and output. It sees the variables in `env` and a few harmless ones."""

    command: Annotated[str, Meta(min_length=1)]
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str | None = None

    def __repr__(self) -> str:
        return f"StdioServer({self.command!r})"


class HttpServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server that speaks streamable HTTP."""

    url: Annotated[str, Meta(min_length=1)]
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return "HttpServer(…)"


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    servers: dict[Label, Any] = {}
    allow_urls: list[str] = []
    limits: ToolLimits = ToolLimits()


class ToolServerSettings(msgspec.Struct, frozen=True):
    """The file, read. `allowed` lists what a request's `server_url` may be."""

    servers: Mapping[str, StdioServer | HttpServer] = {}
    allowed: tuple[AllowedUrl, ...] = ()
    limits: ToolLimits = ToolLimits()


def load_tool_servers(path: Path, environment: Mapping[str, str]) -> ToolServerSettings:
    """Read a YAML or JSON file; `${NAME}` in a value stands for the environment's. Raises ToolSettingsError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ToolSettingsError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except UnicodeDecodeError:
        raise ToolSettingsError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise ToolSettingsError(f"{path}{place}: not YAML: {error.problem or 'cannot be read'}") from None
    except yaml.YAMLError:
        raise ToolSettingsError(f"{path}: not YAML") from None
    return tool_servers_of(data, environment, source=str(path))


def tool_servers_of(
    data: object, environment: Mapping[str, str], *, source: str = "tool servers"
) -> ToolServerSettings:
    """The same from plain objects."""
    file = _converted({} if data is None else data, _File, source, "$")
    _check_limits(file.limits, source)
    servers: dict[str, StdioServer | HttpServer] = {}
    for label, given in file.servers.items():
        place = f"$.servers.{label}"
        kind = StdioServer if isinstance(given, dict) and "command" in given else HttpServer
        server = _converted(_expanded(given, environment, f"{source}: {place}"), kind, source, place)
        if isinstance(server, HttpServer):
            _allowed(server.url, source, f"{place}.url")
        servers[label] = server
    allowed = tuple(_allowed(url, source, f"$.allow_urls[{index}]") for index, url in enumerate(file.allow_urls))
    return ToolServerSettings(servers, allowed, file.limits)


def _converted(value: object, kind: "type[Any]", source: str, place: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise ToolSettingsError(f"{source}: {place}{path.removesuffix('`').removeprefix('$')}: {message}") from None


def _check_limits(limits: ToolLimits, source: str) -> None:
    for name in limits.__struct_fields__:
        if not 0 < getattr(limits, name) < float("inf"):
            raise ToolSettingsError(f"{source}: $.limits.{name}: must be positive")


def _allowed(url: str, source: str, place: str) -> AllowedUrl:
    try:
        return AllowedUrl.parse(url)
    except UrlProblem as problem:
        raise ToolSettingsError(f"{source}: {place}: {problem}") from None


def _expanded(value: Any, environment: Mapping[str, str], place: str) -> Any:
    """The value with the environment's variables in its texts."""

    def found(match: "re.Match[str]") -> str:
        known = environment.get(match[1])
        if known is None:
            raise ToolSettingsError(f"{place}: the environment has no variable {match[1]}")
        return known

    if isinstance(value, str):
        return _VARIABLE.sub(found, value)
    if isinstance(value, list):
        entries = cast("list[object]", value)
        return [_expanded(entry, environment, place) for entry in entries]
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)
        return {key: _expanded(entry, environment, f"{place}.{key}") for key, entry in members.items()}
    return value
