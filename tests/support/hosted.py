"""A toy pipeline whose requests may use tools that run in this process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import END, RESULT, USER, call
from tests.support.turns import Pipeline, RecordingSink

from hotloop.seams.hosted_tools import OfferedTool, ToolLimits
from hotloop.tool_servers.local import LocalServers, LocalTool
from hotloop.turns.runner import TurnRunner

Tool = Callable[[Mapping[str, Any]], Awaitable[str]]
CLIENT_TOOL = {"type": "function", "name": "run", "parameters": {"type": "object"}}
LOOK_A, LOOK_B = call("files__look", '{"key":"a"}'), call("files__look", '{"key":"b"}')
SCHEMA = {"type": "object", "properties": {"key": {"type": "string"}}}


def server(label: str = "files", require_approval: Any = "never", **fields: Any) -> dict[str, Any]:
    """The server as a request names it."""
    return {"type": "mcp", "server_label": label, "require_approval": require_approval, **fields}


def offered(name: str, run: Tool, **fields: Any) -> LocalTool:
    """A tool of a server."""
    return OfferedTool(name, f"Does {name}.", fields.pop("schema", SCHEMA), **fields), run


async def look(arguments: Mapping[str, Any]) -> str:
    """A tool that answers at once."""
    return f"<{arguments.get('key', '')}>"


async def fail(arguments: Mapping[str, Any]) -> str:
    """A tool that fails."""
    raise ValueError("no such key")


class Held:
    """A tool whose calls wait until they are let go; it notes what becomes of them."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.stopped: list[Any] = []
        self.has_begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, arguments: Mapping[str, Any]) -> str:
        key = arguments.get("key")
        self.begun.append(key)
        self.has_begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.stopped.append(key)
            raise
        return f"<{key}>"


def by_results(*outputs: Sequence[int]) -> ToyEngine:
    """An engine whose model says one of the outputs: by how many results stand behind the newest user message."""

    def reply(prompt: list[int]) -> Sequence[int]:
        newest = len(prompt) - prompt[::-1].index(USER) if USER in prompt else 0
        return outputs[min(prompt[newest:].count(RESULT), len(outputs) - 1)]

    return ToyEngine(reply)


def hosted_pipeline(
    engine: ToyEngine,
    servers: Mapping[str, Sequence[LocalTool]] | None = None,
    limits: ToolLimits | None = None,
    **fields: Any,
) -> tuple[Pipeline, LocalServers]:
    """The pipeline, and the servers it may use."""
    pipeline = Pipeline(engine, **fields)
    known = servers or {"files": [offered("look", look), offered("fail", fail)]}
    local = LocalServers(known, limits)
    pipeline.services = replace(pipeline.services, tool_servers=local)
    pipeline.runner = TurnRunner(pipeline.services)
    return pipeline, local


def both(*calls: list[int]) -> list[int]:
    """Several calls in one output."""
    return [token for ids in calls for token in ids[:-1]] + [END]


def result(text: str) -> list[int]:
    """The ids of a tool's output."""
    return [RESULT, *map(ord, text), END]


def prompts(pipeline: Pipeline) -> list[list[int]]:
    """What the engine has seen, run by run."""
    return [list(run.prompt) for run in pipeline.engine.runs]


def kinds(response: dict[str, Any]) -> list[str]:
    """The types of its output."""
    return [item["type"] for item in response["output"]]


async def ask(pipeline: Pipeline, **fields: Any) -> dict[str, Any]:
    """The response to a request, its events checked."""
    sink = RecordingSink()
    fields.setdefault("tools", [server()])
    outcome = await pipeline.run(sink, **fields)
    assert outcome.body, outcome.error
    return check_response_events(sink.events)
