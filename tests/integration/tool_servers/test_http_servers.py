"""Servers over HTTP: credentials stay with their request, nothing leads elsewhere, whatever goes wrong is an error."""

import asyncio
import contextlib
import gzip
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.mcp_servers import asked, http_server, stdio

from hotloop.errors import ApiError
from hotloop.seams.hosted_tools import CallOutcome, ToolServerError
from hotloop.tool_servers.configuration import tool_servers_of
from hotloop.tool_servers.servers import McpServers

Answer = Callable[[str, dict[str, str], bytes], Awaitable[bytes]]


@asynccontextmanager
async def mcp_servers(file: dict[str, Any]) -> AsyncGenerator[McpServers]:
    made = McpServers(tool_servers_of(file, {}))
    try:
        yield made
    finally:
        await made.close()


async def test_credentials_of_a_request_reach_its_server_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with http_server() as url, mcp_servers({"allow_urls": [url], "servers": {"both": {"url": url}}}) as made:
        visits = [made.visit() for _ in range(2)]
        servers = [
            asked("mine", server_url=url, authorization=f"s3cret-{number}", headers={"X-Team": f"t{number}"})
            for number in range(2)
        ]
        outcomes = await asyncio.gather(
            *(visit.call(server, "headers", {}) for visit, server in zip(visits, servers, strict=True))
        )
        assert [outcome.output for outcome in outcomes] == ["Bearer s3cret-0 t0", "Bearer s3cret-1 t1"]
        shared = made.visit()
        assert (await shared.call(asked("both"), "headers", {})).output == "None None"
        assert (await shared.call(asked("both", authorization="s3cret-2"), "headers", {})).output == (
            "Bearer s3cret-2 None"
        )
        assert (await made.visit().call(asked("both"), "headers", {})).output == "None None"
        for visit in [*visits, shared]:
            visit.leave()
    assert "s3cret" not in caplog.text


async def test_a_url_that_is_not_on_the_list_is_refused() -> None:
    async with mcp_servers({"allow_urls": ["https://tools.example.com"]}) as made:
        made.check(asked("a", server_url="https://tools.example.com/mcp"), "tools[1]")
        for url in ("https://evil.example/mcp", "http://tools.example.com/mcp", "http://127.0.0.1/mcp", "gopher://x"):
            with pytest.raises(ApiError) as caught:
                made.check(asked("a", server_url=url), "tools[1]")
            assert (caught.value.status, caught.value.param) == (400, "tools[1].server_url")


async def test_without_a_list_every_url_is_refused() -> None:
    async with mcp_servers({"servers": {"a": stdio()}}) as made:
        with pytest.raises(ApiError) as caught:
            made.check(asked("a", server_url="https://tools.example.com/mcp"), "tools[0]")
        assert (caught.value.code, caught.value.param) == ("unsupported_value", "tools[0].server_url")


async def test_a_shared_session_outlives_the_server_it_was_opened_with() -> None:
    async with http_server() as url:
        made = McpServers(tool_servers_of({"servers": {"both": {"url": url}}}, {}))
        visit = made.visit()
        assert (await visit.call(asked("both"), "add", {"a": 1, "b": 1})).output == "2"
    gone = await visit.call(asked("both"), "add", {"a": 1, "b": 1})
    assert gone.error is not None and "cannot be reached" in gone.error["message"]
    port = int(url.split(":")[2].split("/")[0])
    async with http_server(port):
        assert (await visit.call(asked("both"), "add", {"a": 1, "b": 2})).output == "3"
    await made.close()


async def test_sessions_of_single_responses_are_bounded_and_given_back() -> None:
    limits = {"max_sessions": 1, "connect_timeout_s": 3}
    async with http_server() as url, mcp_servers({"allow_urls": [url], "limits": limits}) as made:
        server = asked("mine", server_url=url)
        first, second = made.visit(), made.visit()
        assert (await first.call(server, "add", {"a": 1, "b": 1})).output == "2"
        refused = await second.call(server, "add", {"a": 1, "b": 1})
        assert refused.error is not None and "too many" in refused.error["message"]
        first.leave()
        assert (await second.call(server, "add", {"a": 1, "b": 1})).output == "2"
        second.leave()


