"""The script that the scripted engine plays: the start of the newest user message names the answer (docs/scripted.md)."""

import json
from pathlib import Path
from typing import Any

from hotloop.bench.floor_server import BATCH

ANSWERS = {"short": 1, "long": 64, "stream": 512, "batch": 512}  # name to words of text, one or two tokens each
_WORDS = ("the", "value", "of", "a", "limit", "is", "not", "what", "we", "want", "here", "and", "so", "it")


def write_script(path: Path) -> None:
    """Write the script file: one engine step per loop tick, of one token, or of sixteen in the batch answer."""
    path.write_text(json.dumps({"scripts": [_conversation(name, words) for name, words in ANSWERS.items()]}))


def _conversation(name: str, words: int) -> dict[str, Any]:
    pace = {"tokens": BATCH if name == "batch" else 1, "seconds": 0}
    return {"match": rf"^\[{name}\]", "turns": [{"text": _text(words), "pace": pace}]}


def _text(words: int) -> str:
    return " ".join(_WORDS[number % len(_WORDS)] for number in range(words))


TURN_WORDS = 32
_TIMED = {"short": 1, "turn": TURN_WORDS, "steered": 130, "endless": 20_000}  # the same for an engine with a speed


def write_speed_script(folder: Path, speed: int) -> Path:
    """A script whose engine writes `speed` tokens a second to each stream, and reads at once."""
    path = folder / f"{speed}.json"
    conversations: list[dict[str, Any]] = [
        {"match": rf"^\[{name}\]", "turns": [{"text": _text(words)}]} for name, words in _TIMED.items()
    ]
    path.write_text(json.dumps({"speed": {"decode": speed, "prefill": 1e12}, "scripts": conversations}))
    return path
