"""One response as a stream of events: the right order, the right numbers, as bytes (docs/protocol.md §3).

    NEW ─created─▶ RUNNING ─open─▶ ITEM OPEN ─close│interrupt─▶ RUNNING ─completed│failed│incomplete─▶ OVER
                                    └─delta─┘

Every method returns complete JSON events, ready for a WebSocket message or an SSE `data:` line; each begins with
`{"type":"…"`. A delta costs one template and one escape; an item's text is encoded once more, when it is closed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from hotloop.errors import ApiError
from hotloop.protocol.hosted_items import request_item
from hotloop.protocol.items import Compaction, CustomToolCall, FunctionCall, HostedItem, Item, OwedItem, SettingItem
from hotloop.protocol.open_item import ID_PREFIX, OPEN_RESPONSES_SHAPES, SHAPES, ItemKind, OpenItem, TextLogprob
from hotloop.protocol.pending_item import Pending
from hotloop.protocol.typed_calls import CALL_ID_PREFIXES, typed_call
from hotloop.protocol.wire import json_bytes

IncompleteReason = Literal["max_output_tokens", "content_filter", "steered", "interrupted"]
ReasoningEvents = Literal["openai", "open_responses"]  # whose names raw reasoning streams under (docs/protocol.md §3.2)
NewId = Callable[[str], str]  # prefix, such as `msg` → a fresh unique id


class ResponseUsage(msgspec.Struct, frozen=True):
    """Token counts as the wire shows them (docs/protocol.md §8.1)."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int

    def encoded(self) -> bytes:
        """The `usage` object."""
        return (
            b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d,"cache_write_tokens":0},'
            b'"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":%d},"total_tokens":%d}'
        ) % (
            self.input_tokens,
            self.cached_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.input_tokens + self.output_tokens,
        )


class ResponseEnding(msgspec.Struct, frozen=True):
    """How a response ended, as far as what follows it cares."""

    status: Literal["completed", "incomplete", "failed"]
    reason: IncompleteReason | None  # of an incomplete one
    calls: tuple[OwedItem, ...]  # whole calls in its output: the client owes their outputs, or its consent
    next_sequence: int  # number of a further event of the response: an acknowledgement that comes late


