"""A model for server tests: the scripted engine behind the real ChatML format and a toy vocabulary."""

from typing import Any

from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.engines.scripted import ScriptedEngine, script_of
from hotloop.formats import chatml
from hotloop.models.token_model import TokenModel

LOOK_UP = {
    "type": "function",
    "name": "look_up",
    "description": "Look something up.",
    "parameters": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
}

CONVERSATIONS: list[dict[str, Any]] = [
    {"match": "^hello", "turns": [{"text": "Hello yourself, \u00e9lan \U0001f600."}]},
    {"match": "^remember", "turns": [{"text": "I do.", "requires_history": "the magic word is plum"}]},
    {
        "match": "^two steps",
        "turns": [
            {"call": {"name": "look_up", "arguments": {"key": "a"}}},
            {"call": {"name": "look_up", "arguments": {"key": "b"}}},
            {"text": "Both are known."},
        ],
    },
    {"match": "^long", "turns": [{"text": "word " * 400}]},
    {"match": "^forever", "turns": [{"text": "word " * 10_000, "pace": {"tokens": 1, "seconds": 0.01}}]},
    {"match": "^slow start", "turns": [{"text": "At last.", "delay": 600}]},
    {"match": "^think", "turns": [{"reasoning": "Let me see.", "text": "Seen."}]},
    {"match": "^die early", "turns": [{"text": "never", "fail": {"reason": "unavailable"}}]},
    {
        "match": "^die late",
        "turns": [{"text": "half of it is here", "fail": {"reason": "unavailable", "after_tokens": 3}}],
    },
    {"match": "^time out", "turns": [{"text": "never", "fail": {"reason": "timeout"}}]},
]


# Scenes of a long answer, and of what its successor says when it is told to be shorter.
STEERED: list[dict[str, Any]] = [
    {
        "match": "^ponder",
        "turns": [{"reasoning": "word " * 20, "text": "word " * 400, "pace": {"tokens": 1, "seconds": 0.005}}],
    },
    {"match": "^shorter", "turns": [{"text": "Short, then.", "requires_history": "ponder"}]},
]


def scripted_model(
    conversations: list[dict[str, Any]] | None = None, *, thinking: bool = True, context_tokens: int = 100_000
) -> TokenModel:
    """A model named `test`."""
    tokenizer = ToyTokenizer()
    format = chatml(tokenizer, thinking=thinking)
    script = script_of({"scripts": CONVERSATIONS if conversations is None else conversations})
    engine = ScriptedEngine(script, format, tokenizer, context_tokens=context_tokens)
    return TokenModel("test", format=format, tokenizer=tokenizer, engine=engine)
