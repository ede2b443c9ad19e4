"""The output item a response is writing: its text so far, and how it looks on the wire when added and when done."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from hotloop.protocol.hosted_items import call_item
from hotloop.protocol.items import (
    ContentPart,
    CustomToolCall,
    FunctionCall,
    HostedItem,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from hotloop.protocol.wire import json_bytes

ItemKind = Literal["message", "reasoning", "function_call", "custom_tool_call", "mcp_call"]

ID_PREFIX: dict[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "mcp_call": "mcp",
}


@dataclass(frozen=True, slots=True)
class TextLogprob:
    """Log-probability of one token of text, as the wire shows it."""

    token: bytes
    logprob: float
    top: Sequence[tuple[bytes, float]] = ()

    def as_dict(self) -> dict[str, Any]:
        """The wire's entry."""
        return {
            **_logprob_entry(self.token, self.logprob),
            "top_logprobs": [_logprob_entry(token, logprob) for token, logprob in self.top],
        }


def _logprob_entry(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": token.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(token)}


@dataclass(frozen=True, slots=True)
class Shape:
    """How one kind of item streams."""

    delta: bytes
    done: bytes
    done_field: bytes
    index: bytes = b""
    part: bytes = b""  # prefix of its one content part, up to the text; empty: the item has no part events


SHAPES: dict[str, Shape] = {
    "message": Shape(
        b"response.output_text.delta",
        b"response.output_text.done",
        b"text",
        b',"content_index":0',
        b'{"type":"output_text","annotations":[],',
    ),
    "reasoning": Shape(
        b"response.reasoning_text.delta",
        b"response.reasoning_text.done",
        b"text",
        b',"content_index":0',
        b'{"type":"reasoning_text",',
    ),
    "function_call": Shape(
        b"response.function_call_arguments.delta", b"response.function_call_arguments.done", b"arguments"
    ),
    "custom_tool_call": Shape(
        b"response.custom_tool_call_input.delta", b"response.custom_tool_call_input.done", b"input"
    ),
    "mcp_call": Shape(b"response.mcp_call_arguments.delta", b"response.mcp_call_arguments.done", b"arguments"),
}
OPEN_RESPONSES_SHAPES: dict[str, Shape] = {
    **SHAPES,
    "reasoning": replace(SHAPES["reasoning"], delta=b"response.reasoning.delta", done=b"response.reasoning.done"),
}


class OpenItem(msgspec.Struct):
    """The item being written, its text so far in pieces."""

    kind: ItemKind
    item_id: str
    call_id: str
    name: str
    phase: str | None
    namespace: str | None
    shape: Shape
    is_async: bool = False
    sealed: str | None = None
    texts: list[str] = []
    logprobs: list[dict[str, Any]] = []  # of the text so far

    def add_logprobs(self, logprobs: Sequence[TextLogprob]) -> bytes:
        """Those of the next piece, as its delta shows them."""
        entries = [entry.as_dict() for entry in logprobs]
        self.logprobs += entries
        return json_bytes(entries)

    def part(self, body: bytes) -> bytes:
        """The content part with its text, escaped, but not quoted. Only for shapes that have parts."""
        if self.kind == "reasoning":
            return b'%b"text":"%b"}' % (self.shape.part, body)
        logprobs = json_bytes(self.logprobs) if self.logprobs else b"[]"
        return b'%b"text":"%b","logprobs":%b}' % (self.shape.part, body, logprobs)

    def encoded(self, status: bytes, body: bytes = b"", part: bytes = b"") -> bytes:
        """The item as its events and the final object show it, with its text escaped, or its part where it has one."""
        item_id = self.item_id.encode()
        if self.kind == "message":
            # docs/protocol.md §4.3: shown only where the model tells commentary from the final answer
            phase = b"" if self.phase is None else b',"phase":' + json_bytes(self.phase)
            return b'{"id":"%b","type":"message","status":"%b","role":"assistant","content":[%b]%b}' % (
                item_id,
                status,
                part,
                phase,
            )
        if self.kind == "reasoning":
            sealed = b"" if self.sealed is None else b',"encrypted_content":"%b"' % self.sealed.encode()
            return b'{"id":"%b","type":"reasoning","status":"%b","summary":[],"content":[%b]%b}' % (
                item_id,
                status,
                part,
                sealed,
            )
        if self.kind == "mcp_call":
            return self._hosted("in_progress").raw
        namespace = b"" if self.namespace is None else b',"namespace":' + json_bytes(self.namespace)
        return b'{"id":"%b","type":"%b","status":"%b","call_id":"%b","name":%b,"%b":"%b"%b%b}' % (
            item_id,
            self.kind.encode(),
            status,
            self.call_id.encode(),
            json_bytes(self.name),
            self.shape.done_field,
            body,
            namespace,
            b',"async":true' if self.is_async else b"",
        )

    def as_item(self, text: str, complete: bool) -> Item:
        """The item with its whole text, as it is continued from."""
        status: Literal["completed", "incomplete"] = "completed" if complete else "incomplete"
        kind = self.kind
        if kind == "message":
            content: list[ContentPart] = [OutputText(text=text)]
            return Message(id=self.item_id, status=status, role="assistant", content=content, phase=self.phase)
        if kind == "reasoning":
            return Reasoning(
                id=self.item_id,
                status=status,
                content=[ReasoningText(text=text)],
                encrypted_content=self.sealed,
            )
        if kind == "function_call":
            return FunctionCall(
                id=self.item_id,
                status=status,
                call_id=self.call_id,
                name=self.name,
                arguments=text,
                namespace=self.namespace,
                is_async=self.is_async or None,
            )
        if kind == "mcp_call":
            return self._hosted("incomplete", text)
        return CustomToolCall(
            id=self.item_id,
            status=status,
            call_id=self.call_id,
            name=self.name,
            input=text,
            namespace=self.namespace,
            is_async=self.is_async or None,
        )

    def _hosted(self, status: Literal["in_progress", "incomplete"], text: str = "") -> HostedItem:
        """A call that is run here; its server is its namespace."""
        return call_item(
            item_id=self.item_id, label=self.namespace or "", name=self.name, arguments=text, status=status
        )