class ResponseStream:
    """Turns what happens in one turn into its events.

    Args:
        response_id: id of the response.
        created_at: whole seconds since the epoch.
        echo: what the object repeats of the request (`protocol.echo.request_echo`).
        new_id: source of fresh item and call ids.
        stream_id: the lane's name; None on the default lane and over HTTP.
        reasoning_events: names of the events of raw reasoning.
        seal: closes the text of a reasoning item for its `encrypted_content`; None leaves that out.
    """

    def __init__(
        self,
        *,
        response_id: str,
        created_at: int,
        echo: bytes,
        new_id: NewId,
        stream_id: str | None = None,
        reasoning_events: ReasoningEvents = "openai",
        seal: Callable[[str], str] | None = None,
    ) -> None:
        self.response_id = response_id
        self.is_running = False  # created, and no ending was made
        self.held: list[str] = []  # text of the open item that is no event yet
        self.pending: dict[int, Pending] = {}  # items that are added and done later, by their place in the output
        self.output: list[Item] = []  # items closed so far, as they are continued from
        self.created_at = created_at
        self._start = b'{"id":"%b","object":"response","created_at":%d,"completed_at":' % (
            response_id.encode(),
            created_at,
        )
        self._echo = echo
        self._new_id = new_id
        self._seal = seal
        self._lane = b"" if stream_id is None else b',"stream_id":' + json_bytes(stream_id)
        self._shapes = SHAPES if reasoning_events == "openai" else OPEN_RESPONSES_SHAPES
        self._sequence = 0
        self._is_over = False
        self._where = b""  # the open item's place, as its events give it
        self._output_bytes: list[bytes] = []
        self._calls: list[OwedItem] = []  # whole ones in the output
        self._item: OpenItem | None = None
        self._delta = (
            b""  # template of the open item's deltas: number and text, quoted; messages: log-probabilities too
        )
        self._held: list[tuple[bytes, bytes]] | None = None  # asides that wait for the terminal event to be sent
        self._reason: IncompleteReason | None = None
        self._status: Literal["completed", "incomplete", "failed"] = "completed"
        self.final: bytes = b""  # the terminal response object, once there is one

    @property
    def has_open_item(self) -> bool:
        """An item was added and is not done."""
        return self._item is not None

    @property
    def has_output(self) -> bool:
        """Something the model wrote has been turned into events."""
        return bool(self.output) or (self._item is not None and bool(self._item.texts or self.held))

    def begin(self) -> list[bytes]:
        """`created` and `in_progress`, for a turn that starts at once."""
        assert not self.is_running and not self._is_over, "created twice"
        self.is_running = True
        self._sequence = 2
        parts = (self._lane, self._object(b"in_progress", output=False))
        return [
            b'{"type":"response.created","sequence_number":0%b,"response":%b}' % parts,
            b'{"type":"response.in_progress","sequence_number":1%b,"response":%b}' % parts,
        ]

    def queued(self) -> list[bytes]:
        """The first events of a response that waits for capacity; `in_progress` follows when it starts."""
        assert not self.is_running and not self._is_over, "created twice"
        self.is_running = True
        return [self._snapshot(kind, b"queued") for kind in (b"response.created", b"response.queued")]

    def snapshot(self, status: Literal["queued", "in_progress"]) -> bytes:
        """The response object before its end."""
        return self._object(status.encode(), output=False)

    def in_progress(self) -> bytes:
        """The parent is bound, work starts. May be repeated as a keep-alive."""
        assert self.is_running, "not running"
        return self._snapshot(b"response.in_progress")

    def open_item(
        self,
        kind: ItemKind,
        name: str = "",
        phase: str | None = None,
        namespace: str | None = None,
        *,
        is_async: bool = False,
    ) -> list[bytes]:
        """An item begins; `name` is the tool's, for calls, `phase` a message's, where the model tells phases apart."""
        assert self.is_running and self._item is None, "an item is open, or nothing runs"
        item_id = self._new_id(ID_PREFIX[kind])
        call_id = self._new_id("call") if kind in ("function_call", "custom_tool_call") else ""
        shape = self._shapes[kind]
        self._item = item = OpenItem(kind, item_id, call_id, name, phase, namespace, shape, is_async)
        number, index, lane = self._sequence, len(self.output), self._lane
        self._where = where = b',"item_id":"%b","output_index":%d%b' % (item_id.encode(), index, shape.index)
        self._delta = b'{"type":"%b","sequence_number":%%d%b%b,"delta":%%b%b}' % (
            shape.delta,
            lane,
            where,
            b',"logprobs":%b' if kind == "message" else b"",
        )
        added = b'{"type":"response.output_item.added","sequence_number":%d%b,"output_index":%d,"item":%b}' % (
            number,
            lane,
            index,
            item.encoded(b"in_progress"),
        )
        if not shape.part:
            self._sequence = number + 1
            return [added]
        self._sequence = number + 2
        part = b'{"type":"response.content_part.added","sequence_number":%d%b%b,"part":%b}' % (
            number + 1,
            lane,
            where,
            item.part(b""),
        )
        return [added, part]

    def delta(self, text: str, logprobs: Sequence[TextLogprob] = ()) -> bytes:
        """The next piece of the open item."""
        item = self._item
        assert item is not None, "delta without an open item"
        item.texts.append(text)
        number = self._sequence
        self._sequence = number + 1
        if item.kind != "message":
            return self._delta % (number, json_bytes(text))
        return self._delta % (number, json_bytes(text), item.add_logprobs(logprobs) if logprobs else b"[]")

    def hold(self, text: str) -> None:
        """The next piece of the open item, for a client that does not read now: kept as text, which is short."""
        assert self._item is not None, "text without an open item"
        self.held.append(text)

    def release(self) -> list[bytes]:
        """What was held, as one delta. Must come before the next one; closing the item releases too."""
        if not self.held:
            return []
        text = "".join(self.held)
        self.held.clear()
        return [self.delta(text)]

    def close_item(self, *, complete: bool = True) -> list[bytes]:
        """The open item is over; its final form joins the output."""
        item = self._item
        assert item is not None, "close without an open item"
        events = self.release() if self.held else []
        kind, shape, lane, index = item.kind, item.shape, self._lane, len(self.output)
        if not item.texts and complete and kind in ("function_call", "mcp_call"):
            events.append(self.delta("{}"))  # arguments are always JSON; an older conformance case asserts one delta
        text = "".join(item.texts)
        body = json_bytes(text)[1:-1]
        number = self._sequence
        extra = b""
        if kind == "message":
            extra = b',"logprobs":%b' % json_bytes(item.logprobs) if item.logprobs else b',"logprobs":[]'
        events.append(
            b'{"type":"%b","sequence_number":%d%b%b,"%b":"%b"%b}'
            % (
                shape.done,
                number,
                lane,
                self._where,
                shape.done_field,
                body,
                extra,
            )
        )
        part = b""
        if shape.part:
            number += 1
            part = item.part(body)
            events.append(
                b'{"type":"response.content_part.done","sequence_number":%d%b%b,"part":%b}'
                % (number, lane, self._where, part)
            )
        if kind == "mcp_call":
            self._sequence, self._item = number + 1, None
            return events + self._written_call(item, text, complete)
        if kind == "reasoning" and self._seal is not None:
            item.sealed = self._seal(text)
        final = item.encoded(b"completed" if complete else b"incomplete", body, part)
        number += 1
        events.append(
            b'{"type":"response.output_item.done","sequence_number":%d%b,"output_index":%d,"item":%b}'
            % (number, lane, index, final)
        )
        self._sequence = number + 1
        self._item = None
        self._add_output(item.as_item(text, complete), final)
        return events

    def open_hosted_call(self, label: str, name: str) -> list[bytes]:
        """A call begins that is run here: once it is written it is `pending`, until it is `settle`d."""
        events = self.open_item("mcp_call", name, None, label)
        return [*events, self._event(b"response.mcp_call.in_progress", self._where)]

    def _written_call(self, item: OpenItem, text: str, complete: bool) -> list[bytes]:
        pending = Pending(len(self.output), item.item_id, item.namespace or "", item.name, text)
        self._wait_for(pending)
        return [] if complete else self.settle(pending, pending.cut_off(), None)

    def work_on(self, item: Pending, opened: bytes) -> list[bytes]:
        """An item that nobody writes is added, with the event that says so; it is `pending` until it is `settle`d."""
        assert self.is_running and self._item is None, "an item is open, or nothing runs"
        where = b',"output_index":%d,"item":%b' % (item.index, item.begun().raw)
        self._wait_for(item)
        return [self._event(b"response.output_item.added", where), self.about(item, opened)]

    def about(self, item: Pending, kind: bytes, rest: bytes = b"") -> bytes:
        """An event of an item that is pending. `rest` begins with a comma."""
        return self._event(kind, b',"item_id":"%b","output_index":%d%b' % (item.item_id.encode(), item.index, rest))

    def settle(self, item: Pending, final: HostedItem | SettingItem, outcome: bytes | None) -> list[bytes]:
        """The item is done; the event `outcome` says how, where it has one."""
        del self.pending[item.index]
        self.output[item.index] = final
        self._output_bytes[item.index] = final.raw
        events = [] if outcome is None else [self.about(item, outcome)]
        done = b',"output_index":%d,"item":%b' % (item.index, final.raw)
        return [*events, self._event(b"response.output_item.done", done)]

    def _wait_for(self, item: Pending) -> None:
        begun = item.begun()
        self.pending[item.index] = item
        self._add_output(begun, begun.raw)

    def close_open(self, *, complete: bool) -> list[bytes]:
        """Whatever was added and is not done is over; what still waited for its result has none."""
        events = self.close_item(complete=complete) if self._item is not None else []
        for pending in list(self.pending.values()):
            events += self.settle(pending, pending.cut_off(), None)
        return events

    def approval_request(self, label: str, name: str, arguments: str) -> list[bytes]:
        """A call that waits for the client's consent."""
        assert self.is_running and self._item is None, "an item is open, or nothing runs"
        item = request_item(item_id=self._new_id("mcpr"), label=label, name=name, arguments=arguments)
        self._calls.append(item)
        return self._whole_item(item.raw, item.raw, item)

    def whole_call(self, kind: str, fields: Mapping[str, Any]) -> list[bytes]:
        """A call of a typed tool, which exists only once it is whole."""
        assert self.is_running and self._item is None, "an item is open, or nothing runs"
        item = typed_call(kind, self._new_id(CALL_ID_PREFIXES[kind]), self._new_id("call"), fields)
        return self._whole_item(item.raw.replace(b'"completed"', b'"in_progress"', 1), item.raw, item)

    def compaction(self, item: Compaction) -> list[bytes]:
        """The context was compacted; `item` stands for what was left out (docs/protocol.md §3.2)."""
        assert self.is_running and self._item is None, "an item is open, or nothing runs"
        assert item.id is not None
        stub = b'{"id":"%b","type":"compaction","encrypted_content":""}' % item.id.encode()
        return self._whole_item(stub, item.raw, item, b',"item_id":"%b"' % item.id.encode())

    def _whole_item(self, stub: bytes, final: bytes, item: Item, compacting: bytes = b"") -> list[bytes]:
        where = b',"output_index":%d' % len(self.output)
        events = [self._event(b"response.output_item.added", b'%b,"item":%b' % (where, stub))]
        if compacting:
            events.append(self._event(b"response.compaction.compacting", where + compacting))
        events.append(self._event(b"response.output_item.done", b'%b,"item":%b' % (where, final)))
        self._add_output(item, final)
        return events

    def _add_output(self, item: Item, final: bytes) -> None:
        self._output_bytes.append(final)
        self.output.append(item)
        if isinstance(item, FunctionCall | CustomToolCall) and item.status == "completed" and not item.is_async:
            self._calls.append(item)

    def interrupt(self) -> list[bytes]:
        """The client breaks in: acknowledged, and the open item is taken back (docs/protocol.md §9.2)."""
        assert self.is_running, "not running"
        response = b',"response_id":"%b"' % self.response_id.encode()
        events = [self._event(b"response.interrupt.accepted", response)]
        item = self._item
        if item is not None:
            where = b'%b,"item_id":"%b","output_index":%d' % (response, item.item_id.encode(), len(self.output))
            events.append(self._event(b"response.output_item.interrupted", where))
            self._item = None
            self.held.clear()
        return events

    def aside(self, kind: bytes, fields: bytes) -> list[bytes]:
        """An event beside the output: an acknowledgement. `fields` begins with a comma.

        None while an ending was made and is not sent: `settled` gives it then, numbered behind the ending.
        """
        if self._held is None:
            return [self._event(kind, fields)]
        self._held.append((kind, fields))
        return []

    def settled(self) -> list[bytes]:
        """The terminal event was sent: the asides that waited for it."""
        held, self._held = self._held, None
        return [self._event(kind, fields) for kind, fields in held] if held else []

    def ending(self) -> ResponseEnding:
        """How it ended, once it has."""
        assert self._is_over, "no ending was made"
        return ResponseEnding(self._status, self._reason, tuple(self._calls), self._sequence)

    def completed(self, usage: ResponseUsage, completed_at: int) -> bytes:
        """The terminal event of a turn that ran to its end."""
        self._status, self._reason = "completed", None
        return self._terminal(b"completed", usage, completed_at=completed_at)

    def incomplete(self, reason: IncompleteReason, usage: ResponseUsage) -> bytes:
        """The terminal event of a turn that was cut."""
        self._status, self._reason = "incomplete", reason
        return self._terminal(b"incomplete", usage, details=b'{"reason":"%b"}' % reason.encode())

    def failed(self, error: ApiError, usage: ResponseUsage | None) -> bytes:
        """The terminal event of a turn that failed after admission."""
        self._status, self._reason = "failed", None
        failure: dict[str, Any] = {"type": error.type, "code": error.code, "message": error.message}
        if error.param is not None:
            failure["param"] = error.param
        if error.retry_after_s is not None:
            failure["headers"] = {"retry-after": f"{error.retry_after_s:g}"}
        return self._terminal(b"failed", usage, error=json_bytes(failure))

    def cancelled(self, usage: ResponseUsage) -> None:
        """The response was cancelled: the object exists, no event tells of it."""
        self._terminal(b"cancelled", usage)

    def retract(self, events: int = 1) -> None:
        """The last `events`, up to the terminal one just made, were not sent: another ending takes their numbers."""
        assert self._is_over, "no ending was made"
        self.is_running, self._is_over = True, False
        self._sequence -= events

    def extension(self, kind: str, fields: dict[str, Any]) -> bytes:
        """An event of ours, prefixed `hotloop:`; clients may ignore it."""
        body = json_bytes(fields)[1:-1]
        return self._event(kind.encode(), b"," + body if body else b"")

    def _terminal(
        self,
        status: bytes,
        usage: ResponseUsage | None,
        *,
        completed_at: int | None = None,
        error: bytes = b"null",
        details: bytes = b"null",
    ) -> bytes:
        assert self.is_running and self._item is None, "an item is open, or nothing runs"
        self.is_running, self._is_over = False, True
        self._held = self._held or []
        self.final = self._object(
            status,
            completed_at=completed_at,
            error=error,
            details=details,
            usage=b"null" if usage is None else usage.encoded(),
        )
        return self._event(b"response." + status, b',"response":' + self.final)

    def _snapshot(self, kind: bytes, status: bytes = b"in_progress") -> bytes:
        return self._event(kind, b',"response":' + self._object(status, output=False))

    def _event(self, kind: bytes, rest: bytes) -> bytes:
        number = self._sequence
        self._sequence = number + 1
        return b'{"type":"%b","sequence_number":%d%b%b}' % (kind, number, self._lane, rest)

    def _object(
        self,
        status: bytes,
        *,
        output: bool = True,
        completed_at: int | None = None,
        error: bytes = b"null",
        details: bytes = b"null",
        usage: bytes = b"null",
    ) -> bytes:
        return b'%b%b,"status":"%b","error":%b,"incomplete_details":%b,"output":[%b],"usage":%b,%b}' % (
            self._start,
            b"null" if completed_at is None else b"%d" % completed_at,
            status,
            error,
            details,
            b",".join(self._output_bytes) if output else b"",
            usage,
            self._echo,
        )
