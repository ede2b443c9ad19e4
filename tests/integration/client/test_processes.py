"""Commands as real processes: what they print, how they end, and that nothing of them is left."""

import asyncio
import os
from pathlib import Path

import pytest
from tests.integration.client import lifeline
from tests.integration.client.agents import PATIENCE_S

from hotloop.client.process import CommandResult, run_command


async def run(command: str, cwd: Path, timeout_s: float = PATIENCE_S) -> CommandResult:
    return await asyncio.wait_for(run_command(command, cwd=cwd, timeout_s=timeout_s), PATIENCE_S)


async def test_stdout_and_stderr_come_in_the_order_they_were_written(tmp_path: Path) -> None:
    assert await run("echo 1; echo 2 >&2; echo 3; exit 7", tmp_path) == CommandResult("1\n2\n3", 0, 7)


async def test_the_command_runs_in_its_directory_and_reads_nothing(tmp_path: Path) -> None:
    assert (await run("pwd; cat", tmp_path)).output == str(tmp_path)


async def test_death_by_a_signal_reads_as_in_a_shell(tmp_path: Path) -> None:
    assert (await run("kill -TERM $$", tmp_path)).exit_code == 128 + 15


async def test_a_flood_is_drained_and_only_its_ends_are_kept(tmp_path: Path) -> None:
    result = await run("echo begin; head -c 3000000 /dev/zero | tr '\\0' x; echo end", tmp_path)
    assert len(result.output) + result.dropped_chars == len("begin\n") + 3_000_000 + len("end")
    assert result.output.startswith("begin\nx")
    assert result.output.endswith("xend")
    assert len(result.output) == 2 * 65_536


async def test_the_timeout_kills_the_whole_group_and_keeps_the_output(tmp_path: Path) -> None:
    async with lifeline.lifeline(tmp_path) as alive:
        result = await run(f"echo before; {lifeline.COMMAND}", tmp_path, timeout_s=2.0)
        await asyncio.wait_for(alive.read(), PATIENCE_S)
    assert result == CommandResult("before", 0, None)


async def test_what_a_command_leaves_behind_is_killed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.client.process._DRAIN_S", 1000.0)  # waiting for it would outlast the test
    async with lifeline.lifeline(tmp_path) as alive:
        result = await run("exec 3>lifeline; sleep 1000 & echo done", tmp_path)
        await asyncio.wait_for(alive.read(), PATIENCE_S)
    assert result == CommandResult("done", 0, 0)


async def test_a_daemon_that_keeps_the_pipe_open_does_not_hold_up_the_result(tmp_path: Path) -> None:
    (tmp_path / "pid").touch()
    result = await run(
        "setsid sh -c 'echo $$ > pid; exec sleep 1000' & while [ ! -s pid ]; do :; done; echo done", tmp_path
    )
    os.kill(int((tmp_path / "pid").read_text()), 9)  # it left the group: out of reach for the tool, not for the test
    assert result == CommandResult("done", 0, 0)


@pytest.mark.parametrize("ticks", range(0, 24, 2))
async def test_cancelled_at_any_moment_nothing_survives(ticks: int, tmp_path: Path) -> None:
    async with lifeline.lifeline(tmp_path) as alive:
        command = asyncio.create_task(run_command(lifeline.COMMAND, cwd=tmp_path, timeout_s=PATIENCE_S))
        for _ in range(ticks):
            await asyncio.sleep(0)
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
        await asyncio.wait_for(lifeline.end(alive, tmp_path), PATIENCE_S)
