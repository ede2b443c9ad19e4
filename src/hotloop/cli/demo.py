"""`hotloop demo`: an agent repairs a small repository, over WebSocket and over HTTP; a table says where the time went."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hotloop.cli.demo_repository import TASK, tests_pass, write_repository
from hotloop.cli.local_server import LocalServer, ServerDidNotStart, local_server
from hotloop.client import (
    Agent,
    AgentError,
    EditTool,
    HttpTransport,
    Limits,
    Outcome,
    ShellTool,
    Transport,
    WebSocketTransport,
    approve_all,
)
from hotloop.client.progress import CallFinished, CallStarted, Message, Progress, Resent

RUN_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class _Way:
    title: str
    transport: Callable[[str], Transport]


WAYS = (
    _Way("WebSocket, new items only", WebSocketTransport),
    _Way("HTTP, full history each turn", HttpTransport),
)


@dataclass(frozen=True, slots=True)
class _Result:
    way: _Way
    outcome: Outcome
    bytes_out: int
    repaired: bool


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("demo", help="watch an agent repair a repository, and where its time goes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 only if every repaired repository passes its tests."""
    console = Console(highlight=False)
    try:
        results = [_repair(console, way) for way in WAYS]
    except (ServerDidNotStart, AgentError, TimeoutError) as error:
        print(f"hotloop: the demo failed: {error or 'it took too long'}", file=sys.stderr)
        return 1
    console.print(_table(results))
    console.print(
        "[dim]A fresh server for each column. The engine keeps the longest known prefix in both, so what differs is what "
        "travels, is parsed, rendered and tokenized. Decode speed is the demonstration model's on this machine.[/]"
    )
    return 0 if all(result.repaired for result in results) else 1


def _repair(console: Console, way: _Way) -> _Result:
    console.rule(way.title)
    with local_server() as server, tempfile.TemporaryDirectory(prefix="hotloop-demo-") as folder:
        path = Path(folder)
        write_repository(path)
        console.print(f"[bold]hotloop[/] serves [bold]{server.model}[/] at {server.url}")
        console.print(f"[dim]{path}[/]  task: {TASK}")
        outcome, bytes_out = asyncio.run(_run_agent(console, server, way, path))
        repaired = tests_pass(path)
    console.print("[green]the repository's tests pass[/]" if repaired else "[red]the repository's tests still fail[/]")
    return _Result(way, outcome, bytes_out, repaired)


async def _run_agent(console: Console, server: LocalServer, way: _Way, folder: Path) -> tuple[Outcome, int]:
    transport = way.transport(server.url)
    agent = Agent(
        transport,
        model=server.model,
        tools=[ShellTool(folder), EditTool(folder)],
        approve=approve_all,
        on_progress=lambda progress: _show(console, progress),
        limits=Limits(max_turns=20, max_output_tokens=1000),
    )
    async with agent, asyncio.timeout(RUN_TIMEOUT_S):
        outcome = await agent.run(TASK)
    return outcome, transport.traffic.bytes_out


def _show(console: Console, progress: Progress) -> None:
    match progress:
        case CallStarted():
            summary = " ".join(progress.summary.split())
            console.print(f"  [cyan]{progress.name}[/] {escape(summary)}", end="", soft_wrap=True)
        case CallFinished():
            console.print(f"  [dim]{progress.state}, {progress.seconds * 1e3:.0f} ms[/]")
        case Message():
            console.print(f"  [bold]{escape(progress.text)}[/]")
        case Resent():
            console.print(f"  [yellow]sent again: {progress.reason}[/]")
        case _:
            pass


def _table(results: list[_Result]) -> Table:
    table = Table(title="Where the time went")
    for column in ("", *(result.way.title for result in results)):
        table.add_column(column, justify="left" if not column else "right")
    rows: tuple[tuple[str, Callable[[_Result], str]], ...] = (
        ("turns", lambda result: str(result.outcome.spent.turns)),
        ("prompt tokens, all turns", lambda result: f"{result.outcome.spent.input_tokens:,}"),
        ("of them cached by the engine", lambda result: f"{result.outcome.spent.cached_tokens:,}"),
        ("output tokens", lambda result: f"{result.outcome.spent.output_tokens:,}"),
        ("kB sent to the server", lambda result: f"{result.bytes_out / 1e3:.1f}"),
        ("seconds in total", lambda result: f"{result.outcome.spent.total_s:.3f}"),
        ("  in the engine", lambda result: _seconds(result.outcome.spent.engine_s)),
        ("  in tools", lambda result: f"{result.outcome.spent.tools_s:.3f}"),
        ("  in everything else", lambda result: _seconds(result.outcome.spent.other_s)),
    )
    for label, read in rows:
        table.add_row(label, *(read(result) for result in results))
    return table


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
