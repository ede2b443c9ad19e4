"""What the model reads after a tool has run: exactly the contract's texts."""

import asyncio
import json
from pathlib import Path

import pytest
from tests.integration.client.agents import PATIENCE_S

from hotloop.client.contract import shell_result, shell_timeout
from hotloop.client.tools import EditTool, ShellTool, ToolResult


async def shell(command: str, cwd: Path, timeout_s: float = PATIENCE_S) -> ToolResult:
    invocation = ShellTool(cwd, timeout_s=timeout_s).prepare(json.dumps({"command": command}))
    return await asyncio.wait_for(invocation.run(), PATIENCE_S)


@pytest.mark.parametrize(
    ("command", "output", "code"),
    [("true", "", 0), ("false", "", 1), ("printf 'a\\n\\nb\\n\\n'", "a\n\nb\n\n", 0), ("echo no; exit 2", "no\n", 2)],
)
async def test_a_command_reads_as_the_contract_says(command: str, output: str, code: int, tmp_path: Path) -> None:
    result = await shell(command, tmp_path)
    assert result == ToolResult(shell_result(output, code), f"exit {code}" if code else "ok")


@pytest.mark.parametrize("size", [3_999, 4_000, 4_001, 131_072, 131_073, 1_234_567])
async def test_a_long_output_reads_as_if_all_of_it_had_been_kept(size: int, tmp_path: Path) -> None:
    whole = "".join(f"{number % 10}" for number in range(size))
    (tmp_path / "long").write_text(whole)
    assert (await shell("cat long; echo; exit 1", tmp_path)).output == shell_result(whole + "\n", 1)


async def test_a_timeout_reads_as_the_contract_says(tmp_path: Path) -> None:
    assert await shell("echo so far; sleep 1000", tmp_path, timeout_s=2.0) == ToolResult(
        shell_timeout("so far\n", 2.0), "timeout"
    )


async def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    assert (await shell("true", tmp_path / "gone")).output.startswith("error: cannot run this command: ")


async def test_the_edit_tool_says_what_it_would_do_then_does_it(tmp_path: Path) -> None:
    invocation = EditTool(tmp_path).prepare('{"path":"f","old":"","new":"text\\n"}')
    assert invocation.summary == "create f:\ntext\n"
    assert not (tmp_path / "f").exists()
    assert await invocation.run() == ToolResult("created f", "ok")
    again = await invocation.run()
    assert again == ToolResult("error: f exists, quote the text to replace", "refused")
    assert EditTool(tmp_path).prepare('{"path":"f","old":"a","new":"b"}').summary == "replace in f:\na\n--- by ---\nb"
