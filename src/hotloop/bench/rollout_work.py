"""The text of rollouts: a mix's token counts made real in one vocabulary, and the script that answers them."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotloop.bench.agent import Input
from hotloop.bench.mix import FIRST_TURN_TOKENS, Step, load, stretched
from hotloop.bench.workload import SEED, command_lines, output_lines
from hotloop.seams.tokenizer import Tokenizer

_CALL_TOKENS = 20  # around the arguments of a call: name, keys, marks
_CHARS_PER_TOKEN = 8  # more than any vocabulary makes of such text


class Texts:
    """Seeded text of a wanted number of tokens."""

    def __init__(self, tokenizer: Tokenizer, seed: int = SEED) -> None:
        self._tokenizer = tokenizer
        self._random = random.Random(seed)

    def output(self, tokens: int) -> str:
        """What a tool writes: code, errors, lists of files."""
        return self._cut("\n".join(output_lines(self._random, tokens * _CHARS_PER_TOKEN)), tokens)

    def command(self, tokens: int) -> str:
        """What a model writes: command lines, of at least one token."""
        return self._cut("; ".join(command_lines(self._random, tokens * _CHARS_PER_TOKEN)), max(1, tokens))

    def _cut(self, text: str, tokens: int) -> str:
        pieces = self._tokenizer.encode(text)[:tokens]
        return b"".join(map(self._tokenizer.piece, pieces)).decode(errors="ignore")


def steps_of(mix: str, calls: int) -> list[Step]:
    """The first steps of a mix, stretched."""
    return stretched(load(mix)[:calls])


def question(mix: str, calls: int) -> str:
    """What stands behind the first word of that rollout's task; the script knows it by that."""
    return f"[{mix} {calls}]"


def inputs(mix: str, calls: int, tokenizer: Tokenizer) -> list[Input]:
    """A task of `FIRST_TURN_TOKENS`, then the output of every call."""
    texts = Texts(tokenizer)
    task = Input(f"{question(mix, calls)}\n{texts.output(FIRST_TURN_TOKENS)}")
    return [
        task,
        *(
            Input(texts.output(step.tool_output_tokens), step.tool_s, is_tool_output=True)
            for step in steps_of(mix, calls)
        ),
    ]


def write_script(
    path: Path, rollouts: Sequence[tuple[str, int]], tokenizer: Tokenizer, *, decode: float, prefill: float
) -> None:
    """The other side of these rollouts, at a simulated speed."""
    script = {
        "speed": {"decode": decode, "prefill": prefill},
        "scripts": [_conversation(mix, calls, Texts(tokenizer, SEED + 1)) for mix, calls in rollouts],
    }
    path.write_text(json.dumps(script))


def _conversation(mix: str, calls: int, texts: Texts) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    for step in steps_of(mix, calls):
        command = texts.command(step.output_tokens - _CALL_TOKENS)
        turns.append({"call": {"name": "shell", "arguments": {"command": command}}})
    turns.append({"text": "The tests pass now."})
    return {"match": rf"^\S+ \[{mix} {calls}\]", "turns": turns}
