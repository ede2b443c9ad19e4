"""LangChain against a server: `langchain.py URL MODEL SCENARIO` prints what came of it as JSON."""

import json
import sys
from typing import Any

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

URL, MODEL, SCENARIO = sys.argv[1:]
OPTIONS: dict[str, Any] = {"model": MODEL, "base_url": URL, "use_responses_api": True}


class Colour(BaseModel):
    name: str
    warm: bool


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return "rain"


def loop(question: str = "Weather in Oslo?", *, chained: bool = False) -> Any:
    """A tool loop; the history is sent again each time, or what is new in it."""
    model = ChatOpenAI(**OPTIONS, use_previous_response_id=chained).bind_tools([get_weather])
    messages: list[Any] = [HumanMessage(question)]
    asked = []
    while True:
        answer = model.invoke(messages)
        messages.append(answer)
        if not answer.tool_calls:
            return {"text": answer.text, "asked": asked}
        for call in answer.tool_calls:
            asked.append(call["args"]["city"])
            messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))


def chain() -> Any:
    return loop("Weather in Oslo now?", chained=True)


def stream() -> Any:
    pieces = [piece.text for piece in ChatOpenAI(**OPTIONS).stream("What can you do?")]
    return {"text": "".join(pieces), "pieces": len([piece for piece in pieces if piece])}


def structured() -> Any:
    colour = ChatOpenAI(**OPTIONS).with_structured_output(Colour).invoke("Name a colour.")
    assert isinstance(colour, Colour)
    return colour.model_dump()


print(json.dumps(globals()[SCENARIO]()))
