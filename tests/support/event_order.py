"""The rules every recorded stream of one response obeys (docs/protocol.md §3)."""

from typing import Any

TERMINAL = ("response.completed", "response.failed", "response.incomplete")
_DELTAS = {
    "response.output_text.delta": ("response.output_text.done", "text"),
    "response.reasoning_text.delta": ("response.reasoning_text.done", "text"),
    "response.function_call_arguments.delta": ("response.function_call_arguments.done", "arguments"),
    "response.custom_tool_call_input.delta": ("response.custom_tool_call_input.done", "input"),
}
_DONE = {done: field for done, field in _DELTAS.values()}

Event = dict[str, Any]


def check_order(events: list[Event], *, stream_id: str | None = None) -> None:
    """Assert order, numbering, pairing and agreement of the decoded events of one response."""
    assert events[0]["type"] == "response.created", events[0]["type"]
    assert events[1]["type"] == "response.in_progress", events[1]["type"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events if event["type"] in TERMINAL] == [events[-1]["type"]]
    for event in events:
        assert event.get("stream_id") == stream_id
        assert ("stream_id" in event) == (stream_id is not None)
    final = events[-1]["response"]
    assert final["status"] == events[-1]["type"].removeprefix("response.")
    for event in events[:2]:
        assert event["response"]["id"] == final["id"]
        assert event["response"]["output"] == []
    assert _items(events[2:-1]) == final["output"]


def _items(events: list[Event]) -> list[Event]:
    """Walk through the items one after the other; returns them as done."""
    done: list[Event] = []
    item: Event | None = None
    text: str | None = None
    pieces: list[str] = []
    has_part = False
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert item is None, "an item opened inside another"
            assert event["output_index"] == len(done)
            item, text, pieces, has_part = event["item"], None, [], False
            continue
        if kind.startswith("hotloop:") or kind == "response.in_progress":
            continue
        assert item is not None, f"{kind} outside an item"
        assert event["output_index"] == len(done)
        if kind == "response.output_item.done":
            final = event["item"]
            assert {key: final[key] for key in ("id", "type")} == {key: item[key] for key in ("id", "type")}
            assert not has_part, "a content part was not done"
            assert text == _text_of(final)
            done.append(final)
            item = None
            continue
        assert event["item_id"] == item["id"]
        if kind == "response.content_part.added":
            has_part = True
        elif kind == "response.content_part.done":
            assert event["part"]["text"] == text
            has_part = False
        elif kind in _DELTAS:
            assert text is None, "a delta behind its done"
            assert event["delta"] != ""
            pieces.append(event["delta"])
        else:
            text = event[_DONE[kind]]
            assert text == "".join(pieces)
    assert item is None, "the last item was not done"
    return done


def _text_of(item: Event) -> str:
    if item["type"] in ("message", "reasoning"):
        return "".join(part["text"] for part in item["content"])
    text: str = item["arguments"] if item["type"] == "function_call" else item["input"]
    return text
