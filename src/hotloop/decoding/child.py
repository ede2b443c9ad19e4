"""The process in which long messages are read.

    python -P -m hotloop.decoding.child PARENT_PID MEMORY_BYTES

On standard input: the byte of its form (`hotloop.decoding.forms`), an 8-byte little-endian length, the message. On standard
output: `ready` once, then an answer to each message (`hotloop.decoding.answer`).
"""

import gc
import struct
import sys

from hotloop.decoding.answer import Answer, line_of
from hotloop.decoding.forms import answer_to
from hotloop.processes.confinement import confine

HEAD = struct.Struct("<cQ")


def main() -> None:
    """Entry of the child process."""
    parent_pid, memory_bytes = map(int, sys.argv[1:])
    if not confine(parent_pid, memory_bytes):
        return
    gc.disable()  # a message may be millions of objects to walk
    _say(b"ready\n", [])
    while head := sys.stdin.buffer.read(HEAD.size):
        form, size = HEAD.unpack(head)
        answer, rest = _answer(size, form)
        _say(line_of(answer), rest)
        del answer, rest
        gc.collect()  # a refusal's traceback holds what was read


def _answer(size: int, form: bytes) -> tuple[Answer, list[bytes]]:
    try:
        return answer_to(sys.stdin.buffer.read(size), form)
    except MemoryError:
        return Answer(is_exhausted=True), []
    except Exception:  # whatever it is, the server has another way
        return Answer(is_failed=True), []


def _say(line: bytes, rest: list[bytes]) -> None:
    for part in (line, *rest):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
