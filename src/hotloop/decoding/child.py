"""The process in which long messages are read.

    python -P -m hotloop.decoding.child PARENT_PID MEMORY_BYTES

On standard input: a byte (`E`vent or `B`ody), an 8-byte little-endian length, the message. On standard output: `ready` once,
then an answer to each message (`hotloop.decoding.answer`).
"""

import gc
import struct
import sys

from hotloop.decoding.answer import Answer, answer_to, line_of
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
        kind, size = HEAD.unpack(head)
        answer, rest = _answer(size, is_event=kind == b"E")
        _say(line_of(answer), rest)
        del answer, rest
        gc.collect()  # a refusal's traceback holds what was read


def _answer(size: int, *, is_event: bool) -> tuple[Answer, list[bytes]]:
    try:
        return answer_to(sys.stdin.buffer.read(size), is_event=is_event)
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
