"""Tool schemas as TypeScript, against the template that gpt-oss is published with."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.real_templates import RealTemplate

from hotloop.formats.families.harmony.tool_types import namespace_text, typescript_type
from hotloop.protocol.tools import FunctionTool, decode_tools

TEMPLATE = RealTemplate("openai-gpt-oss-120b")
_texts = st.sampled_from(["", "a", "the\npath", "é", '"'])
Schema = dict[str, Any]
_names = st.sampled_from(["path", "zeta", "x"])
_kinds = st.sampled_from(
    ["string", "number", "integer", "boolean", "null", "object", "array", ["string", "null"], [], None]
)


def _record(fields: dict[str, st.SearchStrategy[Any]], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.fixed_dictionaries(fields, optional=optional)


def _object(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    kind = {"type": st.just("object")}
    return _record(kind, properties=st.dictionaries(_names, inner, max_size=3), required=st.lists(_names, max_size=2))


def _nested(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    array = _record({"type": st.just("array"), "items": inner}, nullable=st.booleans())
    choice = _record({"oneOf": st.lists(inner, max_size=3)}, default=_texts)
    return st.one_of(array, choice, _object(inner), _record({}))


_scalars = _record(
    {"type": _kinds},
    description=_texts,
    nullable=st.booleans(),
    enum=st.lists(_texts, max_size=3),
    default=_texts,
)
parameters = _object(st.recursive(_scalars, _nested, max_leaves=8))


def template_text(tools: list[dict[str, Any]]) -> str:
    messages = [{"role": "user", "content": ""}]
    text = TEMPLATE.render_messages(messages, [{"type": "function", "function": tool} for tool in tools])
    start = text.index("## functions")
    return text[start : text.index("<|end|>", start)]


def our_text(tools: list[dict[str, Any]]) -> str:
    decoded = decode_tools(json.dumps([{"type": "function", **tool} for tool in tools]).encode())
    return namespace_text([tool for tool in decoded if isinstance(tool, FunctionTool)])


@given(st.lists(parameters, min_size=1, max_size=2))
def test_any_schema_reads_as_the_template_writes_it(drawn: list[dict[str, Any]]) -> None:
    tools = [
        {"name": f"tool_{index}", "description": "does it", "parameters": schema} for index, schema in enumerate(drawn)
    ]
    assert our_text(tools) == template_text(tools)


def test_every_shape_of_a_parameter_written_out() -> None:
    properties = {
        "path": {"type": "string", "description": "where to"},
        "mode": {"type": "string", "enum": ["r", "w"], "default": "r"},
        "lines": {"type": "array", "items": {"type": "integer"}, "default": [1, 2]},
        "either": {
            "oneOf": [{"type": "string", "description": "one"}, {"type": "number", "default": 1}],
            "default": "x",
        },
        "maybe": {"type": ["string", "null"]},
        "deep": {"type": "object", "properties": {"x": {"type": "boolean"}, "y": {}}, "required": ["x"]},
    }
    tool = {"name": "edit", "description": "edits", "parameters": {"properties": properties, "required": ["path"]}}
    assert our_text([tool]) == template_text([tool])
    assert our_text([tool]) == (
        "## functions\n\nnamespace functions {\n\n// edits\ntype edit = (_: {\n"
        "// where to\npath: string,\n"
        'mode?: "r" | "w", // default: r,\n'
        "lines?: number[], // default: [1, 2],\n"
        "either?: string// one | \nnumber                    // default: 1// default: x,\n"
        "maybe?: string | null,\n"
        f"deep?: {{\nx: \n{' ' * 16}boolean, y?: \n{' ' * 16}any}},\n"
        "}) => any;\n\n} // namespace functions"
    )


def test_what_the_template_fails_on_is_written_plainly() -> None:
    """No description, and defaults that are no text beside choices."""
    assert "\n\ntype bare = () => any;" in our_text([{"name": "bare"}])
    properties = {"a": {"enum": [1], "default": 1}, "b": {"oneOf": [{"type": "null"}], "default": None}, "c": True}
    text = our_text([{"name": "odd", "parameters": {"properties": properties}}])
    assert "a?: any, // default: 1,\nb?: any// default: null,\nc?: any,\n" in text


def test_what_is_no_schema_is_any() -> None:
    assert [typescript_type(odd) for odd in (None, True, [1], "string", {"type": 3})] == ["any"] * 5
