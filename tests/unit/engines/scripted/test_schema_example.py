from typing import Any

import pytest

from hotloop.engines.scripted.schema_example import example


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, {}),
        (True, {}),
        ({"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]}, {"a": "text"}),
        ({"type": "object", "required": ["x"]}, {"x": "text"}),
        ({"properties": {"a": {"items": {"type": "null"}, "minItems": 2}}, "required": ["a"]}, {"a": [None, None]}),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "boolean"}, "minItems": 2}, [1, True]),
        ({"type": ["integer", "null"]}, 1),
        ({"type": []}, {}),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": "string", "default": "d"}, "d"),
        ({"type": "string", "examples": ["e"]}, "e"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "string", "maxLength": 2}, "te"),
        ({"type": "integer", "minimum": 7}, 7),
        ({"type": "integer", "maximum": -3}, -3),
        ({"type": "integer", "exclusiveMinimum": 7}, 8),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "integer", "multipleOf": 5, "minimum": 7}, 10),
        ({"type": "integer", "multipleOf": 5, "maximum": -3}, -5),
        ({"type": "integer", "multipleOf": 5, "exclusiveMinimum": 7}, 15),
        ({"type": "integer", "multipleOf": 5}, 0),
        ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, 1.5),
        ({"type": "number", "exclusiveMinimum": 1}, 2),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"oneOf": [{"$ref": "#/$defs/a~1b"}], "$defs": {"a/b": {"const": 3}}}, 3),
        ({"$ref": "#/$defs/missing"}, None),
        (
            {
                "allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"$ref": "#/$defs/x"}, True],
                "properties": {"b": {"const": 2}},
                "required": ["b"],
                "$defs": {"x": {"title": "nothing more"}},
            },
            {"a": 1, "b": 2},
        ),
    ],
)
def test_the_value_fits_the_schema(schema: Any, value: object) -> None:
    assert example(schema) == value


def test_a_schema_that_leads_in_circles_comes_to_an_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert isinstance(example(node), dict)
