"""What the scripted engine says to the clients' small programs."""

from typing import Any

ABOUT = "I can tell the weather."
RAIN = "It rains in Oslo."
SUN = "The sun shines in Rome."


def asks_weather(match: str, city: str, answer: str, *, before: str = "") -> dict[str, Any]:
    """A conversation with one call of `get_weather`, after a call of the tool `before` if there is one."""
    turns: list[dict[str, Any]] = [{"text": "Let me hand over.", "call": {"name": before}}] if before else []
    turns += [
        {"reasoning": "I need the weather.", "call": {"name": "get_weather", "arguments": {"city": city}}},
        {"text": answer},
    ]
    return {"match": match, "turns": turns}


SCRIPT: dict[str, Any] = {
    "scripts": [
        asks_weather("^Who knows", "Oslo", RAIN, before="transfer_to_weather_agent"),
        asks_weather("^Weather in Oslo", "Oslo", RAIN),
        asks_weather("^And in Rome", "Rome", SUN),
        {"match": "^My name is", "turns": [{"text": "Hello Ada."}]},
        {"match": "^What is my name", "requires_history": "My name is Ada.", "turns": [{"text": "Ada."}]},
        {"match": "Name a colour|name a colour", "turns": [{"text": '{"name":"red","warm":true}'}]},
        {
            "match": "^Count slowly",
            "turns": [{"text": "one two three four five six seven eight", "pace": {"tokens": 1, "seconds": 0.05}}],
        },
        {"match": "^What can you do", "turns": [{"text": ABOUT}]},
    ]
}
