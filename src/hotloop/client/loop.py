"""The agent loop: ask the model, run what it calls, tell it what came of it, until it calls nothing more.

    task ──▶ turn ──calls──▶ their outputs ──▶ turn ──calls──▶ … ──no calls──▶ finished
              │ each call starts when its item is whole, while the response still streams

`Agent` owns the transport, the journal and the conversation; all its tasks live inside `run`.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from hotloop.client.calls import Approve, CallRunner, ResponseCalls
from hotloop.client.contract import INSTRUCTIONS
from hotloop.client.conversation import CallOutput, Conversation, InputText, UserMessage
from hotloop.client.errors import AgentError
from hotloop.client.events import Completed, TextDelta, Timing
from hotloop.client.journal import Call, Journal
from hotloop.client.link import Cut, Link, LinkCounters, OutputItem, Restarted, TurnEvent
from hotloop.client.progress import Message, OnProgress, Resent, Text, ignore
from hotloop.client.recovery import RETRY_DELAYS_S
from hotloop.client.spending import Clock, Outcome, Spending, Spent
from hotloop.client.tools import Tool
from hotloop.client.transport import Transport


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run is stopped although the model would go on.

    Attributes:
        max_turns: responses per run.
        max_identical_calls: the same call so often in a row is a model that goes in circles; the last one is not run.
        max_output_tokens: of each response; None leaves it to the server.
    """

    max_turns: int = 50
    max_identical_calls: int = 4
    max_output_tokens: int | None = None


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class _Turn:
    """What one response asked for and said."""

    calls: list[Call] = field(default_factory=list[Call])
    messages: list[str] = field(default_factory=list[str])
    circles: bool = False  # the model repeats itself: the run ends with this turn

    @property
    def text(self) -> str:
        return "\n".join(self.messages)


class Agent:
    """A model with tools, working on tasks in one conversation. One run at a time.

    Args:
        transport: the way to the server; closed with the agent.
        model: name, as the server lists it.
        tools: what the model may call.
        approve: asked before each call; `approve_all` for none.
        instructions: what the model is told before everything else.
        on_progress: called synchronously with each thing that happens; must not block.
        fallback: used for good once `transport` turns out to be blocked.
        retry_delays_s: back-off before each retry of a broken turn.
        clock: seconds, for the sums of `spent`.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        model: str,
        tools: Sequence[Tool],
        approve: Approve,
        instructions: str = INSTRUCTIONS,
        on_progress: OnProgress = ignore,
        fallback: Transport | None = None,
        limits: Limits = DEFAULT_LIMITS,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self._limits = limits
        self._on_progress = on_progress
        self._link = Link(transport, fallback=fallback, retry_delays_s=retry_delays_s)
        self._conversation = Conversation(
            model=model,
            instructions=instructions,
            tools=[tool.spec for tool in tools],
            max_output_tokens=limits.max_output_tokens,
        )
        self._spending = Spending(clock)
        self._runner = CallRunner(
            {str(tool.spec["name"]): tool for tool in tools},
            approve=approve,
            journal=Journal(),
            on_progress=on_progress,
            stopwatch=self._spending.tools,
        )
        self._warm = False
        self._unanswered: list[Call] = []  # calls in the conversation whose outputs have not been added yet
        self._last_call: tuple[str, str] | None = None
        self._repeats = 0

    @property
    def spent(self) -> Spent:
        """Sums over all runs so far, also after one that failed."""
        return self._spending.spent()

    @property
    def counters(self) -> LinkCounters:
        """What went over the wire so far."""
        return self._link.counters

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        await self._link.close()

    async def run(self, task: str) -> Outcome:
        """Work on a task until the model has nothing left to do, or a limit is reached.

        Cancelling it kills the tools that run, with all their processes. The conversation stays usable: the next run
        tells the model that their outcome is unknown.

        Raises:
            AgentError: the server could not be reached, refused, or failed; `spent` says what the run took until then.
        """
        with self._spending.total.running():
            if not self._warm:
                await self._warm_up()
            self._conversation.add([*self._answers(), UserMessage([InputText(task)])])
            for _ in range(self._limits.max_turns):
                turn = await self._turn()
                self._conversation.add(self._answers())
                if not turn.calls:
                    return Outcome("finished", turn.text, self.spent)
                if turn.circles:
                    return Outcome("repeated_call", turn.text, self.spent)
            return Outcome("max_turns", "", self.spent)

    async def _warm_up(self) -> None:
        with self._spending.server.running():
            for timing in await self._link.warm_up(self._conversation):
                self._spending.engine_took(timing.engine_s)
        self._warm = True

    def _answers(self) -> list[CallOutput]:
        calls, self._unanswered = self._unanswered, []
        return [self._runner.output(call) for call in calls]

    async def _turn(self) -> _Turn:
        turn = _Turn()
        failure: AgentError | None = None
        async with asyncio.TaskGroup() as group:
            calls = ResponseCalls(group, self._runner)
            try:
                with self._spending.server.running():
                    async with aclosing(self._link.turn(self._conversation)) as events:
                        async for event in events:
                            self._take(event, turn, calls)
            except AgentError as error:  # not through the group: it would come out wrapped
                failure = error
                calls.cancel()
        if failure is not None:
            raise failure
        return turn

    def _take(self, event: TurnEvent, turn: _Turn, calls: ResponseCalls) -> None:
        match event:
            case TextDelta(delta):
                self._on_progress(Text(delta))
            case OutputItem(item) if item.is_call:
                self._take_call(Call(item.type, item.call_id, item.name, item.arguments or item.input), turn, calls)
            case OutputItem(item) if item.text:
                turn.messages.append(item.text)
                self._on_progress(Message(item.text))
            case OutputItem():
                pass
            case Timing(engine_s):
                self._spending.engine_took(engine_s)
            case Completed(response):
                self._spending.turn_ended(response.usage)
            case Restarted(reason):
                turn.messages.clear()
                self._on_progress(Resent(reason, void=True))
            case Cut(reason):
                self._spending.turn_ended(None)
                self._on_progress(Resent(reason, void=False))

    def _take_call(self, call: Call, turn: _Turn, calls: ResponseCalls) -> None:
        turn.calls.append(call)
        self._unanswered.append(call)
        same = (call.name, call.arguments)
        self._repeats = self._repeats + 1 if same == self._last_call else 1
        self._last_call = same
        turn.circles = turn.circles or self._repeats >= self._limits.max_identical_calls
        if not turn.circles:
            calls.start(call)
