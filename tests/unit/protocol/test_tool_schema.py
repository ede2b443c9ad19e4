"""What servers call a schema."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, SchemaError

from hotloop.protocol.tool_schema import MAX_DEPTH, schema_problem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "anyOf", "not", "a", "enum", "$defs", "additionalProperties"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@given(JSON)
def test_whatever_it_is_it_is_judged(value: Any) -> None:
    schema_problem(value)


@given(JSON.filter(lambda value: isinstance(value, dict)))
def test_a_schema_that_is_one_by_the_book_is_one_here(value: Any) -> None:
    """Here is judged less than the meta-schema does, and the root must be an object's."""
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError:
        return
    if value.get("type", "object") == "object":
        assert schema_problem(value) is None


def test_depth_is_bounded_whatever_leads_down() -> None:
    assert schema_problem(nested(MAX_DEPTH - 2)) is None
    assert "schema_too_complex" in str(schema_problem(nested(MAX_DEPTH)))
    deep: Any = {}
    for _ in range(100_000):
        deep = {"anyOf": [deep]}
    assert "schema_too_complex" in str(schema_problem({"type": "object", "not": deep}))
    while deep:  # without the recursion of its destructor
        deep = deep.pop("anyOf", [None])[0]


@pytest.mark.parametrize("schema", [None, [], "x", 7, True])
def test_what_is_no_object_is_no_schema(schema: Any) -> None:
    assert schema_problem(schema) is not None
