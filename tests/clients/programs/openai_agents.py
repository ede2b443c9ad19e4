"""openai-agents against a server, over WebSocket: `openai_agents.py URL MODEL SCENARIO` prints what came of it as JSON."""

import asyncio
import json
import sys
from typing import Any

from agents import (
    Agent,
    HostedMCPTool,
    SQLiteSession,
    function_tool,
    responses_websocket_session,
    set_tracing_disabled,
)

URL, MODEL, SCENARIO = sys.argv[1:]
ASKED: list[str] = []


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    ASKED.append(city)
    return "rain"


WEATHER = Agent(name="Weather agent", instructions="Say what the weather is.", tools=[get_weather], model=MODEL)
TRIAGE = Agent(name="Triage agent", instructions="Hand over to who knows.", handoffs=[WEATHER], model=MODEL)


async def tools(session: Any) -> Any:
    """One agent, one tool, two questions; the chain is the server's."""
    first = await session.run(WEATHER, "Weather in Oslo now?", auto_previous_response_id=True)
    second = await session.run(
        WEATHER, "And in Rome?", previous_response_id=first.last_response_id, auto_previous_response_id=True
    )
    return {"answers": [first.final_output, second.final_output], "asked": ASKED}


async def streamed(session: Any) -> Any:
    """The same, its events read as they come."""
    run = session.run_streamed(WEATHER, "Weather in Oslo?", auto_previous_response_id=True)
    raw = [event.data.type async for event in run.stream_events() if event.type == "raw_response_event"]
    return {
        "answer": run.final_output,
        "asked": ASKED,
        "deltas": raw.count("response.output_text.delta"),
        "turns": raw.count("response.completed"),
    }


async def handoff(session: Any) -> Any:
    """One agent hands over to another, which uses a tool."""
    run = await session.run(TRIAGE, "Who knows the weather in Oslo?")
    return {"answer": run.final_output, "asked": ASKED, "agent": run.last_agent.name}


async def history(session: Any) -> Any:
    """The client's own memory: the whole history goes over the wire each time."""
    memory = SQLiteSession("test")
    await session.run(WEATHER, "My name is Ada.", session=memory)
    run = await session.run(WEATHER, "What is my name?", session=memory)
    return {"answer": run.final_output}


async def hosted(session: Any) -> Any:
    """A tool that the server runs, allowed by the client; then the client's history, sent whole."""

    def allow(request: Any) -> Any:
        ASKED.append(f"{request.data.server_label} {request.data.name}")
        return {"approve": True}

    config: Any = {"type": "mcp", "server_label": "honest", "require_approval": "always"}
    tool = HostedMCPTool(tool_config=config, on_approval_request=allow)
    agent = Agent(name="Adder", instructions="Add.", tools=[tool], model=MODEL)
    first = await session.run(agent, "Add up.")
    history: Any = [*first.to_input_list(), {"role": "user", "content": "Thanks."}]
    second = await session.run(agent, history)
    return {
        "answers": [first.final_output, second.final_output],
        "asked": ASKED,
        "items": [type(item).__name__ for item in first.new_items],
        "again": [type(item).__name__ for item in second.new_items],
    }


async def main() -> None:
    set_tracing_disabled(True)
    async with responses_websocket_session(base_url=URL, api_key="none") as session:
        print(json.dumps(await globals()[SCENARIO](session)))


asyncio.run(main())