def _response(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


JSON = "content-type: application/json"


def _result(request: dict[str, Any], result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request.get("id"), "result": result}).encode()


async def _as_mcp(request: dict[str, Any], call: Callable[[dict[str, Any]], Awaitable[bytes]]) -> bytes:
    """Just enough of a server to get to its call."""
    match request.get("method"):
        case "initialize":
            info = {"name": "raw", "version": "0"}
            result: Any = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            return _response("200 OK", _result(request, result), JSON)
        case "tools/list":
            return _response(
                "200 OK", _result(request, {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}), JSON
            )
        case "tools/call":
            return await call(request)
        case "server/discover":
            return _response("404 Not Found", b"")
        case _:
            return _response("202 Accepted", b"")


@asynccontextmanager
async def raw_server(
    call: Callable[[dict[str, Any]], Awaitable[bytes]], everything: bool = False
) -> AsyncGenerator[str]:
    """A server of bare sockets that answers calls, or everything, with the bytes given."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        # Whoever was told enough goes, in the middle of a message too.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
            request: dict[str, Any] = json.loads(body) if body else {}
            writer.write(await (call(request) if everything else _as_mcp(request, call)))
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    finally:
        server.close()
        await asyncio.gather(*serving)


async def _called(url: str, **limits: float) -> CallOutcome:
    async with mcp_servers({"allow_urls": [url], "limits": limits}) as made:
        visit = made.visit()
        outcome = await visit.call(asked("raw", server_url=url), "t", {})
        visit.leave()
        return outcome


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (_response("401 Unauthorized", b"go away"), "http_error", "401"),
        (_response("500 Internal Server Error", b"oops"), "http_error", "500"),
        (_response("200 OK", b"{ no json", JSON), "mcp_protocol_error", ""),
        (_response("200 OK", b"<html>", "content-type: text/html"), "mcp_protocol_error", "content type"),
        (_response("200 OK", b'"' + b"x" * (9 * 2**20) + b'"', JSON), "mcp_protocol_error", "too long"),
        (_response("200 OK", b"data: x\n\n", "content-type: text/event-stream"), "mcp_protocol_error", ""),
        (
            _response("200 OK", gzip.compress(b"x" * 2**20), JSON, "content-encoding: gzip"),
            "mcp_protocol_error",
            "compresses",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{",
            "mcp_protocol_error",
            "",
        ),
        (b"", "mcp_protocol_error", "cannot be reached"),
        (b"what?\r\n\r\n", "mcp_protocol_error", "cannot be reached"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_of_the_call(answer: bytes, kind: str, words: str) -> None:
    async def call(request: dict[str, Any]) -> bytes:
        return answer

    async with raw_server(call) as url:
        outcome = await _called(url)
    assert outcome.error is not None and outcome.error["type"] == kind and words in outcome.error["message"]


async def test_a_redirect_to_another_host_is_not_followed() -> None:
    reached: list[object] = []

    async def elsewhere(request: dict[str, Any]) -> bytes:
        reached.append(request)
        return _response("200 OK", b"")

    async with raw_server(elsewhere, everything=True) as other:

        async def call(request: dict[str, Any]) -> bytes:
            return _response("307 Temporary Redirect", b"", f"location: {other}")

        async with raw_server(call) as url:
            outcome = await _called(url)
        async with raw_server(call, everything=True) as url, mcp_servers({"allow_urls": [url]}) as made:
            with pytest.raises(ToolServerError):
                await made.visit().list_tools(asked("raw", server_url=url, authorization="s3cret"))
    assert outcome.error is not None and "not followed" in outcome.error["message"]
    assert not reached


async def test_a_server_that_never_answers_is_given_up() -> None:
    over = asyncio.Event()

    async def call(request: dict[str, Any]) -> bytes:
        await over.wait()
        return b""

    async with raw_server(call) as url:
        outcome = await _called(url, call_timeout_s=0.5)
        over.set()
    assert outcome.error is not None and outcome.error["code"] == -32001


async def test_a_server_that_is_not_there_is_said_to_be() -> None:
    async with mcp_servers({"allow_urls": ["http://127.0.0.1:1"]}) as made:
        with pytest.raises(ToolServerError, match="cannot be reached"):
            await made.visit().list_tools(asked("raw", server_url="http://127.0.0.1:1/mcp"))
