"""What the model may do: run a command, edit a file. A tool turns arguments into an invocation; running it is separate,
so that a person can be asked in between.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from hotloop.client.contract import EDIT, OUTPUT_LIMIT_CHARS, SHELL, shell_result, shell_timeout
from hotloop.client.edit import EditRefused, apply_edit
from hotloop.client.process import CommandResult, run_command

COMMAND_TIMEOUT_S = 120.0


class BadArguments(Exception):
    """The model's arguments do not fit the tool; the message is for the model."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`output` is what the model reads, `state` one or two words for people."""

    output: str
    state: str = "ok"


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call that could be run.

    Attributes:
        summary: what it would do, for the person who is asked; complete, since approval rests on it.
        run: does it, once. Cancelling it leaves nothing running.
    """

    summary: str
    run: Callable[[], Awaitable[ToolResult]]


class Tool(Protocol):
    """Something the model can call.

    `spec` is the definition as it goes over the wire, with `name`. A call of a tool that is not `parallel` waits for
    all calls before it in the same response and holds up those after it.
    """

    @property
    def spec(self) -> Mapping[str, Any]: ...

    @property
    def parallel(self) -> bool: ...

    def prepare(self, arguments: str) -> Invocation:
        """Check the arguments, a JSON text. Raises `BadArguments`; must not do anything yet."""
        ...


class _ShellArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    command: str


class _EditArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    old: str
    new: str


_Arguments = TypeVar("_Arguments", bound=msgspec.Struct)


class ShellTool:
    """Runs a command with bash (sh where there is none) in its own process group, without input.

    Args:
        cwd: working directory of every command.
        timeout_s: a command that takes longer is killed, with all it started.
    """

    spec: Mapping[str, Any] = SHELL
    parallel = True  # the model asked for them at once

    def __init__(self, cwd: Path, *, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
        self._cwd = cwd
        self._timeout_s = timeout_s

    def prepare(self, arguments: str) -> Invocation:
        command = _decode(arguments, _ShellArguments).command
        if "\0" in command:
            raise BadArguments("the command contains a NUL character")
        return Invocation(command, lambda: self._run(command))

    async def _run(self, command: str) -> ToolResult:
        try:
            result = await run_command(command, cwd=self._cwd, timeout_s=self._timeout_s)
        except (OSError, UnicodeEncodeError) as error:  # too long for the system, no such directory, half a character
            return ToolResult(f"error: cannot run this command: {error}", "error")
        if result.exit_code is None:
            text = _true_count(shell_timeout(result.output, self._timeout_s), result)
            return ToolResult(text, "timeout")
        text = _true_count(shell_result(result.output, result.exit_code), result)
        return ToolResult(text, f"exit {result.exit_code}" if result.exit_code else "ok")


class EditTool:
    """Replaces a passage of a file inside the working directory, or creates a file."""

    spec: Mapping[str, Any] = EDIT
    parallel = False  # commands around it may read the file

    def __init__(self, cwd: Path) -> None:
        self._cwd = cwd

    def prepare(self, arguments: str) -> Invocation:
        edit = _decode(arguments, _EditArguments)
        return Invocation(_edit_summary(edit), lambda: self._run(edit))

    async def _run(self, edit: _EditArguments) -> ToolResult:
        try:
            # A file can be large and a disk slow. A thread cannot be cancelled, but the write is atomic.
            return ToolResult(await asyncio.to_thread(apply_edit, self._cwd, edit.path, edit.old, edit.new))
        except EditRefused as error:
            return ToolResult(str(error), "refused")


def _decode(arguments: str, kind: type[_Arguments]) -> _Arguments:
    try:
        return msgspec.json.decode(arguments, type=kind)
    except msgspec.ValidationError as error:
        raise BadArguments(f"the arguments do not fit: {error}") from error
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadArguments(f"the arguments are not JSON: {error}") from error


def _edit_summary(edit: _EditArguments) -> str:
    path = shlex.quote(edit.path)
    if not edit.old:
        return f"create {path}:\n{edit.new}"
    return f"replace in {path}:\n{edit.old}\n--- by ---\n{edit.new}"


def _true_count(text: str, result: CommandResult) -> str:
    """Correct the number of characters left out: the contract saw only what was kept of a very long output."""
    if not result.dropped_chars:
        return text
    half = OUTPUT_LIMIT_CHARS // 2
    seen = len(result.output) - 2 * half
    return text[:half] + text[half:].replace(str(seen), str(seen + result.dropped_chars), 1)
