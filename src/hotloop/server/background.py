"""Background responses: turns that belong to the server, not to the request that began them (docs/protocol.md §11.3).

    start ─▶ queued ─(a place is free)─▶ in_progress ─▶ completed │ incomplete │ failed
               └──────────── cancel ───────────┴──────▶ cancelled

A bounded number runs, a bounded number waits. The events of each are kept, bounded, so that a stream can be taken up again.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from hotloop.errors import RateLimited
from hotloop.server.connections import OpenConnections
from hotloop.server.replay import ReplayLog
from hotloop.session.principal import Principal, Tenant
from hotloop.turns.runner import TurnRunner
from hotloop.turns.turn_request import RunningTurn, TurnOutcome, TurnRequest

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0  # for an engine to acknowledge that it stopped


@dataclass(frozen=True, slots=True)
class BackgroundLimits:
    """Bounds of all background responses together."""

    running: int = 8
    waiting: int = 64
    log_bytes: int = 8 * 2**20  # events kept of one response
    logs_bytes: int = 64 * 2**20  # and of all that are over


class BackgroundRun:
    """One background response. Implements `seams.sink.Sink` and `connections.Drainable`."""

    is_paused = False  # its events go into a bounded log

    def __init__(self, principal: Principal, max_bytes: int) -> None:
        self.principal = principal
        self.response_id = ""
        self.log: ReplayLog[bytes] = ReplayLog(max_bytes, len)
        self.is_closed = False  # nobody has to listen
        self.bytes_out = 0
        self.has_place = False
        self.may_start = asyncio.Event()
        self.queued = b""  # the response object of that state
        self.accepted = asyncio.Event()  # and it can be read
        self._turn: RunningTurn | None = None

    @property
    def waiting(self) -> int:
        """1 while it has no place."""
        return 0 if self.has_place else 1

    @property
    def key(self) -> tuple[Tenant, str]:
        """Whose, and which."""
        return self.principal.tenant, self.response_id

    def push(self, events: Iterable[bytes]) -> None:
        """Keep the events."""
        for event in events:
            self.bytes_out += len(event)
            self.log.append(event)

    def created(self, turn: RunningTurn) -> None:
        """The turn was admitted."""
        self.response_id = turn.response_id
        self._turn = turn

    async def capacity(self, queued: bytes) -> None:
        """Until the turn may start, or was stopped."""
        self.queued = queued
        self.accepted.set()
        await self.may_start.wait()

    def stop(self) -> None:
        """Cancel it. No effect on one that is over."""
        if self._turn is not None:
            self._turn.cancel()
        self.may_start.set()

    def drain(self) -> None:
        """It finishes by itself."""

    def abandon(self) -> None:
        """The server waits no longer."""
        self.stop()


class BackgroundTurns:
    """All background responses of the process."""

    def __init__(self, runner: TurnRunner, open_connections: OpenConnections, limits: BackgroundLimits) -> None:
        self._runner = runner
        self._open = open_connections
        self._limits = limits
        self._tasks: dict[BackgroundRun, asyncio.Task[TurnOutcome]] = {}
        self._waiting: deque[BackgroundRun] = deque()
        self._runs: OrderedDict[tuple[Tenant, str], BackgroundRun] = OrderedDict()  # oldest first, also those over
        self._running = 0

    @property
    def running(self) -> int:
        """Turns that have a place."""
        return self._running

    @property
    def total_bytes(self) -> int:
        """Of the events kept."""
        return sum(run.log.size_bytes for run in self._runs.values())

    def __len__(self) -> int:
        return len(self._runs)

    async def start(self, turn: TurnRequest) -> BackgroundRun:
        """Begin the turn; returns when it can be read as `queued`. Raises the ApiError that refuses it."""
        limits = self._limits
        if len(self._tasks) >= limits.running + limits.waiting:
            raise RateLimited("Too many background responses are running or waiting.", retry_after_s=1)
        run = BackgroundRun(turn.principal, limits.log_bytes)
        turn.on_created, turn.capacity = run.created, run.capacity
        self._place(run)
        task = asyncio.create_task(self._run(run, turn))
        self._tasks[run] = task
        self._open.add(run)
        accepted = asyncio.create_task(run.accepted.wait())
        try:
            await asyncio.wait({task, accepted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            accepted.cancel()
        if task.done() and not run.accepted.is_set():
            error = task.result().error
            assert error is not None, "a turn that was not accepted was refused or failed"
            raise error
        self._runs[run.key] = run
        return run

    def find(self, principal: Principal, response_id: str) -> BackgroundRun | None:
        """The response while its events are kept."""
        return self._runs.get((principal.tenant, response_id))

    async def cancel(self, principal: Principal, response_id: str) -> None:
        """Stop the response, if it is not over, and wait until it is."""
        run = self.find(principal, response_id)
        if run is None or run not in self._tasks:
            return
        if run in self._waiting:
            self._waiting.remove(run)
        run.stop()
        await self._wait_over(run)

    def forget(self, principal: Principal, response_id: str) -> None:
        """Drop the events."""
        self._runs.pop((principal.tenant, response_id), None)

    async def close(self) -> None:
        """Stop everything. Idempotent."""
        self._waiting.clear()
        runs = list(self._tasks)
        for run in runs:
            run.stop()
        for run in runs:
            await self._wait_over(run)

    async def _wait_over(self, run: BackgroundRun) -> None:
        task = self._tasks.get(run)
        if task is None:
            return
        done, _ = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
        if not done:
            logger.warning("background response %s did not stop in time", run.response_id)
            task.cancel()
            await asyncio.wait({task})

    def _place(self, run: BackgroundRun) -> None:
        if self._running < self._limits.running:
            self._running += 1
            run.has_place = True
            run.may_start.set()
        else:
            self._waiting.append(run)

    async def _run(self, run: BackgroundRun, turn: TurnRequest) -> TurnOutcome:
        try:
            return await self._runner.run(turn, run)
        finally:
            run.log.finish()
            del self._tasks[run]
            self._open.remove(run)
            self._give_place(run)
            self._forget_oldest()

    def _give_place(self, run: BackgroundRun) -> None:
        if not run.has_place:
            if run in self._waiting:  # refused while it stood in the queue
                self._waiting.remove(run)
            return
        self._running -= 1
        if self._waiting:
            self._place(self._waiting.popleft())

    def _forget_oldest(self) -> None:
        over = [run for run in self._runs.values() if run not in self._tasks]
        size = sum(run.log.size_bytes for run in over)
        for run in over:
            if size <= self._limits.logs_bytes:
                return
            size -= run.log.size_bytes
            self._runs.pop(run.key)
