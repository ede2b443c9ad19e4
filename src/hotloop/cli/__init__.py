"""The `hotloop` command."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from hotloop import __version__

_COMMANDS = ("serve", "agent", "connect", "bench", "demo", "keys")  # a module each, in the order of `--help`


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="hotloop", description="A Responses API server for agent loops that keeps every conversation hot."
    )
    parser.add_argument("--version", action="version", version=f"hotloop {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # A command loads its own module only: all of them take three times as long as an agent needs to start.
    for name in set(_COMMANDS) & set(given[:1]) or _COMMANDS:
        import_module(f"hotloop.cli.{name}").add_parser(commands)
    arguments = parser.parse_args(given)
    code: int = arguments.run(arguments)
    return code
