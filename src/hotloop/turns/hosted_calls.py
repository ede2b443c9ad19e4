"""What a turn does with tool servers: lists their tools, runs the calls of its output, tells of both (docs/hosted-tools.md).

    list ── all servers that the chain does not know, at once ──▶ mcp_list_tools items
    call ── those of one output, several at once ──▶ mcp_call items, each with its output or error

Whatever a server does, an item is what comes of it. A stop from outside ends what still runs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from hotloop.errors import ApiError, ContentBlocked
from hotloop.protocol.hosted_items import as_answered, list_item, tools_listed
from hotloop.protocol.hosted_tool import ServerTool
from hotloop.protocol.items import FunctionCallOutput, HostedItem
from hotloop.protocol.pending_item import Pending
from hotloop.protocol.response import NewId
from hotloop.protocol.tool_schema import schema_problem
from hotloop.protocol.wire import json_bytes
from hotloop.seams.hosted_tools import CallOutcome, OfferedTool, ToolLimits, ToolServerError, ToolServers
from hotloop.turns.output import TurnOutput
from hotloop.turns.record import TurnRecord, monotonic

logger = logging.getLogger(__name__)

MAX_ARGUMENT_DEPTH = 100
_STOPPED = {
    "type": "mcp_protocol_error",
    "code": -32800,  # LSP's RequestCancelled; MCP has none of its own
    "message": "The call was stopped before it was finished; what it did is not known.",
}
_TOO_MANY = {
    "type": "mcp_protocol_error",
    "code": -32603,
    "message": "The call was not run: this response has made all of its tool calls (max_tool_calls).",
}


class HostedCalls:
    """The dealings of one turn. `discard` it when the turn is over."""

    def __init__(
        self,
        servers: ToolServers,
        asked: Sequence[ServerTool],
        output: TurnOutput,
        record: TurnRecord,
        max_calls: int | None,
    ) -> None:
        self.limits: ToolLimits = servers.limits
        self.fallbacks: Sequence[str] = ()
        self._visit = servers.visit()
        self._servers = {server.label: server for server in asked}
        self._output = output
        self._record = record
        self._calls_left = max_calls
        self._running: set[asyncio.Task[None]] = set()

    @property
    def may_call(self) -> bool:
        """Some calls may still be made."""
        return self._calls_left is None or self._calls_left > 0

    async def list_tools(self, servers: Sequence[ServerTool], new_id: NewId) -> None:
        """List the servers' tools."""
        stream = self._output.stream
        waiting: list[tuple[Pending, ServerTool]] = []
        for server in servers:
            pending = Pending(len(stream.output), new_id("mcpl"), server.label)
            self._output.sink.push(stream.work_on(pending, b"response.mcp_list_tools.in_progress"))
            waiting.append((pending, server))
        await self._all([self._list(pending, server) for pending, server in waiting])
        for pending, server in waiting:
            if pending.index in stream.pending:  # stopped before it began
                self._listed(pending, server, [], "it was stopped")

    async def run(self, calls: Sequence[Pending]) -> list[FunctionCallOutput]:
        """Run the calls; the outputs as the model is told of them, in the order of the calls. Raises ContentBlocked."""
        places = asyncio.Semaphore(self.limits.parallel_calls)
        await self._all([self._call(pending, self._takes_place(), places) for pending in calls])
        for pending in calls:
            if pending.index in self._output.stream.pending:  # stopped before it began
                self._called(pending, CallOutcome(error=_STOPPED))
        items = [self._output.stream.output[pending.index] for pending in calls]
        answers = [as_answered(item) for item in items if isinstance(item, HostedItem)]
        return [answer for answer in answers if answer is not None]

    def abort(self) -> None:
        """Stop what runs."""
        for task in self._running:
            task.cancel()

    def discard(self) -> None:
        """Stop, and leave the servers."""
        self.abort()
        self._visit.leave()

    async def _all(self, work: "list[Coroutine[Any, Any, None]]") -> None:
        """Do all of it at once. Raises the first ApiError that one of them raises, the others stopped."""
        started = monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one) for one in work]
                self._running.update(tasks)
        except* ApiError as errors:
            raise _first(errors) from None
        finally:
            self._record.hosted_s += monotonic() - started
            self._running.clear()

    def _takes_place(self) -> bool:
        if self._calls_left is None:
            return True
        self._calls_left -= 1
        return self._calls_left >= 0

    async def _list(self, pending: Pending, server: ServerTool) -> None:
        problem: str | None = None
        tools: list[dict[str, Any]] = []
        try:
            tools = _shown(await self._visit.list_tools(server))
            self._judge(_told_by(tools))
        except ToolServerError as error:
            problem = str(error)
        except ContentBlocked:
            tools, problem = [], "what it says of them is not allowed by this server's policy"
        except asyncio.CancelledError:
            if self._output.stopped is None:
                raise
            problem = "it was stopped"
        except Exception:
            logger.exception("an MCP server's tools could not be listed")
            problem = "something went wrong on this side"
        self._listed(pending, server, tools, problem)

    def _listed(
        self, pending: Pending, server: ServerTool, tools: Sequence[Mapping[str, Any]], problem: str | None
    ) -> None:
        if pending.index not in self._output.stream.pending:
            return  # the response ended before
        kind = b"response.mcp_list_tools.completed" if problem is None else b"response.mcp_list_tools.failed"
        if problem is not None:
            problem = f"The tools of '{server.label}' could not be listed: {problem}."
        item = list_item(item_id=pending.item_id, label=pending.label, tools=tools, error=problem)
        self._output.sink.push(self._output.stream.settle(pending, item, kind))
        self._count(server, "list", "completed" if problem is None else "failed")

    async def _call(self, pending: Pending, is_allowed: bool, places: asyncio.Semaphore) -> None:
        server = self._servers.get(pending.label)
        outcome: CallOutcome
        try:
            if self._output.stopped is not None:
                outcome = CallOutcome(error=_STOPPED)
            elif not is_allowed:
                outcome = CallOutcome(error=_TOO_MANY)
            else:
                async with places:
                    outcome = await self._outcome(pending, server)
        except asyncio.CancelledError:
            if self._output.stopped is None:
                raise
            outcome = CallOutcome(error=_STOPPED)
        self._called(pending, outcome)

    def _called(self, pending: Pending, outcome: CallOutcome) -> None:
        """The call is done. Raises ContentBlocked where its output must not be used."""
        if pending.index not in self._output.stream.pending:
            return  # the response ended before
        has_failed = outcome.error is not None
        item = pending.call("failed" if has_failed else "completed", outcome.output, outcome.error)
        answer = as_answered(item)
        if answer is not None:
            self._judge(answer)
        kind = b"response.mcp_call.failed" if has_failed else b"response.mcp_call.completed"
        self._output.sink.push(self._output.stream.settle(pending, item, kind))
        stopped = outcome.error is _STOPPED
        self._count(
            self._servers.get(pending.label), "call", "stopped" if stopped else "failed" if has_failed else "completed"
        )

    async def _outcome(self, pending: Pending, server: ServerTool | None) -> CallOutcome:
        if server is None:
            return _failed(f"The request names no server '{pending.label}'.")
        arguments = _object_of(pending.arguments or "{}")
        if arguments is None:
            return _failed("The arguments are not a JSON object.")
        try:
            return await self._visit.call(server, pending.name, arguments)
        except Exception:
            logger.exception("a call of an MCP server's tool failed on this side")
            return _failed("Something went wrong on this side.")

    def _judge(self, answer: FunctionCallOutput) -> None:
        """What a server says is new input like any other. Raises ContentBlocked."""
        try:
            self._output.gate.check_input([answer])
        except ContentBlocked:
            raise ContentBlocked("The output of a tool is not allowed by this server's policy.") from None

    def _count(self, server: ServerTool | None, action: str, outcome: str) -> None:
        # Clients choose the labels of servers that they name by URL: those would be metrics without end.
        label = "" if server is None or server.url is not None else server.label
        self._record.hosted = (*self._record.hosted, (label, action, outcome))


