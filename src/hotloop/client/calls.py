"""Running the calls of one response: each starts the moment it is whole, and each gets an output.

An unknown tool, bad arguments, a refusal and a tool that breaks are told to the model as text, and the loop goes on.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from hotloop.client.contract import DECLINED
from hotloop.client.conversation import CallOutput
from hotloop.client.journal import Call, Journal
from hotloop.client.progress import CallFinished, CallStarted, OnProgress
from hotloop.client.spending import Stopwatch
from hotloop.client.tools import BadArguments, Invocation, Tool, ToolResult

Approve = Callable[[Call, Invocation], Awaitable[bool]]
"""Whether this call may run. Asked once per call, perhaps for several at a time."""

log = logging.getLogger(__name__)


async def approve_all(call: Call, invocation: Invocation) -> bool:
    """For runs whose owner trusts the model, or has it locked in."""
    return True


class CallRunner:
    """What every response of an agent shares when its calls are run.

    Args:
        tools: by name.
        stopwatch: runs while any tool does; the time of asking for approval is not a tool's.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        *,
        approve: Approve,
        journal: Journal,
        on_progress: OnProgress,
        stopwatch: Stopwatch,
    ) -> None:
        self._tools = tools
        self._approve = approve
        self._journal = journal
        self._on_progress = on_progress
        self._stopwatch = stopwatch

    def is_parallel(self, call: Call) -> bool:
        tool = self._tools.get(call.name)
        return tool is None or tool.parallel

    def output(self, call: Call) -> CallOutput:
        """The call's answer, for the model."""
        return CallOutput(f"{call.kind}_output", call.call_id, self._journal.output(call))

    async def run(self, call: Call) -> None:
        """Run the call, once and never again; its output is in the journal then."""
        if not self._journal.begin(call):
            return
        started = time.monotonic()
        invocation: Invocation | None = None
        try:
            invocation = self._prepare(call)
            if await self._approve(call, invocation):
                self._on_progress(CallStarted(call.call_id, call.name, call.arguments, invocation.summary))
                started = time.monotonic()
                result = await self._invoke(call, invocation)
            else:
                result = ToolResult(DECLINED, "declined")
        except BadArguments as error:
            result = ToolResult(f"error: {error}", "error")
        self._journal.finish(call, result.output)
        self._on_progress(
            CallFinished(
                call_id=call.call_id,
                name=call.name,
                arguments=call.arguments,
                summary=invocation.summary if invocation else call.arguments,
                state=result.state,
                output=result.output,
                seconds=time.monotonic() - started,
            )
        )

    def _prepare(self, call: Call) -> Invocation:
        tool = self._tools.get(call.name)
        if tool is None:
            raise BadArguments(f"there is no tool {call.name!r}; the tools are {', '.join(self._tools) or 'none'}")
        return tool.prepare(call.arguments)

    async def _invoke(self, call: Call, invocation: Invocation) -> ToolResult:
        try:
            with self._stopwatch.running():
                return await invocation.run()
        except Exception as error:  # a tool is foreign code: its bug is this call's output, not the run's end
            log.exception("tool failed", extra={"tool": call.name, "call_id": call.call_id})
            return ToolResult(f"error: the tool failed: {type(error).__name__}: {error}", "error")


class ResponseCalls:
    """The calls of one response.

    Calls of parallel tools run beside each other. Any other call has the tools to itself: it waits for all before it
    and holds up all after it.
    """

    def __init__(self, group: asyncio.TaskGroup, runner: CallRunner) -> None:
        self._group = group
        self._runner = runner
        self._calls: list[Call] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._last_exclusive = 0  # number of tasks up to and with the last exclusive one

    def start(self, call: Call) -> None:
        """Run the call as soon as its turn comes, as a task of the group."""
        parallel = self._runner.is_parallel(call)
        earlier = self._tasks[: self._last_exclusive] if parallel else list(self._tasks)
        self._calls.append(call)
        self._tasks.append(self._group.create_task(self._run(call, earlier)))
        if not parallel:
            self._last_exclusive = len(self._tasks)

    def cancel(self) -> None:
        """Stop all that is running; for a response that will have no next turn."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, call: Call, earlier: list[asyncio.Task[None]]) -> None:
        if earlier:
            await asyncio.wait(earlier)
        await self._runner.run(call)
