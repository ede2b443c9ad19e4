"""`hotloop bench render`: what rendering and tokenizing a turn costs against the length of its history, in every family.

No server and no engine: what a turn does between its request and the engine, in this process (`bench.render_arms`). All arms
take turns in every round.
"""

import gc
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from hotloop.bench.answers import BenchError
from hotloop.bench.chart import Lines
from hotloop.bench.goals import Goal
from hotloop.bench.render_arms import NEW_TOKENS, Chain, MakeFormat, Scale, cpu_of, ratio_in_turns, weigh
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import Figure, figure_of, interleave
from hotloop.engines.llama import GgufTokenizer, LlamaError
from hotloop.formats.registry import FAMILIES, GENERIC, format_for_template
from hotloop.seams.tokenizer import Tokenizer
from hotloop.tiny import model_path
from hotloop.tokenizers.fast import choose_for_gguf
from hotloop.tokenizers.tokenizer_json import JsonTokenizer

TITLE = "hotloop bench render: what rendering and tokenizing a turn costs against the length of its history"
GOALS = (
    Goal("extend_200k", 1.1),
    Goal("vs_rerender_200k", 150, at_most=False),
    Goal("prefix_hit_200k", 20, at_most=False),
    Goal("bytes_per_token", 4.5),
)
_SHORT, _LONG = 1_000, 200_000
_TIMES = {"extend": 20, "rerender": 1, "recognise": 5, "resend": 1}  # calls in one sample

# Ratios that are judged, call by call: extend at the long history over extend at the short one, and at the long one
_FLAT, _VS_RERENDER, _HIT = "flat", "rerender over extend", "resend over recognise"
_LONG_RATIOS = {_VS_RERENDER: ("rerender", "extend", 100), _HIT: ("resend", "recognise", 20)}  # calls of the second
_LONG_PAIRS = 2
_FLAT_PAIRS = 200  # nine in ten samples of two equal chains lie within 0.95 and 1.05; with 30 within 0.88 and 1.10


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    histories: tuple[int, ...]
    rounds: int
    generic: bool = False  # the generic format too, with the template of the vocabulary's file; shown, not judged
    weighed: int = _LONG  # tokens of the chain whose memory is measured


FULL = Plan(histories=(_SHORT, 20_000, _LONG, 1_000_000), rounds=3, generic=True)
QUICK = Plan(histories=(_SHORT, _LONG), rounds=3, weighed=50_000)

_Key = tuple[str, int, str]  # family, history, arm
_Samples = Mapping[_Key, Sequence[float]]


def add_options(parser: ArgumentParser) -> None:
    """The bench's own."""
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="GGUF or tokenizer.json with the vocabulary; the demonstration model's if not given",
    )


def measure(plan: Plan, tokenizer_path: Path | None = None) -> Findings:
    """Run the plan. Raises BenchError."""
    tokenizer, template = load_tokenizer(tokenizer_path)
    formats: dict[str, MakeFormat] = dict(FAMILIES)
    if plan.generic and template:
        formats[GENERIC] = lambda vocabulary: format_for_template(template, vocabulary, family=GENERIC)
    chains: dict[tuple[str, int], Chain] = {}
    weights: dict[str, tuple[float, float]] = {}
    for family, make in formats.items():
        scale = Scale(make, tokenizer)
        if family != GENERIC:  # its renderings of the whole history, one per turn, would take minutes
            weights[family] = weigh(make, tokenizer, plan.weighed, scale)
        for tokens in plan.histories:
            chains[family, tokens] = Chain(make, tokenizer, tokens, scale)
    arms: dict[_Key, Callable[[], float]] = {
        (family, tokens, arm): partial(cpu_of, getattr(chain, arm), times)
        for (family, tokens), chain in chains.items()
        for arm, times in _TIMES.items()
    }
    for sample in arms.values():
        sample()  # warm-up
    for family in formats:  # these begin with a turn that is not counted
        chain, short = chains[family, _LONG], chains[family, _SHORT]
        arms[family, _LONG, _FLAT] = partial(ratio_in_turns, chain.extend, short.extend, _FLAT_PAIRS)
        for name, (above, below, times) in _LONG_RATIOS.items():
            arms[family, _LONG, name] = partial(
                ratio_in_turns, getattr(chain, above), getattr(chain, below), _LONG_PAIRS, below_times=times
            )
    gc.collect()
    gc.freeze()
    try:
        samples = interleave(arms, plan.rounds)
    finally:
        gc.unfreeze()
    lengths = {key: chain.prompt_tokens for key, chain in chains.items()}
    return _findings(plan, samples, lengths, weights)