_object_decoder = msgspec.json.Decoder(dict[str, Any])


def _object_of(text: str) -> dict[str, Any] | None:
    """The object, if it is one that can be sent on: real JSON, and not so deep that writing it fails."""
    depth = deepest = 0
    for sign in text:  # brackets in strings count, too: no tool's arguments come near the bound
        depth += (sign in "[{") - (sign in "]}")
        deepest = max(deepest, depth)
    if deepest > MAX_ARGUMENT_DEPTH:
        return None
    try:
        return _object_decoder.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _failed(message: str) -> CallOutcome:
    return CallOutcome(error={"type": "mcp_protocol_error", "code": -32602, "message": message})


def _first(errors: "BaseExceptionGroup[ApiError]") -> ApiError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _told_by(tools: Sequence[Mapping[str, Any]]) -> FunctionCallOutput:
    """What a model is told of the tools, as one text."""
    return FunctionCallOutput(call_id="", output=json_bytes(tools).decode())


def _shown(tools: Sequence[OfferedTool]) -> list[dict[str, Any]]:
    """The tools as the item shows them. Raises ToolServerError for one that cannot be offered."""
    names: set[str] = set()
    for tool in tools:
        problem = schema_problem(tool.input_schema)
        if problem is not None:
            raise ToolServerError(f"the schema of its tool '{tool.name[:100]}' cannot be used: {problem}")
        if not tool.name or len(tool.name) > 256 or tool.name in names:
            raise ToolServerError("it has two tools of one name, or one without a usable name")
        names.add(tool.name)
    shown: list[dict[str, Any]] = []
    for tool in tools:
        fields = {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
        # What a server does not say is left out: not every client takes a null for it.
        known = {**fields, "annotations": tool.annotations}
        shown.append({key: value for key, value in known.items() if value is not None})
    with contextlib.suppress(ValueError, RecursionError, OverflowError):
        tools_listed(json_bytes(shown))
        return shown
    raise ToolServerError("its list of tools is no text that can be sent on")
