"""The `hotloop` command."""

import argparse
from collections.abc import Sequence

from hotloop import __version__
from hotloop.cli import agent, bench, connect, demo, keys, serve


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="hotloop", description="A Responses API server for agent loops that keeps every conversation hot."
    )
    parser.add_argument("--version", action="version", version=f"hotloop {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (serve, agent, connect, bench, demo, keys):
        module.add_parser(commands)
    arguments = parser.parse_args(argv)
    code: int = arguments.run(arguments)
    return code