def load_tokenizer(path: Path | None) -> tuple[Tokenizer, str | None]:
    """The vocabulary of a GGUF file or tokenizer.json, as a server encodes with it, and the chat template beside it.

    None: the demonstration model's. Raises BenchError.
    """
    path = path or model_path()
    try:
        if path.suffix == ".json":
            return JsonTokenizer(path), None
        reference = GgufTokenizer(str(path))
        return choose_for_gguf(path, reference).tokenizer, reference.chat_template
    except (LlamaError, ValueError) as error:
        raise BenchError(str(error)) from error


def _findings(
    plan: Plan,
    samples: _Samples,
    lengths: Mapping[tuple[str, int], int],
    weights: Mapping[str, tuple[float, float]],
) -> Findings:
    families = list(weights)
    by_goal: dict[str, dict[str, Figure]] = {
        "extend_200k": {family: figure_of(samples[family, _LONG, _FLAT]) for family in families},
        "vs_rerender_200k": {family: figure_of(samples[family, _LONG, _VS_RERENDER]) for family in families},
        "prefix_hit_200k": {family: figure_of(samples[family, _LONG, _HIT]) for family in families},
        "bytes_per_token": {family: figure_of([weights[family][0]]) for family in families},
    }
    worst = {goal.name: _worst(goal, by_goal[goal.name]) for goal in GOALS}
    shown = dict.fromkeys(family for family, _ in lengths)
    return Findings(
        table=Table(
            "CPU of this process per turn, and memory per token", _HEAD, _rows(shown, plan, samples, lengths, weights)
        ),
        figures={name: by_goal[name][family] for name, family in worst.items()},
        notes=[*_NOTES, f"Each goal is that of the family that does worst: {_said(worst)}."],
        samples={" ".join(map(str, key)): list(taken) for key, taken in samples.items()},
        charts=[
            Lines("CPU of a turn, median of the families", "tokens of history", "µs", _curves(plan, samples, families))
        ],
    )


def _curves(plan: Plan, samples: _Samples, families: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    return {
        arm: [
            (tokens, median(figure_of(samples[family, tokens, arm]).median for family in families) * 1e6)
            for tokens in plan.histories
        ]
        for arm in _TIMES
    }


def _worst(goal: Goal, figures: Mapping[str, Figure]) -> str:
    """The family that most surely misses the goal: noise alone must not choose it."""

    def beyond(family: str) -> float:
        figure = figures[family]
        return (figure.median if goal.at_most else -figure.median) - figure.spread

    return max(figures, key=beyond)


def _said(worst: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {family}" for name, family in worst.items())


_HEAD = (
    "family", "history", "prompt tokens", "extend µs", "± µs", "rerender µs", "recognise µs", "resend µs",
    "B/token", "items B/token",
)  # fmt: skip
_NOTES = [
    f"The new item is a tool output of {NEW_TOKENS} tokens. extend continues the chain; rerender renders all of it; recognise"
    " finds the history in a request's bytes and continues; resend parses and renders those bytes.",
    "± is half the distance between the quartiles of the rounds. B/token is the rendered state of a long chain; its items are"
    " apart.",
    "The ratios that are judged come from calls of their own, in turns, so that what slows the machine slows both.",
    "generic renders the whole history as text each turn and is not judged.",
    "Every family is measured on the same vocabulary; control tokens that it lacks get ids behind its end.",
]


def _rows(
    families: Iterable[str],
    plan: Plan,
    samples: _Samples,
    lengths: Mapping[tuple[str, int], int],
    weights: Mapping[str, tuple[float, float]],
) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for family in families:
        for tokens in plan.histories:
            figures = {arm: figure_of(samples[family, tokens, arm]) for arm in _TIMES}
            costs = [f"{figures[arm].median * 1e6:,.0f}" for arm in ("rerender", "recognise", "resend")]
            extend = figures["extend"]
            weighed = weights.get(family) if tokens == _LONG else None
            memory = ("", "") if weighed is None else (f"{weighed[0]:.2f}", f"{weighed[1]:.1f}")
            rows.append(
                (
                    family,
                    f"{tokens:,}",
                    f"{lengths[family, tokens]:,}",
                    f"{extend.median * 1e6:,.0f}",
                    f"{extend.spread * 1e6:,.0f}",
                    *costs,
                    *memory,
                )
            )
    return rows
