"""Whether what a tool server calls a schema is one, and one that may be carried (docs/hosted-tools.md).

Client tools are held to the same bounds of number and size; how deep theirs go is judged when a grammar is made of them.
"""

from typing import cast

MAX_DEPTH = 64  # of a schema; people's go to about ten
_TYPES = frozenset(("null", "boolean", "object", "array", "number", "string", "integer"))
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_SINGLE = frozenset(("additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"))


def schema_problem(schema: object) -> str | None:
    """Why this is no schema of a tool's arguments that can be used, or None."""
    if not isinstance(schema, dict):
        return "it is no object"
    kind = cast("dict[str, object]", schema).get("type", "object")
    if kind != "object":
        return "its type is not 'object'"
    waiting: list[tuple[object, int]] = [(cast("object", schema), 1)]
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, bool):
            continue
        if not isinstance(part, dict):
            return "a part of it is no schema"
        if depth > MAX_DEPTH:
            return f"schema_too_complex: it is more than {MAX_DEPTH} levels deep"
        fields = cast("dict[str, object]", part)
        if not _is_type(fields.get("type", "object")):
            return "it names a type that is none"
        for key, value in fields.items():
            found = _parts(key, value)
            if found is None:
                return f"its '{key}' is not what the keyword asks for"
            waiting += [(each, depth + 1) for each in found]
    return None


def _is_type(kind: object) -> bool:
    kinds = cast("list[object]", kind) if isinstance(kind, list) else [kind]
    return all(isinstance(each, str) and each in _TYPES for each in kinds)


def _parts(key: str, value: object) -> "list[object] | None":
    """The schemas under a keyword; None where there should be some and are none."""
    if key in _MAPS:
        return list(cast("dict[str, object]", value).values()) if isinstance(value, dict) else None
    if key in _LISTS:
        return cast("list[object]", value) if isinstance(value, list) else None
    if key in _SINGLE or key == "items":
        return cast("list[object]", value) if isinstance(value, list) else [value]
    return []
