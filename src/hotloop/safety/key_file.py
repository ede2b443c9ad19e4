"""The file that holds the sealing keys: one key a line in base64, newest first, readable by its owner alone.

Every process of a server reads the same file. Lines may be removed to retire keys; `#` begins a comment.
"""

import base64
import binascii
import contextlib
import os
import secrets
import stat
from pathlib import Path

from hotloop.safety.sealing import KEY_BYTES, KeyRing, new_key


class KeyFileError(Exception):
    """The file cannot be used. One line that names it and says why."""


def key_ring(path: Path) -> KeyRing:
    """The ring of the keys in the file, which is made with a first key if it is not there. Raises KeyFileError."""
    keys = _read_or_make(path)

    def read_again() -> list[bytes]:
        with contextlib.suppress(KeyFileError):
            return _read(path)
        return keys

    return KeyRing(keys, read_again)


def rotate(path: Path, *, keep: int) -> int:
    """Put a new key first and keep the newest `keep` of the others; returns how many were retired. Raises KeyFileError."""
    keys = _read_or_make(path)
    kept = [new_key(), *keys[:keep]]
    try:
        _replace(path, kept)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    return len(keys) + 1 - len(kept)


def _read_or_make(path: Path) -> list[bytes]:
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make(path)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    return _read(path)


def _make(path: Path) -> None:
    """Whoever is first makes the file; the others find it whole."""
    written = _written_beside(path, [new_key()])
    try:
        with contextlib.suppress(FileExistsError):
            os.link(written, path)
    finally:
        written.unlink()


def _replace(path: Path, keys: list[bytes]) -> None:
    _written_beside(path, keys).replace(path)


def _written_beside(path: Path, keys: list[bytes]) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"# hotloop: keys that seal reasoning and compaction items, newest first. Keep them secret.\n")
        file.writelines(base64.b64encode(key) + b"\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return beside


def _read(path: Path) -> list[bytes]:
    try:
        mode = path.stat().st_mode
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"{path}: others may read or change it; give it mode 600 (chmod 600)")
    keys = [_key(path, number, line) for number, line in enumerate(lines, 1) if line.strip() and line[:1] != b"#"]
    if not keys:
        raise KeyFileError(f"{path}: no key in it; remove the file to have a new one made")
    return keys


def _key(path: Path, number: int, line: bytes) -> bytes:
    try:
        key = base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}:{number}: not a key: {KEY_BYTES} bytes in base64 are")
    return key
