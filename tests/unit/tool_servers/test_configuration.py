"""The file of tool servers."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.scripted_model import scripted_model

from hotloop.app import StartError, build_app
from hotloop.config import ServerSettings
from hotloop.tool_servers.configuration import (
    HttpServer,
    StdioServer,
    ToolSettingsError,
    load_tool_servers,
    tool_servers_of,
)


def test_a_file_names_servers_urls_and_limits(tmp_path: Path) -> None:
    file = tmp_path / "tools.yaml"
    file.write_text(
        "servers:\n"
        "  files: {command: run-files, args: [--root, /srv], env: {KEY: '${SECRET}'}}\n"
        "  wiki: {url: 'https://wiki.example.com/mcp', headers: {Authorization: 'Bearer ${SECRET}'}}\n"
        "allow_urls: ['https://tools.example.com']\n"
        "limits: {call_timeout_s: 5}\n"
    )
    settings = load_tool_servers(file, {"SECRET": "s3"})
    assert settings.servers == {
        "files": StdioServer(command="run-files", args=("--root", "/srv"), env={"KEY": "s3"}),
        "wiki": HttpServer(url="https://wiki.example.com/mcp", headers={"Authorization": "Bearer s3"}),
    }
    assert settings.allowed[0].allows("https://tools.example.com/mcp")
    assert settings.limits.call_timeout_s == 5
    assert "s3" not in repr(settings)


def test_an_empty_file_allows_nothing() -> None:
    settings = tool_servers_of(None, {})
    assert not settings.servers and not settings.allowed


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ([], "$"),
        ({"server": {}}, "server"),
        ({"servers": {"a b": {"command": "x"}}}, "servers"),
        ({"servers": {"a": "x"}}, "$.servers.a"),
        ({"servers": {"a": {"command": "x", "shell": True}}}, "$.servers.a"),
        ({"servers": {"a": {"command": ""}}}, "$.servers.a.command"),
        ({"servers": {"a": {"url": "ftp://x"}}}, "$.servers.a.url"),
        ({"servers": {"a": {"url": "https://x", "headers": {"K": "${NONE}"}}}}, "$.servers.a.headers.K"),
        ({"allow_urls": ["https://x?q=1"]}, "$.allow_urls[0]"),
        ({"limits": {"max_tools": 0}}, "$.limits.max_tools"),
        ({"limits": {"max_tool": 1}}, "$.limits"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(data: Any, named: str) -> None:
    with pytest.raises(ToolSettingsError) as caught:
        tool_servers_of(data, {})
    assert named in str(caught.value)


@pytest.mark.parametrize("content", [b"a: [", b"\xff", b"{"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tools.yaml"
    file.write_bytes(content)
    with pytest.raises(ToolSettingsError, match=r"tools\.yaml"):
        load_tool_servers(file, {})
    with pytest.raises(ToolSettingsError, match=r"none\.yaml"):
        load_tool_servers(tmp_path / "none.yaml", {})


def test_a_file_that_cannot_be_used_keeps_the_server_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "tools.yaml"
    path.write_text("servers: {files: {comand: x}}")
    with pytest.raises(StartError, match=r"tools\.yaml: \$\.servers\.files"):
        build_app(scripted_model(), ServerSettings(port=0, tool_servers=path))
