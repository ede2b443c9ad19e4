"""Checks that the events of one response, or of a whole connection, are what docs/protocol.md §3 promises.

Each event is also held against the Open Responses contract (tests/support/open_responses.py).
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tests.support.hosted_order import CALLS, LISTS, HostedItems
from tests.support.open_responses import check_error, check_event

Event = dict[str, Any]

TERMINAL = ("response.completed", "response.failed", "response.incomplete")
_DELTAS_OF = {
    "message": ("response.output_text",),
    "reasoning": ("response.reasoning_text", "response.reasoning"),  # OpenAI's name, Open Responses'
    "function_call": ("response.function_call_arguments",),
    "custom_tool_call": ("response.custom_tool_call_input",),
    "mcp_call": ("response.mcp_call_arguments",),
}
_TEXT_FIELD = {
    "message": "text",
    "reasoning": "text",
    "function_call": "arguments",
    "custom_tool_call": "input",
    "mcp_call": "arguments",
}

# Items that are shown once they are whole: nothing of them streams.
WHOLE = (
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "tool_search_call",
    "compaction",
    "mcp_approval_request",
)
_WITHOUT_STATUS = ("compaction", "mcp_approval_request", "mcp_list_tools")

# Answers to what a client asks of a response while it runs; steering's may also follow the terminal event.
STEERING = ("response.steer.accepted", "response.steer.pending", "response.steer.failed")
# Answers to what a client asked of a response that does not run: no response's own.
STANDALONE = ("response.steer.failed", "response.interrupt.failed", "response.inject.failed")


def check_response_events(events: Sequence[Event], *, lane: str | None = None) -> Event:
    """Assert that `events` are one whole response, in order and consistent; returns the final response object.

    Acknowledgements of steers and interrupts belong to it, and `response.in_progress` may come again at any time.
    """
    items = _check_up_to_end(events, lane)
    ends = [index for index, event in enumerate(events) if event["type"] in TERMINAL]
    assert len(ends) == 1, f"terminal events at {ends} of {len(events)}"
    (end,) = ends
    after = [event["type"] for event in events[end + 1 :]]
    assert all(kind in STEERING for kind in after), f"after the terminal event: {after}"
    final: Event = events[end]["response"]
    _check_final(final, events[end]["type"], events[0]["response"]["id"], items)
    return final


def check_unfinished_events(events: Sequence[Event], *, lane: str | None = None) -> None:
    """Assert that `events` are how a response begins that nobody saw the end of."""
    _check_up_to_end(events, lane)
    assert all(event["type"] not in TERMINAL for event in events)


def check_resumed_events(events: Sequence[Event]) -> None:
    """Assert that `events` are the rest of a response: taken up after some event, to its end."""
    first = events[0]["sequence_number"] if events else 0
    assert [event["sequence_number"] for event in events] == list(range(first, first + len(events)))
    for event in events:
        _check_lane(event, None)
        check_event(event)
    assert all(event["type"] not in TERMINAL for event in events[:-1]), "a terminal event that is not the last"


def check_connection(events: Iterable[Event]) -> None:
    """Assert that everything one connection was sent is whole responses, errors and answers, lane by lane.

    The last response of a lane may be unfinished: connections end at any time.
    """
    lanes: dict[str | None, list[Event]] = {}
    for event in events:
        if event["type"] == "error":
            assert "sequence_number" not in event, "an error of a request counts among a response's events"
            check_error(event)
        else:
            lanes.setdefault(event.get("stream_id"), []).append(event)
    for lane, of_lane in lanes.items():
        *whole, last = split_responses(of_lane) or [[]]
        for response in whole:
            check_response_events(response, lane=lane)
        if any(event["type"] in TERMINAL for event in last):
            check_response_events(last, lane=lane)
        elif last:
            check_unfinished_events(last, lane=lane)


def _check_up_to_end(events: Sequence[Event], lane: str | None) -> "_Items":
    """All that holds whether or not the end was seen; returns the items up to the terminal event."""
    assert events, "no events at all"
    assert events[0]["type"] == "response.created", f"starts with {events[0]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events))), "sequence numbers have a gap"
    items = _Items()
    response_id = events[0]["response"]["id"]
    is_over = False
    for event in events:
        _check_lane(event, lane)
        check_event(event)
        kind = event["type"]
        is_over = is_over or kind in TERMINAL
        if is_over or kind in STEERING or kind.startswith("hotloop:"):
            continue
        if kind in ("response.created", "response.in_progress", "response.queued"):
            _check_snapshot(event["response"], response_id)
        else:
            items.take(event)
    _check_steers([event for event in events if event["type"] in STEERING], response_id)
    return items


def split_responses(events: Sequence[Event]) -> list[list[Event]]:
    """The events of a lane, response by response; a late acknowledgement goes to the response it names.

    Answers that name no response of the lane are left out, checked.
    """
    responses: list[list[Event]] = []
    by_id: dict[str, list[Event]] = {}
    for event in events:
        if event["type"] == "response.created":
            responses.append([])
            by_id[event["response"]["id"]] = responses[-1]
        if (
            event["type"] in STANDALONE and event["sequence_number"] == 0
        ):  # a response's own are numbered among its events
            check_event(event)
            continue
        target = event.get("steer", {}).get("previous_response_id")
        (by_id[target] if target is not None else responses[-1]).append(event)
    return responses


def _check_steers(events: Sequence[Event], response_id: str) -> None:
    accepted: set[str] = set()
    for event in events:
        steer = event["steer"]
        assert steer["previous_response_id"] == response_id, "a steer of another response"
        if event["type"] == "response.steer.accepted":
            assert steer["id"] not in accepted, "a steer accepted twice"
            accepted.add(steer["id"])
        elif event["type"] == "response.steer.pending":
            assert steer["id"] in accepted, "pending before it was accepted"
            assert event["reason"] == "waiting_for_required_input"
            assert event["required_input"], "nothing is required"
        else:
            assert steer.get("id") is None or steer["id"] in accepted, "failed under an id nobody was told"
            assert steer["input"] is not None, "the input does not come back"


def _check_lane(event: Event, lane: str | None) -> None:
    if lane is None:
        assert "stream_id" not in event, "stream_id on the default lane"
    else:
        assert event["stream_id"] == lane, f"{event['type']} lacks its lane"


def _check_snapshot(response: Event, response_id: str) -> None:
    assert response["id"] == response_id
    assert response["status"] in ("in_progress", "queued")
    assert response["output"] == [], "output before the end"
    assert response["usage"] is None


def _check_final(final: Event, kind: str, response_id: str, items: "_Items") -> None:
    assert final["id"] == response_id
    assert kind == f"response.{final['status']}"
    assert items.open is None, f"item {items.open} is still open at the end"
    assert not items.hosted.is_any_open, "an item is still worked on at the end"
    reason: str | None = final["incomplete_details"]["reason"] if final["incomplete_details"] is not None else None
    if final["status"] != "failed":
        assert items.is_interrupted == (reason == "interrupted"), f"interrupted {items.is_interrupted}, ends {reason}"
    if reason in ("interrupted", "steered"):
        assert all(_status(item) == "completed" or _is_hosted(item) for item in items.done), (
            "a cut response holds whole items only"
        )
    assert final["output"] == items.done, "the final output is not what was streamed"
    assert (final["error"] is not None) == (final["status"] == "failed")
    assert (final["incomplete_details"] is not None) == (final["status"] == "incomplete")
    assert (final["completed_at"] is not None) == (final["status"] == "completed")
    if final["status"] != "failed":
        assert final["usage"] is not None
    for item in items.done[:-1]:
        assert _status(item) == "completed" or _is_hosted(item), "only the last item may be incomplete"
    if items.done and _status(items.done[-1]) == "incomplete":
        assert final["status"] != "completed", "an incomplete item in a completed response"
    ids = [item["id"] for item in items.done]
    assert len(set(ids)) == len(ids), "two items share an id"


def _status(item: Event) -> str:
    """Items that are there only once they are whole have none."""
    found: str = "completed" if item["type"] in _WITHOUT_STATUS else item["status"]
    return found


def _is_hosted(item: Event) -> bool:
    """It was worked on: what came of it does not depend on what was written behind it."""
    kind: str = item["type"]
    return kind == CALLS


class _Items:
    """The items of one response as they stream by."""

    def __init__(self) -> None:
        self.done: list[Event] = []
        self.open: Event | None = None
        self.hosted = HostedItems()
        self.is_interrupted = False

    def take(self, event: Event) -> None:
        kind = event["type"]
        if kind == "response.interrupt.accepted":
            assert not self.is_interrupted, "interrupted twice"
            self.is_interrupted = True
            return
        if self.hosted.takes(event):
            if kind == "response.output_item.done":
                self.done[event["output_index"]] = event["item"]
            return
        assert event["output_index"] == len(self.done), f"{kind}: output_index is not dense"
        if kind == "response.output_item.added":
            assert not self.is_interrupted, "an item begins after the interrupt"
            self._begin(event["item"])
            return
        assert self.open is not None, f"{kind} without an open item"
        if kind == "response.output_item.interrupted":
            assert self.is_interrupted, "an item taken back without an interrupt"
            assert event["item_id"] == self.open["id"], f"{kind} names another item"
            self.open = None
            return
        assert not self.is_interrupted, f"{kind} after the interrupt"
        if kind == "response.output_item.done":
            self._end(event["item"])
            return
        assert event["item_id"] == self.open["id"], f"{kind} names another item"
        if kind == "response.mcp_call.in_progress":
            assert self.open["type"] == CALLS
        elif kind == "response.compaction.compacting":
            assert self.open["type"] == "compaction"
        elif kind.startswith("response.content_part."):
            self._part(kind, event)
        else:
            self._text(kind, event)

    def _begin(self, item: Event) -> None:
        assert self.open is None, "an item begins inside another"
        assert item["type"] in _WITHOUT_STATUS or item["status"] == "in_progress"
        if item["type"] == LISTS or (item["type"] == CALLS and item["approval_request_id"] is not None):
            self.hosted.begin(len(self.done), item)
            self.done.append(item)
            return
        self.open = item
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        self._full: str | None = None
        self._part_added = self._part_done = False
        if item["type"] in WHOLE:
            return
        empty: Any = [] if item["type"] in ("message", "reasoning") else ""
        field = "content" if item["type"] in ("message", "reasoning") else _TEXT_FIELD[item["type"]]
        assert item[field] == empty, "an item begins with content"

    @property
    def _has_parts(self) -> bool:
        assert self.open is not None
        return self.open["type"] in ("message", "reasoning")

    def _part(self, kind: str, event: Event) -> None:
        assert self._has_parts, "a content part in an item without parts"
        assert event["content_index"] == 0
        if kind == "response.content_part.added":
            assert not self._part_added
            self._part_added = True
            assert event["part"]["text"] == ""
            return
        assert self._full is not None and not self._part_done, "content_part.done before its text is done"
        self._part_done = True
        assert event["part"]["text"] == self._full

    def _text(self, kind: str, event: Event) -> None:
        assert self.open is not None
        stem, _, step = kind.rpartition(".")
        assert stem in _DELTAS_OF[self.open["type"]] and step in ("delta", "done"), f"{kind} in a {self.open['type']}"
        assert self._full is None, f"{kind} after the text was done"
        assert not self._has_parts or (self._part_added and event["content_index"] == 0)
        if kind.endswith(".delta"):
            self._texts.append(event["delta"])
            self._logprobs += event.get("logprobs", [])
        else:
            self._full = event[_TEXT_FIELD[self.open["type"]]]
            assert self._full == "".join(self._texts), "the deltas do not add up"
            assert event.get("logprobs", []) == self._logprobs
            if self.open["type"] == CALLS:
                self._work_on(self.open)

    def _work_on(self, call: Event) -> None:
        """Written, not yet run; a response that ends first says so."""
        assert self._texts, "a call without a delta"
        self.hosted.begin(len(self.done), {**call, "arguments": self._full})
        self.done.append(call)
        self.open = None

    def _end(self, item: Event) -> None:
        assert self.open is not None
        if item["type"] in WHOLE:
            assert (item["id"], item.get("call_id")) == (self.open["id"], self.open.get("call_id"))
            self.done.append(item)
            self.open = None
            return
        assert self._full is not None, "item done before its text"
        assert self._part_done == self._has_parts, "content part left open"
        for name in ("id", "type", "call_id", "name", "role"):
            assert item.get(name) == self.open.get(name), f"{name} changed while the item streamed"
        assert item["status"] in ("completed", "incomplete")
        if self._has_parts:
            assert [part["text"] for part in item["content"]] == [self._full]
        else:
            assert item[_TEXT_FIELD[item["type"]]] == self._full
        if item["type"] == "function_call" and item["status"] == "completed":
            assert self._texts, "a function call without a delta"
        self.done.append(item)
        self.open = None
