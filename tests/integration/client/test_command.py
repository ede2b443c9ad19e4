"""`hotloop agent exec` as its users meet it: a process with arguments, streams, signals and an exit code."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.integration.client import lifeline
from tests.integration.client.agents import PATIENCE_S
from tests.integration.client.recorded_wire import RecordedWire, Refusal, say, shell, turn

COMMAND = (sys.executable, "-c", "import sys; from hotloop.cli import main; sys.exit(main())", "agent", "exec")


async def start(
    *arguments: str, stdin: int = asyncio.subprocess.DEVNULL, api_key: str = ""
) -> asyncio.subprocess.Process:
    environment: Mapping[str, str] = {**os.environ, "COLUMNS": "80", "HOTLOOP_API_KEY": api_key}
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )


async def run(*arguments: str, api_key: str = "") -> tuple[int | None, str, str]:
    process = await start(*arguments, api_key=api_key)
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("transport", ["ws", "http", "auto"])
async def test_json_gives_a_line_per_step_and_nothing_else(transport: str, tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", "echo hi; exit 3"), engine_s=0.5), turn("r2", say("done"))])
    async with wire.serving():
        code, out, err = await run(
            "go", "--url", wire.url, "--transport", transport, "--yes", "--json", "--cwd", str(tmp_path)
        )
    step, text, last = (json.loads(line) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert (step["step"], step["output"]) == (1, "hi\n[exit code 3]")
    assert step["call"].keys() == {"call_id", "name", "arguments", "state", "seconds"}
    assert step["call"]["state"] == "exit 3"
    assert text == {"step": 2, "text": "done"}
    outcome = last["outcome"]
    assert outcome.keys() == {"status", "text", "error", "turns", "tokens", "seconds", "wire"}
    assert (outcome["status"], outcome["text"], outcome["error"], outcome["turns"]) == ("finished", "done", None, 2)
    assert outcome["tokens"] == {"input": 20, "cached": 10, "output": 6}
    assert outcome["seconds"].keys() == {"total", "server", "tools", "engine", "other"}
    assert outcome["seconds"]["engine"] == 0.5
    assert outcome["wire"]["requests"] == len(wire.received)
    assert wire.creates[0].body["model"] == "tiny"  # the first that the server lists


async def test_a_person_sees_steps_on_stderr_and_the_answer_on_stdout(tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", "echo '\x1b[2J'; false")), turn("r2", say("all \x1b[31mdone"))])
    async with wire.serving():
        code, out, err = await run("go", "--url", wire.url, "--yes", "--cwd", str(tmp_path))
    assert (code, out) == (0, "all \\x1b[31mdone\n")
    step, end = err.splitlines()
    assert step.startswith("● shell echo '\\x1b[2J'; false  exit 1  ")
    assert end.startswith("  finished: 2 turns, 20 tokens in (10 cached), 6 out, ")


async def test_without_a_terminal_and_yes_calls_are_declined_and_it_says_so(tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", "touch made")), turn("r2", say("fine"))])
    async with wire.serving():
        code, _, err = await run("go", "--url", wire.url, "--cwd", str(tmp_path))
    assert code == 0
    assert "--yes" in err.splitlines()[0]
    assert not (tmp_path / "made").exists()
    assert wire.inputs[1][0]["output"] == "error: the user declined this call"


@pytest.mark.parametrize(
    ("answers", "made"), [(b"y\nn\n", ["one"]), (b"a\n", ["one", "two"]), (b"what\nn\ny\n", ["two"]), (b"\x04", [])]
)
async def test_on_a_terminal_each_call_is_asked_for(answers: bytes, made: list[str], tmp_path: Path) -> None:
    calls = [turn("r1", shell("call_1", "touch one")), turn("r2", shell("call_2", "touch two"))]
    wire = RecordedWire([*calls, turn("r3", say("done"))])
    keyboard, terminal = pty.openpty()
    try:
        async with wire.serving():
            process = await start("go", "--url", wire.url, "--cwd", str(tmp_path), stdin=terminal)
            os.write(keyboard, answers if answers != b"\x04" else b"\x04\x04")  # end of input, for each question
            await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert process.returncode == 0
    assert sorted(os.listdir(tmp_path)) == made


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_kills_the_command_with_all_it_started(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", lifeline.COMMAND))])
    async with wire.serving(), lifeline.lifeline(tmp_path) as alive:
        process = await start("go", "--url", wire.url, "--yes", "--json", "--cwd", str(tmp_path))
        assert await asyncio.wait_for(alive.readline(), PATIENCE_S) == b"started\n"
        process.send_signal(sent)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        await asyncio.wait_for(alive.read(), PATIENCE_S)
    assert (process.returncode, err) == (code, b"")
    assert json.loads(out.splitlines()[-1])["outcome"]["status"] == "cancelled"


async def test_ctrl_c_at_the_question_ends_the_run(tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", "true"))])
    keyboard, terminal = pty.openpty()
    try:
        async with wire.serving():
            process = await start("go", "--url", wire.url, "--cwd", str(tmp_path), stdin=terminal)
            assert process.stderr is not None
            await asyncio.wait_for(process.stderr.readuntil(b"always: "), PATIENCE_S)
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert process.returncode == 130


@pytest.mark.parametrize("model", [["--model", "tiny"], []])
@pytest.mark.parametrize("transport", ["ws", "http", "auto"])
async def test_no_server_is_one_line_and_code_2(transport: str, model: list[str]) -> None:
    wire = RecordedWire([])
    async with wire.serving():
        pass  # now the port is known to be free
    code, out, err = await run("go", "--url", wire.url, "--transport", transport, *model)
    assert (code, out) == (2, "")
    assert err.startswith("hotloop agent: cannot connect to " + wire.url) or "\nhotloop agent: cannot connect" in err
    assert "Traceback" not in err


async def test_a_failed_run_is_one_line_and_code_1(tmp_path: Path) -> None:
    wire = RecordedWire([[Refusal(400, "model_not_found", "no such\nmodel")]])
    async with wire.serving():
        code, out, err = await run("go", "--url", wire.url, "--json", "--cwd", str(tmp_path))
    assert (code, err) == (1, "hotloop agent: no such model\n")
    assert json.loads(out)["outcome"]["error"] == {"code": "model_not_found", "message": "no such\nmodel"}


async def test_limits_end_the_run_with_code_1(tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", "true"))])
    async with wire.serving():
        code, _, err = await run("go", "--url", wire.url, "--yes", "--max-turns", "1", "--cwd", str(tmp_path))
    assert code == 1
    assert err.splitlines()[-1] == "hotloop agent: stopped after 1 turns without an end (--max-turns)"


async def test_the_time_limit_kills_what_runs(tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", "sleep 1000"))])
    async with wire.serving():
        code, out, err = await run("go", "--url", wire.url, "--yes", "--json", "--timeout", "2", "--cwd", str(tmp_path))
    assert (code, err) == (1, "hotloop agent: stopped after 2 s (--timeout)\n")
    assert json.loads(out.splitlines()[-1])["outcome"]["status"] == "timeout"


async def test_the_key_comes_from_the_environment(tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", say("ok"))])
    async with wire.serving():
        await run("go", "--url", wire.url, "--cwd", str(tmp_path), api_key="s3cret")
    assert wire.creates[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["go", "--url", "ftp://x"],
        ["go", "--url", "nonsense"],
        ["go", "--cwd", "/no/such"],
        ["go", "--max-turns", "0"],
    ],
)
async def test_bad_usage_is_code_2(arguments: list[Any]) -> None:
    code, out, err = await run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: ")


async def test_agent_alone_prints_its_usage() -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND[:-1], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"usage: ")


async def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path: Path) -> None:
    wire = RecordedWire([turn("r1", shell("call_1", "true")), turn("r2", say("done"))])
    read_end, write_end = os.pipe()
    os.close(read_end)
    async with wire.serving():
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "go",
            "--url",
            wire.url,
            "--yes",
            "--json",
            cwd=tmp_path,
            stdout=write_end,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(write_end)
        _, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert (process.returncode, err) == (1, b"")
