"""What the value of an argument may be, by its tool's JSON Schema. For calls that write every value as plain text.

schema {"type": "integer"}             "3" means 3
schema {"type": "string"}              "3" means "3"
schema {"type": ["string", "null"]}    "null" means null, "3" means "3"
no schema                              as the family's reference parser takes it
"""

import json
from collections.abc import Sequence
from typing import cast

from hotloop.formats.writing.tool_text import tool_parameters
from hotloop.protocol.tools import HostedTool, Tool

ANY: frozenset[str] = frozenset()  # nothing is known of the value
_STRING = frozenset(["string"])
_MOST_DEPTH = 8  # of nested alternatives and references


class ArgumentTypes:
    """Types of the arguments of some tools; a tool's schema is read when it is first asked for."""

    __slots__ = ("_known", "_tools")

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = tools
        self._known: dict[str, dict[str, object]] = {}

    def of(self, tool: str, argument: str) -> frozenset[str]:
        """JSON Schema's names of the types the argument may have; `ANY` if the schema does not say."""
        schema = self._schema(tool)
        properties = schema.get("properties")
        if isinstance(properties, dict) and argument in properties:
            return types_of(cast("dict[str, object]", properties)[argument], schema)
        return ANY

    def _schema(self, tool: str) -> dict[str, object]:
        if tool not in self._known:
            named = [one for one in self._tools if not isinstance(one, HostedTool) and one.name == tool]
            schema = tool_parameters(named[-1]) if named else None
            self._known[tool] = cast("dict[str, object]", schema) if isinstance(schema, dict) else {}
        return self._known[tool]


def types_of(schema: object, root: dict[str, object], depth: int = 0) -> frozenset[str]:
    """The types that `schema` allows; `ANY` if it does not say. `root` is where its references point into."""
    if not isinstance(schema, dict) or depth > _MOST_DEPTH:
        return ANY
    fields = cast("dict[str, object]", schema)  # JSON keys are strings
    stated = fields.get("type")
    if isinstance(stated, str):
        return frozenset([stated])
    if isinstance(stated, list):
        return frozenset(name for name in cast("list[object]", stated) if isinstance(name, str))
    if isinstance(reference := fields.get("$ref"), str):
        return types_of(resolve(reference, root), root, depth + 1)
    if isinstance(values := fields.get("enum"), list):
        return frozenset(map(_type_name, cast("list[object]", values)))
    if "const" in fields:
        return frozenset([_type_name(fields["const"])])
    for key in ("anyOf", "oneOf"):
        if isinstance(choices := fields.get(key), list):
            found = [types_of(choice, root, depth + 1) for choice in cast("list[object]", choices)]
            return frozenset[str]().union(*found) if all(found) else ANY
    return ANY


def resolve(reference: str, root: dict[str, object]) -> object:
    """What a reference within the schema points to; None if to nothing."""
    if not reference.startswith("#"):
        return None
    found: object = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = _member(found, step.replace("~1", "/").replace("~0", "~"))
    return found


def _member(value: object, key: str) -> object:
    return cast("dict[str, object]", value).get(key) if isinstance(value, dict) else None


def is_text_only(types: frozenset[str]) -> bool:
    """The value is a string whatever it looks like."""
    return types == _STRING


def as_json(text: str, types: frozenset[str], *, python: bool) -> str:
    """The JSON that a value written as plain text means; verbatim where it is JSON of an allowed type.

    `python`: the family writes `True`, `None` and the like, and takes a value of unknown type for a string.
    """
    bare = text.strip()
    if python:
        bare = _PYTHON_WORDS.get(bare, bare)
        if types == ANY:
            return json.dumps(text, ensure_ascii=False)
    try:
        value: object = json.loads(bare, parse_constant=_refuse)
    except ValueError:
        return json.dumps(text, ensure_ascii=False)
    kind = _type_name(value)
    fits = types == ANY or kind in types or (kind == "integer" and "number" in types)
    if not fits and "string" in types:
        return json.dumps(text, ensure_ascii=False)
    # A value of a type that the schema does not know is the tool's to refuse; it stays what it looks like.
    return bare


_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _type_name(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
