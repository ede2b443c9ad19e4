"""The smallest plain value that fits a JSON schema, for the keywords that tools commonly use.

Known: const, enum, default, examples, type, properties, required, items, prefixItems, minItems, minLength, maxLength, format,
minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, anyOf, oneOf, allOf, $ref into the schema. Not known, among
others: pattern, not, if, dependent schemas.
"""

import math
from typing import Any, cast

_MAX_DEPTH = 32
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "email": "a@example.org",
    "uri": "https://example.org/",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: object) -> Any:
    """A value for `schema`; null where the schema leads in circles."""
    return _value(schema, schema, 0)


def _value(found: object, root: object, depth: int) -> Any:
    schema = _object(found)
    if schema is None or depth > _MAX_DEPTH:
        return {} if depth == 0 else None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    if "$ref" in schema:
        return _value(_resolve(str(schema["$ref"]), root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            rest = {name: value for name, value in schema.items() if name != key}
            return _value(_merged([rest, schema[key][0]], root), root, depth + 1)
    if schema.get("allOf"):
        rest = {name: value for name, value in schema.items() if name != "allOf"}
        return _value(_merged([rest, *schema["allOf"]], root), root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: dict[str, Any], root: object, depth: int) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = schema["type"][0] if schema["type"] else None
    if kind is None:
        kind = "array" if "items" in schema else "object" if "properties" in schema or depth == 0 else "string"
    match kind:
        case "object":
            properties = schema.get("properties", {})
            return {name: _value(properties.get(name, {}), root, depth + 1) for name in schema.get("required", ())}
        case "array":
            first = [_value(item, root, depth + 1) for item in schema.get("prefixItems", ())]
            missing = max(0, schema.get("minItems", 0) - len(first))
            return first + [_value(schema.get("items", {}), root, depth + 1) for _ in range(missing)]
        case "string":
            return _string(schema)
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case _:
            return None


def _string(schema: dict[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "text")
    text = text.ljust(schema.get("minLength", 0), "x")
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf", 1 if whole else None)
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    value: int | float = 1
    if high is not None and value > high:
        value = high
    if below is not None and value >= below:
        value = below - (step or 1)
    if low is not None and value < low:
        value = low
    if above is not None and value <= above:
        value = above + step if step else above + (1 if below is None else (below - above) / 2)
    if step:
        lowest = (low is not None and value == low) or (above is not None and value > above)
        value = (math.ceil(value / step) if lowest else math.floor(value / step)) * step
        if low is not None and value < low:
            value += step
    return int(value) if whole else value


def _resolve(reference: str, root: object) -> object:
    node: object = root
    for part in reference.strip("#/").split("/") if reference.strip("#/") else ():
        inner = _object(node)
        node = None if inner is None else inner.get(part.replace("~1", "/").replace("~0", "~"))
    return node


def _merged(schemas: "list[Any]", root: object) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for entry in schemas:
        schema = _object(entry) or {}
        if "$ref" in schema:
            schema = _object(_resolve(str(schema["$ref"]), root)) or {}
        properties = {**merged.get("properties", {}), **schema.get("properties", {})}
        required = [*merged.get("required", ()), *schema.get("required", ())]
        merged.update(schema)
        merged.update({"properties": properties} if properties else {})
        merged.update({"required": required} if required else {})
    return merged


def _object(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None  # JSON keys are strings
