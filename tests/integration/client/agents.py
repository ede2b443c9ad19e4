"""What the tests of the agent share: making one for a wire, over either transport, and a tool that is no process."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.integration.client.recorded_wire import RecordedWire

from hotloop.client import Agent, HttpTransport, Invocation, Limits, Tool, ToolResult, WebSocketTransport, approve_all
from hotloop.client.calls import Approve
from hotloop.client.progress import OnProgress, ignore
from hotloop.client.transport import Transport

Kind = Literal["ws", "http"]
PATIENCE_S = 60.0  # a test that waits longer has hung


@dataclass
class Note:
    """A tool that notes what it is called with, and waits for `release` if there is one."""

    name: str = "note"
    parallel: bool = True
    release: asyncio.Event | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    notes: list[str] = field(default_factory=list[str])
    on_run: Callable[[str], None] = lambda _: None

    @property
    def spec(self) -> Mapping[str, Any]:
        return {"type": "function", "name": self.name, "parameters": {"type": "object", "properties": {}}}

    def prepare(self, arguments: str) -> Invocation:
        return Invocation(f"note {arguments}", lambda: self._run(arguments))

    async def _run(self, arguments: str) -> ToolResult:
        self.notes.append(arguments)
        self.on_run(arguments)
        self.started.set()
        if self.release is not None:
            await self.release.wait()
        return ToolResult(f"noted {arguments}")


def make_transport(kind: Kind, wire: RecordedWire, *, silence_s: float = 60.0) -> Transport:
    if kind == "http":
        return HttpTransport(wire.url, silence_s=silence_s)
    return WebSocketTransport(wire.url, silence_s=silence_s)


def make_agent(
    transport: Transport,
    *tools: Tool,
    approve: Approve = approve_all,
    fallback: Transport | None = None,
    limits: Limits | None = None,
    on_progress: OnProgress = ignore,
    retry_delays_s: Sequence[float] = (0.0, 0.0),
    model: str = "tiny",
) -> Agent:
    return Agent(
        transport,
        model=model,
        instructions="Be brief.",
        tools=tools,
        approve=approve,
        fallback=fallback,
        limits=limits or Limits(),
        on_progress=on_progress,
        retry_delays_s=tuple(retry_delays_s),
    )
