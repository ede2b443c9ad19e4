"""Servers on stdio, real processes: shared, restarted, stopped, and whatever they may do wrong."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.mcp_servers import asked, stdio

from hotloop.errors import ApiError
from hotloop.seams.hosted_tools import ToolServerError, ToolVisit
from hotloop.tool_servers.configuration import tool_servers_of
from hotloop.tool_servers.servers import McpServers
from hotloop.tool_servers.shared_session import FIRST_PAUSE_S, MAX_TIMEOUTS

HONEST = asked("honest")
ROGUE = asked("rogue")


@asynccontextmanager
async def servers(entries: dict[str, Any], clock: Any = None, **limits: float) -> AsyncGenerator[McpServers]:
    made = McpServers(
        tool_servers_of({"servers": entries, "limits": limits}, {}), **({} if clock is None else {"clock": clock})
    )
    try:
        yield made
    finally:
        await made.close()


async def pid_of(visit: ToolVisit) -> int:
    outcome = await visit.call(HONEST, "process", {})
    assert outcome.output is not None, outcome
    return int(outcome.output.split()[0])


async def test_all_responses_share_one_process_and_it_ends_with_the_server() -> None:
    async with servers({"honest": stdio()}) as made:
        visits = [made.visit() for _ in range(3)]
        pids = await asyncio.gather(*map(pid_of, visits))
        assert len(set(pids)) == 1
        for visit in visits:
            visit.leave()
        assert await pid_of(made.visit()) == pids[0]
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


async def test_a_server_sees_what_it_was_given_of_the_environment_and_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOTLOOP_API_KEY", "s3cret")
    async with servers({"honest": stdio(env={"GIVEN": "yes"})}) as made:
        outcome = await made.visit().call(HONEST, "process", {})
        assert outcome.output is not None and outcome.output.split()[1:] == ["yes", "None"]


async def test_a_server_that_died_is_started_again() -> None:
    async with servers({"honest": stdio()}) as made:
        visit = made.visit()
        first = await pid_of(visit)
        died = await visit.call(HONEST, "die", {})
        assert died.error is not None and died.error["type"] == "mcp_protocol_error"
        assert await pid_of(visit) != first


async def test_a_server_that_cannot_be_started_is_tried_again_later_and_later() -> None:
    now = [0.0]
    async with servers({"rogue": stdio("rogue", "stillborn")}, clock=lambda: now[0]) as made:
        visit = made.visit()

        async def problem() -> str:
            with pytest.raises(ToolServerError) as caught:
                await visit.list_tools(ROGUE)
            return str(caught.value)

        assert "Connection closed" in await problem()
        assert "Connection closed" in await problem()  # the first time at once
        assert "tried again soon" in await problem()
        now[0] += FIRST_PAUSE_S
        assert "Connection closed" in await problem()
        now[0] += FIRST_PAUSE_S
        assert "tried again soon" in await problem()
        now[0] += FIRST_PAUSE_S
        assert "Connection closed" in await problem()


async def test_a_program_that_is_not_there_is_said_to_be() -> None:
    async with servers({"rogue": {"command": "/nowhere/at-all"}}) as made:
        with pytest.raises(ToolServerError, match="cannot be started"):
            await made.visit().list_tools(ROGUE)


async def test_a_call_that_is_given_up_is_stopped_and_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "told"
    async with servers({"honest": stdio()}) as made:
        visit = made.visit()
        first = await pid_of(visit)
        waiting = asyncio.create_task(visit.call(HONEST, "wait", {"path": str(path)}))
        while not path.exists():
            await pid_of(visit)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while path.read_text() != "begun\nstopped\n":
            assert await pid_of(visit) == first


async def test_a_server_that_is_hung_gets_a_new_session() -> None:
    async with servers({"rogue": stdio("rogue", "mute")}, call_timeout_s=0.05) as made:
        visit = made.visit()
        sessions = set[object]()
        for _ in range(MAX_TIMEOUTS + 1):
            assert (await visit.call(ROGUE, "t", {})).error is not None
            sessions.add(made._shared["rogue"]._session)
        assert len(sessions - {None}) == 2


async def test_shutting_down_waits_for_no_server_that_does_not_start() -> None:
    made = McpServers(tool_servers_of({"servers": {"rogue": stdio("rogue", "silent")}}, {}))
    opening = asyncio.create_task(made.visit().list_tools(ROGUE))
    for _ in range(3):  # steps up to where it waits
        await asyncio.sleep(0)
    assert made._shared["rogue"]._opening is not None
    async with asyncio.timeout(15):  # of 20 that it has to start
        await made.close()
    with pytest.raises(ToolServerError):
        await opening


async def test_a_server_that_ignores_its_end_is_killed() -> None:
    async with servers({"rogue": stdio("rogue", "stubborn")}) as made:
        assert len(await made.visit().list_tools(ROGUE)) == 1


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("silent", "did not answer within"),
        ("garbage", "did not answer within"),
        ("old", "handshake"),
        ("stillborn", "Connection closed"),
        ("listless", "did not list its tools within"),
        ("wordy", "did not list its tools within"),
        ("endless", "schema_too_complex.*pages"),
        ("many", "schema_too_complex.*more than 256 tools"),
        ("monstrous", "schema_too_complex.*bytes"),
    ],
)
async def test_a_server_without_a_usable_list_is_a_problem_with_a_reason(mode: str, problem: str) -> None:
    limits = {"connect_timeout_s": 0.5 if mode in ("silent", "garbage") else 20, "list_timeout_s": 0.5}
    limits = {**limits, "list_timeout_s": 0.5 if mode in ("listless", "wordy") else 20}
    async with servers({"rogue": stdio("rogue", mode)}, **limits) as made:
        with pytest.raises(ToolServerError, match=problem):
            await made.visit().list_tools(ROGUE)


@pytest.mark.parametrize(
    ("mode", "error"),
    [
        ("die", {"type": "mcp_protocol_error", "code": -32000, "message": "Connection closed"}),
        ("flood", {"type": "mcp_protocol_error", "code": -32000, "message": "Connection closed"}),
        ("refuse", {"type": "mcp_protocol_error", "code": -32602, "message": "not like this"}),
        (
            "nonsense",
            {
                "type": "mcp_protocol_error",
                "code": -32000,
                "message": "the server's answer is not a result of a tool",
            },
        ),
        (
            "mute",
            {"type": "mcp_protocol_error", "code": -32001, "message": "the server did not answer within 0.5 s"},
        ),
        (
            "greeting",
            {"type": "mcp_protocol_error", "code": -32001, "message": "the server did not answer within 0.5 s"},
        ),
    ],
)
async def test_a_call_of_a_server_that_misbehaves_ends_with_an_error(mode: str, error: dict[str, Any]) -> None:
    timeout_s = 0.5 if mode in ("mute", "greeting") else 60
    async with servers({"rogue": stdio("rogue", mode)}, call_timeout_s=timeout_s) as made:
        visit = made.visit()
        assert len(await visit.list_tools(ROGUE)) == 1
        assert (await visit.call(ROGUE, "t", {})).error == error


async def test_an_output_that_is_too_long_is_an_error_that_says_so() -> None:
    async with servers({"honest": stdio()}, max_output_bytes=1000) as made:
        visit = made.visit()
        assert (await visit.call(HONEST, "huge", {"size": 1000})).output == "x" * 1000
        outcome = await visit.call(HONEST, "huge", {"size": 1001})
        assert outcome.error is not None and "1001 bytes" in outcome.error["message"]


async def test_a_configured_program_takes_no_credentials_of_a_request() -> None:
    async with servers({"honest": stdio()}) as made:
        with pytest.raises(ApiError) as caught:
            made.check(asked("honest", authorization="token"), "tools[0]")
        assert caught.value.param == "tools[0].authorization"
