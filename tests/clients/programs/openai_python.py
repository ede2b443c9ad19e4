"""openai-python against a server: `openai_python.py URL MODEL SCENARIO` prints what came of it as JSON."""

import json
import sys
from typing import Any

from openai import OpenAI
from pydantic import BaseModel

URL, MODEL, SCENARIO = sys.argv[1:]
CLIENT = OpenAI(base_url=URL)
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


class Colour(BaseModel):
    name: str
    warm: bool


def connect() -> Any:
    """A tool loop over the WebSocket, each turn sending only what is new."""
    seen: list[str] = []
    answered: list[str] = []
    with CLIENT.responses.connect() as connection:
        connection.response.create(model=MODEL, input="Weather in Oslo?", tools=[WEATHER], store=False)
        for event in connection:
            seen.append(event.type)
            if event.type == "error":
                raise SystemExit(event)
            if event.type != "response.completed":
                continue
            response = event.response
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                return {
                    "text": response.output_text,
                    "answered": answered,
                    "deltas": seen.count("response.output_text.delta"),
                    "cached": response.usage.input_tokens_details.cached_tokens,
                }
            answered += [f"{call.name} {call.arguments}" for call in calls]
            connection.response.create(
                model=MODEL,
                previous_response_id=response.id,
                input=[{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in calls],
                tools=[WEATHER],
                store=False,
            )
    raise SystemExit("the connection ended before the answer")


def error() -> Any:
    """An error event, and the same connection used on."""
    with CLIENT.responses.connect() as connection:
        connection.response.create(model=MODEL, input="go on", previous_response_id="resp_unknown", store=False)
        refused = connection.recv()
        connection.response.create(model=MODEL, input="What can you do?", store=False)
        for event in connection:
            if event.type == "response.completed":
                return {"type": refused.type, "code": refused.error.code, "text": event.response.output_text}
    raise SystemExit("the connection ended before the answer")


def steer() -> Any:
    """A running response is given more input; its successor takes it."""
    texts: list[str] = []
    with CLIENT.responses.connect() as connection:
        connection.response.create(model=MODEL, input="Count slowly.", store=False)
        for event in connection:
            if event.type == "response.created" and not texts:
                connection.response.steer(previous_response_id=event.response.id, input="Rather name a colour.")
            if event.type in ("response.completed", "response.incomplete"):
                texts.append(event.response.output_text)
                if len(texts) == 2:
                    return {"texts": texts}
            if event.type == "error" or event.type.endswith(".failed"):
                raise SystemExit(event)
    raise SystemExit("the connection ended before the answer")


def stream() -> Any:
    """The streaming helper over HTTP."""
    deltas: list[str] = []
    with CLIENT.responses.stream(model=MODEL, input="What can you do?") as events:
        for event in events:
            if event.type == "response.output_text.delta":
                deltas.append(event.delta)
        final = events.get_final_response()
    return {"deltas": "".join(deltas), "final": final.output_text}


def parse() -> Any:
    """Structured output into a class."""
    response = CLIENT.responses.parse(model=MODEL, input="Name a colour.", text_format=Colour)
    colour = response.output_parsed
    assert isinstance(colour, Colour)
    return colour.model_dump()


def retrieve() -> Any:
    """A stored response: read, its input listed, deleted."""
    made = CLIENT.responses.create(model=MODEL, input="What can you do?", store=True)
    read = CLIENT.responses.retrieve(made.id)
    inputs = [item.content[0].text for item in CLIENT.responses.input_items.list(made.id)]
    CLIENT.responses.delete(made.id)
    try:
        CLIENT.responses.retrieve(made.id)
    except Exception as gone:
        return {"same": read.output_text == made.output_text, "inputs": inputs, "gone": type(gone).__name__}
    raise SystemExit("the response is still there")


def input_tokens() -> Any:
    """The count of a prompt, against the usage of the same prompt."""
    counted = CLIENT.responses.input_tokens.count(model=MODEL, input="What can you do?").input_tokens
    used = CLIENT.responses.create(model=MODEL, input="What can you do?").usage
    assert used is not None
    return {"counted": counted, "used": used.input_tokens}


def conversations() -> Any:
    """A conversation on the server that two responses are written into."""
    conversation = CLIENT.conversations.create(metadata={"topic": "test"})
    CLIENT.responses.create(model=MODEL, conversation=conversation.id, input="My name is Ada.")
    named = CLIENT.responses.create(model=MODEL, conversation=conversation.id, input="What is my name?")
    items = [item.type for item in CLIENT.conversations.items.list(conversation.id)]
    deleted = CLIENT.conversations.delete(conversation.id).deleted
    return {"text": named.output_text, "items": items, "deleted": deleted}


def compact() -> Any:
    """A history made short, and gone on from."""
    history: Any = [{"role": "user", "content": "My name is Ada."}, {"role": "assistant", "content": "Hello Ada."}]
    compacted = CLIENT.responses.compact(model=MODEL, input=history)
    items: Any = [item.to_dict() for item in compacted.output]
    answer = CLIENT.responses.create(
        model=MODEL, input=[*items, {"role": "user", "content": "What can you do?"}], store=False
    )
    return {"object": compacted.object, "kinds": sorted({item["type"] for item in items}), "text": answer.output_text}


def mcp() -> Any:
    """A server's tool: allowed, then called while the response streams; the same over the WebSocket, without asking."""
    tool: Any = {"type": "mcp", "server_label": "honest"}
    first = CLIENT.responses.create(model=MODEL, input="Add up.", tools=[tool])
    request = next(item for item in first.output if item.type == "mcp_approval_request")
    consent: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
    with CLIENT.responses.stream(model=MODEL, previous_response_id=first.id, input=[consent], tools=[tool]) as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    (call,) = [item for item in final.output if item.type == "mcp_call"]
    with CLIENT.responses.connect() as connection:
        free = {**tool, "require_approval": "never"}
        connection.response.create(model=MODEL, input="Add up.", tools=[free], store=False)
        for event in connection:
            if event.type == "response.completed":
                socket = [item.type for item in event.response.output]
                break
    return {
        "asked": f"{request.server_label} {request.name} {request.arguments}",
        "output": call.output,
        "events": [kind for kind in kinds if "mcp" in kind],
        "text": final.output_text,
        "socket": socket,
    }


print(json.dumps(globals()[SCENARIO]()))
