"""Whatever items come in whatever order: an answer, or one of the protocol's own errors, and the chain goes on."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.turns import ME, Pipeline, body

from hotloop.errors import ApiError
from hotloop.protocol.items import Item
from hotloop.protocol.request import _decode_any, decode_item

TYPES = [
    *("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning"),
    *("local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call"),
    *("apply_patch_call_output", "tool_search_call", "tool_search_output", "additional_tools", "configuration_update"),
    *("compaction", "compaction_trigger", "item_reference", "web_search_call", "mcp_call", "computer_call_output"),
    *("image_generation_call", "program", "unheard_of"),
]
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
PARTS: st.SearchStrategy[Any] = st.lists(
    st.sampled_from(
        [
            {"type": "input_text", "text": "t"},
            {"type": "of_tomorrow", "text": "t", "encrypted_content": "x"},
            {"type": "hotloop:unknown", "json": "{"},
            {"type": "input_file", "file_data": "data:text/plain,t"},
            {"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0="},
            {"type": "input_file", "file_url": "https://a.example/t"},
            {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
            {"type": "summary_text", "text": "t"},
        ]
    ),
    max_size=2,
)
KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "id": st.sampled_from(["a", "b"]),
    "call_id": st.sampled_from(["a", "b", None]),
    "name": st.sampled_from(["run", "shell"]),
    "namespace": st.sampled_from(["functions", "other"]),
    "arguments": st.just("{}") | st.builds(dict[str, Any]),
    "input": st.text(max_size=5),
    "role": st.sampled_from(["user", "assistant", "developer", "system"]),
    "content": st.text(max_size=5) | PARTS,
    "output": st.text(max_size=5) | st.just([{"stdout": "o", "stderr": ""}]) | PARTS,
    "async": st.booleans(),
    "summary": st.just([]),
    "status": st.sampled_from(["completed", "incomplete", "failed"]),
    "action": st.just({"commands": ["ls"]}),
    "operation": st.just({"type": "delete_file", "path": "p"}),
    "tools": st.just([{"type": "function", "name": "run"}]) | st.just([{"type": "shell"}]),
    "encrypted_content": st.just("x"),
    "execution": st.sampled_from(["client", "server"]),
}
FIELDS = st.fixed_dictionaries({}, optional={name: known | VALUE for name, known in KNOWN.items()})
LIKELY = st.fixed_dictionaries({}, optional=KNOWN)


def typed(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "type": kind}


ITEM = st.builds(typed, st.sampled_from(TYPES), LIKELY | LIKELY | FIELDS)


@given(st.lists(st.lists(ITEM, max_size=5), min_size=1, max_size=3))
def test_any_items_get_an_answer_or_an_error_of_the_protocol(turns: list[list[dict[str, Any]]]) -> None:
    asyncio.run(play(turns))


@given(ITEM | FIELDS)
def test_reading_an_item_at_once_gives_what_reading_its_type_first_gives(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields).encode()
    assert _read(decode_item, raw) == _read(_decode_any, raw)


def _read(decode: Callable[[bytes, str], Item], raw: bytes) -> object:
    try:
        item = decode(raw, "input[0]")
    except ApiError as error:
        return type(error), str(error), error.param
    return type(item), item


async def play(turns: list[list[dict[str, Any]]]) -> None:
    pipeline = Pipeline()
    previous: str | None = None
    for items in turns:
        fields: dict[str, Any] = {"input": items, "previous_response_id": previous}
        outcome = await pipeline.run(**fields)
        if outcome.error is None:
            response = body(outcome)
            assert response["status"] == "completed"
            previous = response["id"]
        else:
            assert 400 <= outcome.error.status < 500, (items, outcome.error)
            assert outcome.error.code
    if previous is not None:  # a refusal leaves the chain as it was
        pin = pipeline.chains.find(ME, 1, previous)
        assert pin is not None
        pin.release()
