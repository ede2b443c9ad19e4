"""The arguments that a parser of calls in tags can have read, as its family's reference parsers type them.

What stands between the tags is text. Only the tool's schema says what it means, so not every JSON object survives being
written and read: `settled` gives one that does.
"""

import json
from collections.abc import Callable

# Of the tools in `conversations.TOOLS`: the type of each argument that has one.
_TYPES = {("shell", "zeta"): "integer", ("shell", "alpha"): "string"}


def settled(tool: str, arguments: str, *, write: Callable[[object], str], unknown_is_text: bool) -> str:
    """`arguments` after being written in tags and read again, until nothing changes any more."""
    values: dict[str, object] = json.loads(arguments)
    while True:
        again = {key: _read(write(value), _TYPES.get((tool, key)), unknown_is_text) for key, value in values.items()}
        if json.dumps(again) == json.dumps(values):
            return json.dumps(values, ensure_ascii=False)
        values = again


def as_glm_writes(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_qwen_writes(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def glm_arguments(tool: str, arguments: str) -> str:
    return settled(tool, arguments, write=as_glm_writes, unknown_is_text=False)


def qwen_arguments(tool: str, arguments: str) -> str:
    return settled(tool, arguments, write=as_qwen_writes, unknown_is_text=True)


def _read(text: str, kind: str | None, unknown_is_text: bool) -> object:
    if kind == "string" or (kind is None and unknown_is_text):
        return text
    words = {"True": "true", "False": "false", "None": "null"} if unknown_is_text else {}
    try:
        value: object = json.loads(words.get(text.strip(), text))
    except ValueError:
        return text
    return value
