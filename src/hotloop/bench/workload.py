"""The seeded work of the benches: an agent's conversation about a repository, and what the scripted engine answers.

Only the scale differs between arms: the same text, cut at the length that gives the wanted number of prompt tokens.
"""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

Json = dict[str, Any]

SEED = 20261121
ITEM_CHARS = 1_000  # about 300 tokens: an excerpt of a file, a test's output
MESSAGE_CHARS = 450  # with the tool and the envelope: a create of about 1 KB

TOOL: Json = {
    "type": "function",
    "name": "shell",
    "description": "Run a command in the working directory. Returns what it wrote and its exit code. Long output is cut "
    "in the middle; commands that take more than a minute are stopped.",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "string", "description": "one shell command line"}},
        "required": ["command"],
        "additionalProperties": False,
    },
    "strict": False,
}

# The same with more to say: a create of 1 KB whose input is a few tokens.
LONG_TOOL: Json = TOOL | {
    "description": f"{TOOL['description']} Prefer one command that does the whole job to many small ones, quote paths that "
    "hold spaces, and never wait for input: there is no terminal. Files outside of the working directory are read only; "
    "the network is not reachable. What a command leaves running is stopped when the next command starts."
}

_FILES = (
    "loader",
    "cache",
    "parser",
    "report",
    "session",
    "table",
    "writer",
    "queue",
    "config",
    "matrix",
    "index",
    "codec",
)
_NAMES = (
    "value",
    "total",
    "offset",
    "record",
    "buffer",
    "limit",
    "width",
    "entry",
    "state",
    "cursor",
    "weight",
    "label",
)
_LINES = (
    "def {name}_{file}({other}: int, *, strict: bool = True) -> dict[str, int]:",
    "    if {name} is None or {other} > {number}:",
    '        raise ValueError(f"{name} must not exceed {{{other}}}")',
    "    for index, {name} in enumerate(sorted({other}s)):",
    "        self._{name}[index] = {other}.get({number}, {name})",
    "    return {name} + {other} * {number}",
    "src/{file}.py:{number}: error: Argument {number} to \"{name}\" has incompatible type \"str\"; expected \"int\"",
    "tests/test_{file}.py::test_{name}_keeps_the_{other} PASSED                                    [ {number}%]",
    "tests/test_{file}.py::test_{name}_without_{other} FAILED",
    "E       assert {number} == {name}.{other}",
    "-rw-r--r-- 1 build build {number}24 Mar 11 09:1{number} {file}_{name}.py",
    "# the {name} of a {file} is counted once, even when the {other} comes back a second time",
    "",
)  # fmt: skip
_COMMANDS = (
    "sed -n 1,{number}p src/{file}.py",
    "python -m pytest -q tests/test_{file}.py -k {name}",
    "grep -rn {name} src/",
)


def _lines(random_: random.Random, templates: Sequence[str]) -> Iterator[str]:
    while True:
        yield random_.choice(templates).format(
            file=random_.choice(_FILES),
            name=random_.choice(_NAMES),
            other=random_.choice(_NAMES),
            number=random_.randrange(2, 99),
        )


def _text(lines: Iterator[str], chars: int) -> str:
    """Whole lines up to `chars`, the last one cut."""
    text = ""
    while len(text) < chars:
        text += next(lines) + "\n"
    return text[:chars]


def output_lines(random_: random.Random, chars: int) -> list[str]:
    """Lines as tools write them, `chars` characters or a little more."""
    return _at_least(_lines(random_, _LINES), chars)


def command_lines(random_: random.Random, chars: int) -> list[str]:
    """Command lines of an agent."""
    return _at_least(_lines(random_, _COMMANDS), chars)


def _at_least(lines: Iterator[str], chars: int) -> list[str]:
    found: list[str] = []
    size = 0
    while size < chars:
        found.append(next(lines))
        size += len(found[-1]) + 1
    return found


def history(chars: int) -> list[Json]:
    """A task, then calls of the tool with their outputs: `chars` characters of output text in all."""
    random_ = random.Random(SEED)
    output, commands = _lines(random_, _LINES), _lines(random_, _COMMANDS)
    items: list[Json] = [user_message("The tests of this repository fail. Find out why and repair it.")]
    for number, start in enumerate(range(0, chars, ITEM_CHARS)):
        call_id = f"call_{number:06d}"
        arguments = json.dumps({"command": next(commands)})
        items.append({"type": "function_call", "call_id": call_id, "name": "shell", "arguments": arguments})
        text = _text(output, min(ITEM_CHARS, chars - start))
        items.append({"type": "function_call_output", "call_id": call_id, "output": text})
    return items


def user_message(text: str) -> Json:
    """A user's message as SDKs send it."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def question(answer: str, number: int, chars: int = MESSAGE_CHARS) -> Json:
    """A new user message that the script answers with `answer`; `number` makes its text differ from the others'."""
    lines = _lines(random.Random(SEED + 1 + number % 97), _LINES)
    return user_message(f"[{answer}] {_text(lines, chars)}" if chars else f"[{answer}]")


def create(model: str, items: Sequence[Json], *, previous: str | None = None, tool: Json = TOOL) -> Json:
    """A turn over WebSocket."""
    body = {"type": "response.create", **_body(model, items, tool)}
    return body if previous is None else body | {"previous_response_id": previous}


def post(model: str, items: Sequence[Json]) -> Json:
    """The same turn as an HTTP body."""
    return {**_body(model, items, TOOL), "stream": True}


def create_bytes(
    model: str,
    items: Sequence[bytes],
    *,
    transport: str,
    previous: str = "",
    store: bool = False,
    tool: Json = TOOL,
    more: Json | None = None,
) -> bytes:
    """A turn of items that are JSON already, as a client sends it that has not to write its history anew every time."""
    kind: Json = {"type": "response.create"} if transport == "websocket" else {"stream": True}
    head = {**kind, "model": model, "store": store, "tools": [tool], **(more or {})}
    if previous:
        head["previous_response_id"] = previous
    return encoded(head)[:-1] + b',"input":[' + b",".join(items) + b"]}"


def _body(model: str, items: Sequence[Json], tool: Json) -> Json:
    return {"model": model, "store": False, "tools": [tool], "input": list(items)}


def encoded(value: Json | list[Json]) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(value)
