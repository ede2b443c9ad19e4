"""`hotloop agent exec TASK`: the agent loop as a command, for people and for scripts.

Exit codes: 0 finished · 1 the run failed or was stopped · 2 bad usage or no connection · 130 Ctrl-C · 143 SIGTERM.
"""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

from hotloop.cli.agent_view import Asker, View, complaint, make_view, visible
from hotloop.client import (
    Agent,
    AgentError,
    CannotConnect,
    EditTool,
    HttpTransport,
    Limits,
    ShellTool,
    Transport,
    WebSocketTransport,
    approve_all,
)
from hotloop.client.models import first_model

DEFAULT_URL = "http://127.0.0.1:8000/v1"
_FINISHED, _FAILED, _NO_CONNECTION, _BAD_USAGE, _INTERRUPTED, _TERMINATED = 0, 1, 2, 2, 130, 143

_JSON_HELP = """\
with --json, stdout carries one object per line:
  {"step": 1, "call": {"call_id", "name", "arguments", "state", "seconds"}, "output": "what the model read"}
  {"step": 2, "text": "what the model said"}
  {"outcome": {"status", "text", "error", "turns", "tokens", "seconds", "wire"}}   always the last line of a run
status is finished, max_turns, repeated_call, failed, timeout or cancelled.
"""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `agent` to the command line."""
    agent = commands.add_parser("agent", help="work on a task with a model and tools")

    def print_usage(_: argparse.Namespace) -> int:
        agent.print_usage(sys.stderr)
        return _BAD_USAGE

    agent.set_defaults(run=print_usage)
    exec_parser = agent.add_subparsers(metavar="COMMAND").add_parser(
        "exec",
        help="work on one task and exit",
        description="Give a model a task, a shell and an editor; run what it asks for until it is done.",
        epilog=_JSON_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(exec_parser)
    exec_parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `hotloop agent exec`; returns the exit code."""
    code = _FAILED
    try:
        code = _run_until_signal(arguments)
    except* BrokenPipeError:  # whoever read stdout has gone, as `head` does; so must this, quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run_until_signal(arguments: argparse.Namespace) -> int:
    try:
        return asyncio.run(_exec(arguments))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except asyncio.CancelledError:
        return _TERMINATED


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="what the model is to do")
    parser.add_argument("--url", type=base_url, default=DEFAULT_URL, help=f"base URL of the server ({DEFAULT_URL})")
    parser.add_argument("--model", help="model name (default: the first that the server lists)")
    parser.add_argument(
        "--transport",
        choices=("auto", "ws", "http"),
        default="auto",
        help="ws sends only what is new, http the whole history; auto is ws, and http where ws is blocked (auto)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout, see below")
    parser.add_argument("--yes", action="store_true", help="run every call without asking")
    parser.add_argument("--cwd", type=_directory, default=Path(), help="working directory of the tools (.)")
    parser.add_argument(
        "--api-key", default=os.environ.get("HOTLOOP_API_KEY"), help="bearer token (environment: HOTLOOP_API_KEY)"
    )
    parser.add_argument("--max-turns", type=_positive, default=Limits().max_turns, help="stop after so many responses")
    parser.add_argument("--max-output-tokens", type=_positive, help="limit of each response")
    parser.add_argument("--timeout", type=float, metavar="S", help="stop the run after so many seconds")


def base_url(text: str) -> str:
    """An argument that must be a base URL of a server."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https URL")
    return text


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a directory")
    return Path(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


async def _exec(arguments: argparse.Namespace) -> int:
    _cancel_on_sigterm()
    view = make_view(as_json=arguments.json)
    try:
        agent = await _make_agent(arguments, view)
    except AgentError as error:
        return _complain(error.message, _NO_CONNECTION if isinstance(error, CannotConnect) else _FAILED)
    async with agent:
        return await _run(agent, arguments.task, view, timeout_s=arguments.timeout)


def _cancel_on_sigterm() -> None:
    """SIGTERM ends the run as Ctrl-C does: otherwise a running command would outlive it."""
    task = asyncio.current_task()
    assert task is not None, "called outside a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _make_agent(arguments: argparse.Namespace, view: View) -> Agent:
    url, api_key, cwd = arguments.url, arguments.api_key, arguments.cwd
    model = arguments.model or await first_model(url, api_key=api_key)
    transport, fallback = _transports(arguments.transport, url, api_key)
    return Agent(
        transport,
        fallback=fallback,
        model=model,
        tools=[ShellTool(cwd), EditTool(cwd)],
        approve=approve_all if arguments.yes else Asker(sys.stdin, sys.stderr),
        on_progress=view.show,
        limits=Limits(max_turns=arguments.max_turns, max_output_tokens=arguments.max_output_tokens),
    )


def _transports(kind: str, url: str, api_key: str | None) -> tuple[Transport, Transport | None]:
    match kind:
        case "http":
            return HttpTransport(url, api_key=api_key), None
        case "ws":
            return WebSocketTransport(url, api_key=api_key), None
        case _:
            return WebSocketTransport(url, api_key=api_key), HttpTransport(url, api_key=api_key)


async def _run(agent: Agent, task: str, view: View, *, timeout_s: float | None) -> int:
    try:
        async with asyncio.timeout(timeout_s):
            outcome = await agent.run(task)
    except AgentError as error:
        view.end("failed", text="", error=error, spent=agent.spent, counters=agent.counters)
        return _complain(error.message, _NO_CONNECTION if isinstance(error, CannotConnect) else _FAILED)
    except TimeoutError:
        view.end("timeout", text="", error=None, spent=agent.spent, counters=agent.counters)
        return _complain(f"stopped after {timeout_s:g} s (--timeout)", _FAILED)
    except asyncio.CancelledError:
        view.end("cancelled", text="", error=None, spent=agent.spent, counters=agent.counters)
        raise
    view.end(outcome.status, text=outcome.text, error=None, spent=outcome.spent, counters=agent.counters)
    reason = complaint(outcome)
    return _FINISHED if reason is None else _complain(reason, _FAILED)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"hotloop agent: {visible(' '.join(message.split()))}\n")
    return code
