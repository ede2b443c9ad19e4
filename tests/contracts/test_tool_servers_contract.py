"""What `seams/hosted_tools.py` promises, of functions in this process and of real MCP servers over both transports."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from tests.support.mcp_servers import asked, http_server, stdio

from hotloop.errors import ApiError
from hotloop.protocol.hosted_tool import ServerTool
from hotloop.seams.hosted_tools import OfferedTool, ToolServers
from hotloop.tool_servers.configuration import tool_servers_of
from hotloop.tool_servers.local import LocalServers
from hotloop.tool_servers.servers import McpServers

Made = tuple[ToolServers, ServerTool]


async def _add(arguments: Mapping[str, Any]) -> str:
    return str(arguments["a"] + arguments["b"])


async def _fail(arguments: Mapping[str, Any]) -> str:
    raise ValueError(arguments["reason"])


@asynccontextmanager
async def local() -> AsyncGenerator[Made]:
    read_only = {"readOnlyHint": True}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    tools = [
        (OfferedTool("add", "Add two numbers.", schema, read_only), _add),
        (OfferedTool("fail", "Fail.", {"type": "object"}), _fail),
    ]
    yield LocalServers({"honest": tools}), asked("honest")


@asynccontextmanager
async def over_stdio() -> AsyncGenerator[Made]:
    yield McpServers(tool_servers_of({"servers": {"honest": stdio()}}, {})), asked("honest")


@asynccontextmanager
async def over_http() -> AsyncGenerator[Made]:
    async with http_server() as url:
        yield McpServers(tool_servers_of({"servers": {"honest": {"url": url}}}, {})), asked("honest")


@asynccontextmanager
async def by_url() -> AsyncGenerator[Made]:
    async with http_server() as url:
        yield McpServers(tool_servers_of({"allow_urls": [url]}, {})), asked("mine", server_url=url)


KINDS: list[Callable[[], AbstractAsyncContextManager[Made]]] = [local, over_stdio, over_http, by_url]


@pytest.mark.parametrize("make", KINDS)
async def test_a_server_is_listed_and_called(make: Callable[[], AbstractAsyncContextManager[Made]]) -> None:
    async with make() as (servers, server):
        servers.check(server, "tools[0]")
        visit = servers.visit()
        tools = {tool.name: tool for tool in await visit.list_tools(server)}
        assert tools["add"].input_schema["properties"]["a"]["type"] == "integer"
        assert tools["add"].annotations is not None and tools["add"].annotations["readOnlyHint"] is True
        assert (await visit.call(server, "add", {"a": 1, "b": 2})).output == "3"
        failed = await visit.call(server, "fail", {"reason": "no"})
        assert failed.output is None and failed.error is not None
        assert failed.error["type"] == "mcp_tool_execution_error"
        assert (await visit.call(server, "nowhere", {})).error is not None
        visit.leave()
        visit.leave()
        await servers.close()
        await servers.close()


@pytest.mark.parametrize("make", KINDS)
async def test_a_label_that_nobody_configured_is_refused(
    make: Callable[[], AbstractAsyncContextManager[Made]],
) -> None:
    async with make() as (servers, _):
        with pytest.raises(ApiError) as caught:
            servers.check(asked("nobody"), "tools[2]")
        assert caught.value.param == "tools[2].server_label"
        await servers.close()
