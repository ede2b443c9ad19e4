"""One exact replacement in one file, all or nothing.

Models write LF; a file whose lines all end in CRLF is matched and written as if they had written CRLF.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from hotloop.client.contract import (
    EDIT_AMBIGUOUS,
    EDIT_CREATED,
    EDIT_DONE,
    EDIT_EXISTS,
    EDIT_NO_FILE,
    EDIT_NOT_FOUND,
    EDIT_OUTSIDE,
)

MAX_FILE_BYTES = 16 * 1024 * 1024  # beyond that it is data, not text that a model edits


class EditRefused(Exception):
    """Nothing was changed; the message is for the model."""


def apply_edit(cwd: Path, path: str, old: str, new: str) -> str:
    """Replace the only occurrence of `old` in the file by `new`; with an empty `old`, create the file.

    Returns:
        what the model reads.

    Raises:
        EditRefused: with the reason; the file is as it was.
    """
    try:
        target = _inside(cwd, path)
        if not old:
            return _create(target, path, new)
        return _replace(target, path, old, new)
    except OSError as error:
        raise EditRefused(f"error: {path}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:  # JSON can spell halves of characters, files cannot hold them
        raise EditRefused(f"error: {path}: the text is not valid Unicode") from error


def _inside(cwd: Path, path: str) -> Path:
    """The real file behind the path, links followed; it must lie in the working directory."""
    root = cwd.resolve()
    try:
        target = (root / path).resolve()
    except (ValueError, RuntimeError) as error:  # a NUL character; a loop of links
        raise EditRefused(f"error: {path!r} is not a path") from error
    if not target.is_relative_to(root):
        raise EditRefused(EDIT_OUTSIDE.format(path=path))
    return target


def _create(target: Path, path: str, text: str) -> str:
    if target.exists():
        raise EditRefused(EDIT_EXISTS.format(path=path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise EditRefused(f"error: {path}: part of this path is a file") from error
    _write(target, text.encode(), mode=None)
    return EDIT_CREATED.format(path=path)


def _replace(target: Path, path: str, old: str, new: str) -> str:
    text, mode = _read(target, path)
    if _is_crlf(text):
        old, new = _to_crlf(old), _to_crlf(new)
    count = _count(text, old)
    if count == 0:
        raise EditRefused(EDIT_NOT_FOUND.format(path=path))
    if count > 1:
        raise EditRefused(EDIT_AMBIGUOUS.format(path=path, count=count))
    _write(target, text.replace(old, new, 1).encode(), mode=mode)
    return EDIT_DONE.format(path=path)


def _read(target: Path, path: str) -> tuple[str, int]:
    if not target.exists():
        raise EditRefused(EDIT_NO_FILE.format(path=path))
    if not target.is_file():
        raise EditRefused(f"error: {path} is not a file")
    status = target.stat()
    if status.st_size > MAX_FILE_BYTES:
        raise EditRefused(f"error: {path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return target.read_bytes().decode(), stat.S_IMODE(status.st_mode)
    except UnicodeDecodeError as error:
        raise EditRefused(f"error: {path} is not UTF-8 text") from error


def _write(target: Path, data: bytes, *, mode: int | None) -> None:
    """Put a whole new file in the place of the old one, with the old one's mode if there is one."""
    draft = target.with_name(f".{secrets.token_hex(8)}.tmp")  # beside it: only then is the rename atomic
    try:
        with draft.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data)
        draft.replace(target)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _is_crlf(text: str) -> bool:
    return "\r\n" in text and text.count("\n") == text.count("\r\n")


def _to_crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _count(text: str, part: str) -> int:
    """Occurrences, overlapping ones too: each would be a possible place."""
    count, start = 0, text.find(part)
    while start >= 0:
        count, start = count + 1, text.find(part, start + 1)
    return count
