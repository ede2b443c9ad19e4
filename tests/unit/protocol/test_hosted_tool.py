"""Tools of type `mcp` in a request."""

import json
from typing import Any

import pytest

from hotloop.errors import ApiError
from hotloop.protocol.hosted_tool import ServerTool, server_tool


def tool(**fields: Any) -> ServerTool:
    return server_tool(json.dumps({"type": "mcp", "server_label": "files", **fields}).encode(), "tools[0]")


def test_what_lets_a_client_in_is_neither_echoed_nor_shown() -> None:
    given = tool(
        server_url="https://tools.example.com:8443/mcp/s3cret?key=s3cret",
        authorization="s3cret",
        headers={"X-Team": "s3cret"},
        server_description="files",
    )
    assert given.headers == {"X-Team": "s3cret", "Authorization": "Bearer s3cret"}
    assert json.loads(given.raw) == {
        "type": "mcp",
        "server_label": "files",
        "server_url": "https://tools.example.com:8443/<redacted>",
        "server_description": "files",
    }
    assert "s3cret" not in repr(given) + str(given)


@pytest.mark.parametrize("url", ["https://user:s3cret@x/mcp", "https://[s3cret", "s3cret"])
def test_no_url_is_so_odd_that_it_is_echoed_whole(url: str) -> None:
    assert b"s3cret" not in tool(server_url=url).raw


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"server_label": "a b"}, "tools[0].server_label"),
        ({"server_label": None}, "tools[0].server_label"),
        ({"connector_id": "connector_gmail"}, "tools[0].connector_id"),
        ({"tunnel_id": "t"}, "tools[0].tunnel_id"),
        ({"server_url": 7}, "tools[0].server_url"),
        ({"require_approval": "sometimes"}, "tools[0].require_approval"),
        ({"authorization": "a\r\nX-Evil: 1"}, "tools[0].authorization"),
        ({"headers": {"Host": "evil.example"}}, "tools[0].headers"),
        ({"headers": {"Mcp-Session-Id": "another"}}, "tools[0].headers"),
        ({"headers": {"a": "b\r\nX-Evil: 1"}}, "tools[0].headers[...]"),
        ({"headers": {"Authorization": "a"}, "authorization": "b"}, "tools[0].authorization"),
    ],
)
def test_an_invalid_server_is_refused_with_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        tool(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


def needs(given: ServerTool) -> list[bool]:
    """Of a tool that only reads, of one that writes."""
    return [
        given.needs_approval("read", is_read_only=True),
        given.needs_approval("write", is_read_only=False),
    ]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, [True, True]),
        ("always", [True, True]),
        ("never", [False, False]),
        ({"never": {"tool_names": ["read"]}}, [False, True]),
        ({"never": {"read_only": True}}, [False, True]),
        ({"always": {"tool_names": ["write"]}}, [True, True]),
        ({"always": {"tool_names": ["write"]}, "never": {"read_only": True}}, [False, True]),
        ({"always": {"tool_names": ["read"]}, "never": {"tool_names": ["read", "write"]}}, [True, False]),
        ({"never": {"tool_names": ["write"], "read_only": True}}, [True, True]),
        ({"never": {}}, [True, True]),
        ({}, [True, True]),
    ],
)
def test_a_call_needs_approval_unless_a_filter_says_never(asked: Any, expected: list[bool]) -> None:
    assert needs(tool(require_approval=asked)) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, [True, True]),
        ([], [False, False]),
        (["read"], [True, False]),
        ({"tool_names": ["write"]}, [False, True]),
        ({"read_only": True}, [True, False]),
        ({"read_only": False, "tool_names": ["read", "write"]}, [False, True]),
        ({}, [True, True]),
    ],
)
def test_allowed_tools_are_named_or_described(asked: Any, expected: list[bool]) -> None:
    given = tool(allowed_tools=asked)
    assert [given.offers("read", is_read_only=True), given.offers("write", is_read_only=False)] == expected
