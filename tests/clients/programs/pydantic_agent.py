"""pydantic-ai against a server: `pydantic_agent.py URL MODEL SCENARIO` prints what came of it as JSON."""

import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

URL, MODEL, SCENARIO = sys.argv[1:]
ASKED: list[str] = []


class Colour(BaseModel):
    name: str
    warm: bool


def model(**settings: Any) -> OpenAIResponsesModel:
    provider = OpenAIProvider(base_url=URL, api_key="none")
    return OpenAIResponsesModel(MODEL, provider=provider, settings=OpenAIResponsesModelSettings(**settings))


def weather_agent(**settings: Any) -> Agent[None, str]:
    agent = Agent(model(**settings))

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        ASKED.append(city)
        return "rain"

    return agent


def loop() -> Any:
    """Two questions; the history is sent again each time."""
    agent = weather_agent()
    first = agent.run_sync("Weather in Oslo?")
    second = agent.run_sync("And in Rome?", message_history=first.all_messages())
    return {"answers": [first.output, second.output], "asked": ASKED}


def chain() -> Any:
    """A tool loop that sends only what is new."""
    run = weather_agent(openai_previous_response_id="auto").run_sync("Weather in Oslo now?")
    return {"answers": [run.output], "asked": ASKED}


def stream() -> Any:
    run = weather_agent().run_stream_sync("Weather in Oslo?")
    pieces = list(run.stream_text(delta=True, debounce_by=None))
    return {"text": "".join(pieces), "asked": ASKED}


def structured() -> Any:
    return Agent(model(), output_type=NativeOutput(Colour)).run_sync("Name a colour.").output.model_dump()


print(json.dumps(globals()[SCENARIO]()))
