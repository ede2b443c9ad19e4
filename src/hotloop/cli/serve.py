"""`hotloop serve`: the server on this machine."""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READY_PREFIX = "hotloop: serving "  # the line tools wait for; the URL is its last word


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="serve a model", description="Serve a model over the Responses API.")
    parser.add_argument(
        "--model", type=Path, metavar="FILE.gguf", help="model file; default: the tiny demonstration model"
    )
    parser.add_argument("--model-name", metavar="NAME", help="name clients ask for; default: the file's")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE.json",
        help="the model's tokenizer.json, to encode with the tokenizers library; refused if it gives other ids",
    )
    parser.add_argument(
        "--format", metavar="NAME", help="family that writes conversations, or generic; default: by the chat template"
    )
    parser.add_argument("--engine", choices=("llama", "scripted"), help="default: llama")
    parser.add_argument("--script", type=Path, metavar="FILE", help="what the scripted engine plays")
    parser.add_argument("--host", help="address to listen on; default 127.0.0.1")
    parser.add_argument("--port", type=int, help="default 8000; 0 takes a free one")
    parser.add_argument("--context", type=int, metavar="TOKENS", help="context per chain; default: the model's own")
    parser.add_argument("--sequences", type=int, metavar="N", help="chains in the KV cache at once; default 16")
    parser.add_argument("--threads", type=int, metavar="N", help="engine threads; default: cores - 1")
    parser.add_argument("--allow-origin", action="append", metavar="ORIGIN", help="browser origin that may connect")
    parser.add_argument("--tool-servers", type=Path, metavar="FILE", help="MCP servers that responses may use")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="default info")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal. 0 after a graceful end, 2 if it cannot start."""
    # Imported here: the other commands need not pay for the server.
    import uvloop

    from hotloop.app import StartError, run_server
    from hotloop.cli.log_output import log_to_stderr
    from hotloop.config import ConfigError, load_settings

    try:
        settings = load_settings(os.environ, _flags(arguments))
    except ConfigError as error:
        return _refuse(error)
    log_to_stderr(settings.server.log_level)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    def announce(name: str, url: str) -> None:
        print(f"{READY_PREFIX}{name} at {url}", flush=True)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_server(settings, announce))
    except StartError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        pass  # uvicorn raises the signal again after its graceful end
    return 0


def _flags(arguments: argparse.Namespace) -> Mapping[tuple[str, str], Any]:
    return {
        ("model", "path"): arguments.model,
        ("model", "name"): arguments.model_name,
        ("model", "tokenizer"): arguments.tokenizer,
        ("model", "format"): arguments.format,
        ("model", "engine"): arguments.engine,
        ("model", "script"): arguments.script,
        ("model", "context_tokens"): arguments.context,
        ("model", "sequences"): arguments.sequences,
        ("model", "threads"): arguments.threads,
        ("server", "host"): arguments.host,
        ("server", "port"): arguments.port,
        ("server", "allow_origins"): tuple(arguments.allow_origin) if arguments.allow_origin else None,
        ("server", "tool_servers"): arguments.tool_servers,
        ("server", "log_level"): arguments.log_level,
    }


def _refuse(error: Exception) -> int:
    print(f"hotloop: {error}", file=sys.stderr)
    return 2
