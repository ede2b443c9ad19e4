"""The process in which unknown grammars are compiled first.

    python -P -m hotloop.constraints.child PARENT_PID VOCABULARY_SIZE MEMORY_BYTES

On standard input: a 4-byte little-endian length and a JSON array of grammars. On standard output, one line each: `ready` once,
then, per request, the index of every grammar before it is compiled, and a JSON object (the problem) or `null` at the end. So
a process that dies or is killed has said which grammar it died of.
"""

import json
import struct
import sys

from hotloop.constraints.compiling import Compiler
from hotloop.processes.confinement import confine


def main() -> None:
    """Entry of the child process."""
    parent_pid, vocabulary_size, memory_bytes = map(int, sys.argv[1:])
    if not confine(parent_pid, memory_bytes):
        return
    compiler = Compiler(vocabulary_size)
    _say("ready")
    while head := sys.stdin.buffer.read(4):
        (size,) = struct.unpack("<I", head)
        _judge(compiler, json.loads(sys.stdin.buffer.read(size)))


def _judge(compiler: Compiler, grammars: list[str]) -> None:
    for index, grammar in enumerate(grammars):
        _say(str(index))
        problem = compiler.problem(grammar, index)
        if problem is not None:
            _say(json.dumps({"detail": problem.detail, "is_too_complex": problem.is_too_complex}))
            return
    _say("null")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
