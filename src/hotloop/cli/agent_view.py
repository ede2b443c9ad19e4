"""How a run looks: lines for people, or one JSON object per line for programs; and how a person is asked.

Whatever the model or a command wrote may hold control characters. None reaches the terminal: they could hide what is
about to be run.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.text import Text as RichText

from hotloop.client import AgentError, Call, Invocation, Outcome, Spent
from hotloop.client.link import LinkCounters
from hotloop.client.progress import CallFinished, CallStarted, Message, Progress, Resent, Text

_HIDDEN = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # C0, DEL, C1, bidi
_VISIBLE = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _HIDDEN if chr(code) not in "\n\t"}
_GOOD_STATES = {"ok"}


def visible(text: str) -> str:
    """The text with every character that a terminal would obey spelled out."""
    return text.translate(_VISIBLE)


class View(Protocol):
    """Shows a run as it goes."""

    def show(self, progress: Progress) -> None: ...

    def end(self, status: str, *, text: str, error: AgentError | None, spent: Spent, counters: LinkCounters) -> None:
        """Show how the run ended: an outcome's status, or `failed`, `timeout`, `cancelled`."""
        ...


class TerminalView:
    """Steps as one line each on stderr, the model's words on stdout as they come."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._steps = Console(file=err, highlight=False, markup=False, soft_wrap=False)
        self._open_line = False

    def show(self, progress: Progress) -> None:
        match progress:
            case Text(delta):
                self._write(visible(delta))
            case Message():
                self._end_line()
            case CallStarted():
                self._end_line()
            case CallFinished():
                self._end_line()
                self._steps.print(self._step(progress))
            case Resent(reason):
                self._end_line()
                self._steps.print(RichText(f"  connection: {visible(reason)}, going on", style="yellow"))

    def end(self, status: str, *, text: str, error: AgentError | None, spent: Spent, counters: LinkCounters) -> None:
        self._end_line()
        self._steps.print(RichText(f"  {status}: {summary_of(spent)}", style="dim"))

    def _step(self, call: CallFinished) -> RichText:
        style = "green" if call.state in _GOOD_STATES else "red"
        tail = f"  {visible(call.state)}  {call.seconds:.2f} s"
        head = RichText(f"● {visible(call.name)} ", style="bold")
        what = RichText(visible(call.summary).replace("\n", "⏎"))
        what.truncate(max(8, self._steps.width - head.cell_len - len(tail)), overflow="ellipsis")
        return head + what + RichText(tail, style=style)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self._open_line = not text.endswith("\n") if text else self._open_line

    def _end_line(self) -> None:
        if self._open_line:
            self._write("\n")


class JsonView:
    """One object per line: `{"step", "call", "output"}`, `{"step", "text"}`, at last `{"outcome"}`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._step = 0

    def show(self, progress: Progress) -> None:
        match progress:
            case CallFinished():
                call = {
                    "call_id": progress.call_id,
                    "name": progress.name,
                    "arguments": progress.arguments,
                    "state": progress.state,
                    "seconds": progress.seconds,
                }
                self._next_step(call=call, output=progress.output)
            case Message(text):
                self._next_step(text=text)
            case Text() | CallStarted() | Resent():
                pass

    def end(self, status: str, *, text: str, error: AgentError | None, spent: Spent, counters: LinkCounters) -> None:
        self._line(
            outcome={
                "status": status,
                "text": text,
                "error": {"code": error.code, "message": error.message} if error else None,
                "turns": spent.turns,
                "tokens": {
                    "input": spent.input_tokens,
                    "cached": spent.cached_tokens,
                    "output": spent.output_tokens,
                },
                "seconds": {
                    "total": spent.total_s,
                    "server": spent.server_s,
                    "tools": spent.tools_s,
                    "engine": spent.engine_s,
                    "other": spent.other_s,
                },
                "wire": asdict(counters),
            }
        )

    def _next_step(self, **fields: Any) -> None:
        self._step += 1
        self._line(step=self._step, **fields)

    def _line(self, **fields: Any) -> None:
        self._out.write(json.dumps(fields) + "\n")  # ASCII only: safe for any reader and terminal
        self._out.flush()


def summary_of(spent: Spent) -> str:
    """Turns, tokens and seconds in one line."""
    engine = "" if spent.engine_s is None else f", engine {spent.engine_s:.2f} s"
    return (
        f"{spent.turns} turns, {spent.input_tokens} tokens in ({spent.cached_tokens} cached), "
        f"{spent.output_tokens} out, {spent.total_s:.2f} s (tools {spent.tools_s:.2f} s{engine})"
    )


def complaint(outcome: Outcome) -> str | None:
    """Why a run that ended without an error is no success all the same; None if it is one."""
    match outcome.status:
        case "finished":
            return None
        case "max_turns":
            return f"stopped after {outcome.spent.turns} turns without an end (--max-turns)"
        case "repeated_call":
            return "stopped: the model makes the same call over and over"


class Asker:
    """Asks a person before each call: y, n, or a for always. One question at a time."""

    def __init__(self, keys: TextIO, screen: TextIO) -> None:
        self._keys = keys
        self._screen = screen
        self._always = False
        self._explained = False
        self._lock = asyncio.Lock()

    async def __call__(self, call: Call, invocation: Invocation) -> bool:
        async with self._lock:
            return self._always or await self._ask(call, invocation)

    async def _ask(self, call: Call, invocation: Invocation) -> bool:
        if not self._keys.isatty():
            self._explain()
            return False
        console = Console(file=self._screen, highlight=False, markup=False)
        console.print(RichText(f"\n{visible(call.name)}", style="bold yellow"))
        console.print(RichText(visible(invocation.summary)))
        while True:
            console.print("run it? y = yes, n = no, a = always: ", end="")
            match (await _read_line(self._keys)).strip().lower():
                case "y" | "yes":
                    return True
                case "a" | "always":
                    self._always = True
                    return True
                case "n" | "no" | "":
                    return False
                case _:
                    pass

    def _explain(self) -> None:
        if not self._explained:
            self._explained = True
            self._screen.write("hotloop agent: no terminal to ask on, so calls are declined; --yes runs them unasked\n")


async def _read_line(keys: TextIO) -> str:
    """A line from a terminal, without a thread: one that waits for keys could not be ended by Ctrl-C."""
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(keys.fileno(), typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(keys.fileno())
    return os.read(keys.fileno(), 4096).decode(errors="replace")


def make_view(*, as_json: bool) -> View:
    """The view that the flags ask for, on the process's own streams."""
    return JsonView(sys.stdout) if as_json else TerminalView(sys.stdout, sys.stderr)
