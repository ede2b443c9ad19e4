"""`hotloop keys`: the keys that seal what clients carry."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("keys", help="the keys for sealed content", description="Keys for sealed content.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    rotate = actions.add_parser("rotate", help="seal with a new key from now on")
    rotate.add_argument("--file", type=Path, metavar="FILE", help="default: the file that `hotloop serve` uses")
    rotate.add_argument(
        "--keep", type=int, default=4, metavar="N", help="older keys whose content can still be opened; default 4"
    )
    rotate.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Rotate. 0 when done, 2 with the reason on stderr."""
    from hotloop.app import SEAL_KEYS
    from hotloop.config import ConfigError, load_settings
    from hotloop.safety.key_file import KeyFileError, rotate

    try:
        server = load_settings(os.environ, {}).server
        folder = server.state_folder
        path = arguments.file or server.seal_keys or (folder / SEAL_KEYS if folder is not None else None)
        if path is None:
            raise ConfigError("no key file: give --file FILE or HOTLOOP_SEAL_KEYS")
        if arguments.keep < 0:
            raise ConfigError("--keep must not be negative")
        retired = rotate(path, keep=arguments.keep)
    except (ConfigError, KeyFileError) as error:
        print(f"hotloop: {error}", file=sys.stderr)
        return 2
    # A running process looks into the file when it meets a key it does not know, and seals with the new one from its start.
    print(f"{path}: a new key is first, {retired} retired; running servers seal with it once they are restarted")
    return 0
