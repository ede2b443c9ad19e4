"""Checks of the items that the server itself works on: added now, done later, whatever comes between (docs/hosted-tools.md).

Items and events are held against the OpenAI SDK's types: the Open Responses contract has none of them.
"""

from functools import cache
from typing import Any

from pydantic import TypeAdapter

Event = dict[str, Any]

LISTS, CALLS = "mcp_list_tools", "mcp_call"
KINDS = (LISTS, CALLS, "mcp_approval_request")


@cache
def _adapters() -> dict[str, Any]:
    # The SDK takes a second to load: only what needs it pays.
    from openai.types import responses
    from openai.types.responses import response_output_item as items

    known: dict[str, Any] = {
        LISTS: items.McpListTools,
        CALLS: items.McpCall,
        "mcp_approval_request": items.McpApprovalRequest,
        "response.mcp_list_tools.in_progress": responses.ResponseMcpListToolsInProgressEvent,
        "response.mcp_list_tools.completed": responses.ResponseMcpListToolsCompletedEvent,
        "response.mcp_list_tools.failed": responses.ResponseMcpListToolsFailedEvent,
        "response.mcp_call.in_progress": responses.ResponseMcpCallInProgressEvent,
        "response.mcp_call.completed": responses.ResponseMcpCallCompletedEvent,
        "response.mcp_call.failed": responses.ResponseMcpCallFailedEvent,
        "response.mcp_call_arguments.delta": responses.ResponseMcpCallArgumentsDeltaEvent,
        "response.mcp_call_arguments.done": responses.ResponseMcpCallArgumentsDoneEvent,
    }
    return {name: TypeAdapter(kind) for name, kind in known.items()}


def check_as_openai_has_it(value: Event) -> None:
    """Assert that an item or event is what the SDK's type says, and has nothing besides."""
    found = _adapters()[value["type"]].validate_python(value, strict=True)
    assert not found.model_extra or set(found.model_extra) <= {"stream_id"}, found.model_extra


class HostedItems:
    """The items of one response that are worked on, by their place in the output."""

    def __init__(self) -> None:
        self._open: dict[int, Event] = {}
        self._outcomes: dict[int, str] = {}

    @property
    def is_any_open(self) -> bool:
        return bool(self._open)

    def begin(self, index: int, item: Event) -> None:
        check_as_openai_has_it(item)
        self._open[index] = item

    def takes(self, event: Event) -> bool:
        """The event is about one of these items; checked."""
        index = event.get("output_index")
        if index not in self._open or event["type"] == "response.output_item.added":
            return False
        item, kind = self._open[index], event["type"]
        if kind == "response.output_item.done":
            self._end(index, item, event["item"])
            return True
        assert event["item_id"] == item["id"], f"{kind} names another item"
        step = kind.rpartition(".")[2]
        if step in ("completed", "failed"):
            assert index not in self._outcomes, "two outcomes"
            self._outcomes[index] = step
        elif kind == "response.mcp_call_arguments.done":
            assert event["arguments"] == item["arguments"]
        else:
            assert step == "in_progress", kind
        return True

    def _end(self, index: int, begun: Event, item: Event) -> None:
        check_as_openai_has_it(item)
        for name in ("id", "type", "name", "server_label", "approval_request_id"):
            assert item.get(name) == begun.get(name), f"{name} changed while the item was worked on"
        outcome = self._outcomes.pop(index, None)
        if item["type"] == CALLS:
            assert item["status"] == (outcome or "incomplete")
            assert (item["output"] is not None) == (outcome == "completed")
            assert (item["error"] is not None) == (outcome == "failed")
        else:
            assert ("error" in item) == (outcome != "completed")
        del self._open[index]
