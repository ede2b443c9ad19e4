import itertools
import json
from typing import Any

import pytest

from hotloop.protocol.item_view import id_of, item_list, shown, with_ids
from hotloop.protocol.items import Item
from hotloop.protocol.request import decode_item


def item(**fields: Any) -> Item:
    return decode_item(json.dumps(fields).encode(), "input[0]")


ITEMS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"role": "user", "content": "hi"},
        {"type": "message", "status": "completed", "content": [{"type": "input_text", "text": "hi"}]},
    ),
    (
        {"role": "assistant", "content": "yes", "phase": "final_answer"},
        {
            "content": [{"type": "output_text", "text": "yes", "annotations": [], "logprobs": []}],
            "phase": "final_answer",
        },
    ),
    (
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]},
        {
            "content": [
                {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "b"},
            ]
        },
    ),
    (
        {"type": "function_call", "call_id": "c", "name": "run", "arguments": "{}", "status": "incomplete"},
        {"status": "incomplete", "arguments": "{}"},
    ),
    ({"type": "function_call_output", "call_id": "c", "output": "done"}, {"status": "completed", "output": "done"}),
    ({"type": "custom_tool_call", "call_id": "c", "name": "run", "input": "x"}, {"input": "x"}),
    ({"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]}, {}),
    ({"type": "reasoning", "summary": [], "encrypted_content": "s"}, {"summary": [], "encrypted_content": "s"}),
    ({"type": "web_search_call", "query": "q"}, {"type": "web_search_call", "query": "q"}),
]


@pytest.mark.parametrize(("given", "expected"), ITEMS, ids=[given.get("type", given.get("role")) for given, _ in ITEMS])
def test_an_item_is_shown_whole_with_an_id_and_can_be_sent_back(
    given: dict[str, Any], expected: dict[str, Any]
) -> None:
    (identified,) = with_ids([item(**given)], lambda prefix: f"{prefix}_1")
    view = json.loads(shown(identified))
    assert view["id"].endswith("_1")
    assert {name: view[name] for name in expected} == expected
    assert json.loads(shown(item(**view))) == view


def test_a_given_id_is_kept() -> None:
    numbers = itertools.count()
    given = [item(role="user", content="a", id="msg_mine"), item(type="web_search_call", id="ws_mine")]
    kept = with_ids([*given, item(role="user", content="b")], lambda prefix: f"{prefix}_{next(numbers)}")
    assert [id_of(one) for one in kept] == ["msg_mine", "ws_mine", "msg_0"]


def test_an_id_that_is_no_text_names_nothing() -> None:
    (identified,) = with_ids([item(type="web_search_call", id=5)], lambda prefix: f"{prefix}_1")
    assert id_of(identified) == "item_1"


def test_a_list_names_its_ends() -> None:
    items = [item(role="user", content="hi", id="a"), item(role="user", content="hi", id="b")]
    listed = json.loads(item_list(items, has_more=True))
    assert (listed["object"], listed["first_id"], listed["last_id"], listed["has_more"]) == ("list", "a", "b", True)
    assert [entry["id"] for entry in listed["data"]] == ["a", "b"]
    empty = json.loads(item_list([], has_more=False))
    assert empty == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
