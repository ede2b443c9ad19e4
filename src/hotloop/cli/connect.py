"""`hotloop connect CLIENT`: the configuration with which another client uses a server.

stdout has the configuration alone, so that it can be piped; where it belongs, how it is used and how it is undone is said
on stderr. `--write` puts it in its place.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hotloop.cli.agent import DEFAULT_URL, base_url
from hotloop.cli.client_files import (
    KEY_VARIABLE,
    NAME,
    CannotMerge,
    Endpoint,
    agents_program,
    codex_profile,
    merge_codex,
    merge_opencode,
    opencode_config,
    text_of_opencode,
)
from hotloop.client import AgentError
from hotloop.client.models import first_model

_DONE, _FAILED = 0, 2


@dataclass(frozen=True, slots=True)
class _FileClient:
    """A client with a configuration file."""

    place: Callable[[Mapping[str, str]], Path]
    text: Callable[[Endpoint], str]
    merge: Callable[[str, Endpoint], str]
    use: Callable[[Endpoint], str]


def _codex_file(environment: Mapping[str, str]) -> Path:
    home = environment.get("CODEX_HOME")
    return (Path(home) if home else Path.home() / ".codex") / f"{NAME}.config.toml"


def _opencode_file(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "opencode" / "opencode.json"


_CLIENTS: dict[str, _FileClient] = {
    "codex": _FileClient(_codex_file, codex_profile, merge_codex, lambda _: f"codex --profile {NAME}"),
    "opencode": _FileClient(
        _opencode_file,
        lambda endpoint: text_of_opencode(opencode_config(endpoint)),
        merge_opencode,
        lambda endpoint: f"opencode --model {NAME}/{endpoint.model}",
    ),
}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "connect",
        help="configure another client for a server",
        description="Print, or write, what another client needs to use this server.",
    )
    clients = parser.add_subparsers(metavar="CLIENT", dest="client", required=True)
    for name, about in (
        ("codex", "Codex CLI: a profile of its own, over WebSocket"),
        ("opencode", "opencode: a provider"),
        ("agents", "OpenAI Agents SDK for Python: a program, over WebSocket"),
    ):
        client = clients.add_parser(name, help=about, description=about)
        client.add_argument("--url", type=base_url, default=DEFAULT_URL, help=f"base URL of the server ({DEFAULT_URL})")
        client.add_argument("--model", help="model name (default: the first that the server lists)")
        if name in _CLIENTS:
            client.add_argument("--write", action="store_true", help="merge it into the client's file, with a backup")
        client.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print or write. 0 done, 2 if the server or the file does not allow it."""
    key = os.environ.get(KEY_VARIABLE)
    try:
        model = arguments.model or asyncio.run(first_model(arguments.url, api_key=key))
    except AgentError as error:
        return _refuse(error.message)
    endpoint = Endpoint(arguments.url, model, needs_key=bool(key))
    if endpoint.needs_key:
        _say(f"the client reads the key from {KEY_VARIABLE}, as this command does")
    client = _CLIENTS.get(arguments.client)
    if client is None:
        sys.stdout.write(agents_program(endpoint))
        _say("a whole program; nothing is written, so there is nothing to undo")
        return _DONE
    path = client.place(os.environ)
    if arguments.write:
        return _write(client, path, endpoint)
    sys.stdout.write(client.text(endpoint))
    _say(f"belongs in {path} (--write puts it there); then: {client.use(endpoint)}")
    _say(f"to undo it: take these settings out of {path} again")
    return _DONE


def _write(client: _FileClient, path: Path, endpoint: Endpoint) -> int:
    try:
        old = path.read_bytes().decode() if path.exists() else None
        new = client.merge(old or "", endpoint)
        if new == old:
            _say(f"{path} has it already; {client.use(endpoint)}")
            return _DONE
        undo = f"rm {path}"
        if old is not None:
            backup = _free_name(path)
            _replace(backup, old, mode_of=path)
            undo = f"mv {backup} {path}"
        _replace(path, new, mode_of=path)
    except CannotMerge as error:
        return _refuse(f"{path}: {error}; nothing was written")
    except (OSError, UnicodeDecodeError) as error:
        return _refuse(f"{path}: {error}")
    _say(f"wrote {path}; then: {client.use(endpoint)}")
    _say(f"to undo it: {undo}")
    return _DONE


def _free_name(path: Path) -> Path:
    """A name for a backup that takes no earlier one's place."""
    number = 1
    while (backup := path.with_name(f"{path.name}.backup-{number}")).exists():
        number += 1
    return backup


def _replace(path: Path, text: str, *, mode_of: Path) -> None:
    """Write the whole file or nothing, as open to others as `mode_of` is; a new one to its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.resolve()  # a link into a folder of dotfiles stays a link
    mode = mode_of.stat().st_mode & 0o777 if mode_of.exists() else 0o600
    with tempfile.NamedTemporaryFile("wb", dir=target.parent, delete=False) as file:
        file.write(text.encode())
    os.chmod(file.name, mode)
    os.replace(file.name, target)


def _say(text: str) -> None:
    sys.stderr.write(f"hotloop connect: {text}\n")


def _refuse(text: str) -> int:
    _say(" ".join(text.split()))
    return _FAILED
