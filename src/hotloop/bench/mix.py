"""What an agent's tool calls are like: two saved mixes, drawn once from a seed (`python -m hotloop.bench.mix` writes them).

    interactive   reads and edits: median 80 output tokens, 40 ms per tool
    heavy         builds and tests: longer calls, seconds per tool

A rollout plays the first steps of a mix. Tool outputs are stretched so that the history ends at the same length however many
calls there are.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SEED = 20261125
STEPS = 100
FIRST_TURN_TOKENS = 10_000
LAST_HISTORY_TOKENS = 60_000
_FOLDER = Path(__file__).parent / "mixes"


@dataclass(frozen=True, slots=True)
class Step:
    """One turn and the tool call it ends in."""

    output_tokens: int
    tool_output_tokens: int
    tool_s: float


@dataclass(frozen=True, slots=True)
class _Spread:
    """A log-normal distribution, cut off at both ends."""

    median: float
    sigma: float
    least: float
    most: float

    def draw(self, random_: random.Random) -> float:
        return min(self.most, max(self.least, random_.lognormvariate(math.log(self.median), self.sigma)))


_SPREADS = {
    "interactive": (
        _Spread(80, 0.5, 24, 400),
        _Spread(600, 0.9, 40, 6_000),
        _Spread(0.040, 0.6, 0.005, 0.5),
    ),
    "heavy": (
        _Spread(120, 0.7, 24, 800),
        _Spread(900, 1.0, 60, 8_000),
        _Spread(4.0, 0.8, 0.5, 60.0),
    ),
}
NAMES = tuple(_SPREADS)


def draw(name: str) -> list[Step]:
    """The mix out of its seed."""
    random_ = random.Random(f"{name} {SEED}")
    output, tool_output, tool = _SPREADS[name]
    return [
        Step(round(output.draw(random_)), round(tool_output.draw(random_)), round(tool.draw(random_), 4))
        for _ in range(STEPS)
    ]


def load(name: str) -> list[Step]:
    """The mix as saved."""
    return [Step(**step) for step in json.loads((_FOLDER / f"{name}.json").read_text())]


def stretched(steps: Sequence[Step]) -> list[Step]:
    """The same steps with tool outputs of such lengths that the history grows to `LAST_HISTORY_TOKENS`."""
    room = LAST_HISTORY_TOKENS - FIRST_TURN_TOKENS - sum(step.output_tokens for step in steps)
    factor = room / sum(step.tool_output_tokens for step in steps)
    return [Step(step.output_tokens, max(1, round(step.tool_output_tokens * factor)), step.tool_s) for step in steps]


def _save() -> None:
    for name in NAMES:
        lines = ",\n".join(json.dumps(asdict(step)) for step in draw(name))
        (_FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    _save()
