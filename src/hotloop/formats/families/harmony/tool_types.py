"""How Harmony shows tools to the model: as TypeScript types of their JSON schemas.

The layout, odd line breaks included, is that of the chat template published with gpt-oss.
"""

import json
from collections.abc import Sequence
from typing import cast

from hotloop.formats.writing.tool_text import tool_parameters
from hotloop.protocol.tools import CustomTool, FunctionTool

_ANY_FROM = 50  # the template gives up on element types longer than this
_ELEMENTS = {"string": "string[]", "number": "number[]", "integer": "number[]", "boolean": "boolean[]"}
_SCALARS = {"number": "number", "integer": "number", "boolean": "boolean"}


def namespace_text(tools: Sequence[FunctionTool | CustomTool]) -> str:
    """The namespace `functions` with one type per tool."""
    types = "".join(_tool_type(tool) for tool in tools)
    return f"## functions\n\nnamespace functions {{\n\n{types}}} // namespace functions"


def _tool_type(tool: FunctionTool | CustomTool) -> str:
    # Where the template fails for want of a description the line is left out, as the published encoder does.
    head = f"// {tool.description}\n" if tool.description is not None else ""
    schema = tool_parameters(tool)
    properties = _fields(_field(schema, "properties"))
    if not properties:
        return f"{head}type {tool.name} = () => any;\n\n"
    required = _names(_field(schema, "required"))
    body = "".join(_parameter(name, spec, required) for name, spec in properties.items())
    return f"{head}type {tool.name} = (_: {{\n{body}}}) => any;\n\n"


def _parameter(name: str, spec: object, required: Sequence[object]) -> str:
    description = _field(spec, "description")
    head = f"// {description}\n" if description else ""
    optional = "" if name in required else "?"
    return f"{head}{name}{optional}: {typescript_type(spec)}{_default(spec)},\n"


def _default(spec: object) -> str:
    if "default" not in _fields(spec):
        return ""
    value = _field(spec, "default")
    is_bare = isinstance(value, str) and bool(_field(spec, "enum") or _field(spec, "oneOf"))
    text = str(value) if is_bare else json.dumps(value, ensure_ascii=False)
    separator = "" if _field(spec, "oneOf") and not _field(spec, "enum") else ", "
    return f"{separator}// default: {text}"


def typescript_type(spec: object) -> str:
    """The TypeScript type that stands for a JSON schema; `any` for what the template does not know."""
    kind = _field(spec, "type")
    if kind == "array":
        return _array(spec)
    if isinstance(kind, list) and kind:
        return " | ".join(str(one) for one in cast("list[object]", kind))  # from JSON
    variants = _field(spec, "oneOf")
    if isinstance(variants, list) and variants:
        return " | \n".join(_variant(one) for one in cast("list[object]", variants))  # from JSON
    if kind == "string":
        return _string(spec)
    if kind == "object":
        return _object(spec)
    return _SCALARS.get(kind, "any") if isinstance(kind, str) else "any"


def _array(spec: object) -> str:
    items = _field(spec, "items")
    return (_elements(items) if items else "any[]") + _or_null(spec)


def _elements(items: object) -> str:
    kind = _field(items, "type")
    if isinstance(kind, str) and kind in _ELEMENTS:
        return _ELEMENTS[kind]
    inner = typescript_type(items)
    return "any[]" if inner == "object | object" or len(inner) > _ANY_FROM else f"{inner}[]"


def _variant(spec: object) -> str:
    description = _field(spec, "description")
    text = typescript_type(spec) + (f"// {description}" if description else "")
    if "default" in _fields(spec):
        text += " " * 20 + "// default: " + json.dumps(_field(spec, "default"), ensure_ascii=False)
    return text


def _string(spec: object) -> str:
    values = _field(spec, "enum")
    if isinstance(values, list) and values:
        return '"' + '" | "'.join(str(value) for value in cast("list[object]", values)) + '"'  # from JSON
    return "string" + _or_null(spec)


def _object(spec: object) -> str:
    properties = _fields(_field(spec, "properties"))
    if not properties:
        return "object"
    required = _names(_field(spec, "required"))
    inner = ", ".join(
        f"{name}{'' if name in required else '?'}: \n{' ' * 16}{typescript_type(one)}"
        for name, one in properties.items()
    )
    return f"{{\n{inner}}}"


def _or_null(spec: object) -> str:
    return " | null" if _field(spec, "nullable") else ""


def _fields(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}  # JSON keys are strings


def _field(value: object, key: str) -> object:
    return _fields(value).get(key)


def _names(value: object) -> Sequence[object]:
    return cast("list[object]", value) if isinstance(value, list) else ()  # from JSON
