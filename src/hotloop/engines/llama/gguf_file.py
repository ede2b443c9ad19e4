"""Says in one line why a path is no GGUF file, before llama.cpp is asked."""

import os
import stat

from hotloop.engines.llama.faults import ModelFileError

MAGIC = b"GGUF"
HEADER_BYTES = 24  # magic, version, tensor count, metadata count


def check_header(path: str) -> None:
    """Raises ModelFileError for what is missing, unreadable, no file, too short or no GGUF."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            raise ModelFileError(path, "not a file")
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
    except FileNotFoundError as error:
        raise ModelFileError(path, "no such file") from error
    except OSError as error:
        raise ModelFileError(path, (error.strerror or str(error)).lower()) from error
    if not header:
        raise ModelFileError(path, "the file is empty")
    if not header.startswith(MAGIC):
        raise ModelFileError(path, "not a GGUF file")
    if len(header) < HEADER_BYTES:
        raise ModelFileError(path, "truncated: the header is incomplete")
