"""What turns say: their cost by length of history, what is saved against a resend, and the goals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from hotloop.bench.arms import Sample
from hotloop.bench.chart import Lines
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import Figure, figure_of, ratio_of
from hotloop.bench.scripts import ANSWERS
from hotloop.bench.turn_plan import HOT, RAW, STATELESS, Arm, Plan
from hotloop.bench.vocabularies import FAST, LIBRARY

GOALS = (
    Goal("flat_200k", 1.10),
    Goal("flat_1m", 1.25),
    Goal("vs_resend_200k", 150, at_most=False, in_quick=False),
    Goal("vs_resend_20k", 20, at_most=False, in_quick=False),
    Goal("vs_resend_1k", 1, at_most=False),
    Goal("first_delta_200k", 1.25),
    Goal("first_delta_raw", 20, in_quick=False),
)
_RAW_JUDGED_AT = 200_000


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured: every arm's rounds."""

    samples: Mapping[Arm, Sequence[Sample]]
    vocabularies: Mapping[str, str]  # whose, and what encodes it, by the name of the arm's tokenizer


def findings_of(plan: Plan, taken: Taken) -> Findings:
    """Ratios, tables and charts out of the samples of all arms."""
    samples, first = taken.samples, plan.answers[0]
    figures: dict[str, Figure] = {}
    shortest = samples[Arm(HOT, FAST, plan.histories[0], first)]
    for tokens in plan.histories:
        hot = samples[Arm(HOT, FAST, tokens, first)]
        if tokens != plan.histories[0]:
            figures[f"flat_{_short(tokens)}"] = ratio_of(_cpu(hot), _cpu(shortest))
            figures[f"first_delta_{_short(tokens)}"] = ratio_of(_first_delta(hot), _first_delta(shortest))
        if tokens == _RAW_JUDGED_AT:
            figures["first_delta_raw"] = ratio_of(_first_delta(hot), [one.completed_s for one in samples[RAW]])
    saved = _saved(samples, first)
    figures |= {_goal(tokens): figure for (tokenizer, tokens), figure in saved.items() if tokenizer == LIBRARY}
    return Findings(
        table=Table("CPU of the server process and time at the client, per turn", _HEAD, _rows(samples)),
        more=[Table(_SAVED, _SAVED_HEAD, _saved_rows(saved))],
        figures=figures,
        notes=_notes(taken),
        samples={arm.name: [asdict(one) for one in ones] for arm, ones in samples.items()},
        skipped=dict.fromkeys(_left_out(plan), "only in the full run"),
        charts=_charts(samples, first),
    )


def _left_out(plan: Plan) -> list[str]:
    """Goals whose histories are too long for a quick run."""
    return ["flat_1m"] * (1_000_000 not in plan.histories) + ["vs_resend_200k"] * (200_000 not in plan.resent)


def _saved(samples: Mapping[Arm, Sequence[Sample]], answer: str) -> dict[tuple[str, int], Figure]:
    """How many times less CPU a turn takes that continues, by tokenizer and length of history."""
    return {
        (arm.tokenizer, arm.tokens): ratio_of(_cpu(samples[arm._replace(way=STATELESS)]), _cpu(hot))
        for arm, hot in samples.items()
        if arm.way == HOT and arm.answer == answer
    }


def _goal(tokens: int) -> str:
    return f"vs_resend_{_short(tokens)}"


def _short(tokens: int) -> str:
    return f"{tokens // 1_000_000}m" if tokens >= 1_000_000 else f"{tokens // 1000}k"


_SAVED = "WebSocket previous with caches on against HTTP resend with caches off, times less CPU"
_SAVED_HEAD = ("tokenizer", "history", "times less", "±", "goal")


def _saved_rows(saved: Mapping[tuple[str, int], Figure]) -> list[tuple[str, ...]]:
    limits = {goal.name: f"{goal.limit:g}" for goal in GOALS}
    rows: list[tuple[str, ...]] = []
    for (tokenizer, tokens), one in sorted(saved.items(), key=lambda entry: (entry[0][0] == FAST, entry[0])):
        limit = limits.get(_goal(tokens), "-") if tokenizer == LIBRARY else "-"
        rows.append((tokenizer, f"{tokens:,}", f"{one.median:.1f}", f"{one.spread:.1f}", limit))
    return rows


def _charts(samples: Mapping[Arm, Sequence[Sample]], answer: str) -> list[Lines]:
    own = {arm: ones for arm, ones in samples.items() if arm.tokenizer == FAST}
    two = {arm: ones for arm, ones in samples.items() if arm.way in (HOT, STATELESS)}
    return [
        Lines("CPU of the server per turn", _X, "µs", _curves(own, answer, "cpu_s")),
        Lines("First delta at the client", _X, "µs", _curves(own, answer, "first_delta_s")),
        Lines("CPU of the server per turn, by tokenizer", _X, "µs", _curves(two, answer, "cpu_s", with_tokenizer=True)),
    ]


_X = "tokens of history"


def _curves(
    samples: Mapping[Arm, Sequence[Sample]], answer: str, name: str, *, with_tokenizer: bool = False
) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for arm, taken in sorted(samples.items(), key=lambda entry: entry[0].tokens):
        if arm.answer == answer:
            curve = f"{arm.way}, {arm.tokenizer}" if with_tokenizer else str(arm.way)
            point = (arm.tokens, figure_of([getattr(one, name) for one in taken]).median * 1e6)
            curves.setdefault(curve, []).append(point)
    return dict(sorted(curves.items()))


_HEAD = (
    "arm", "tokenizer", "history", "answer", "prompt tokens", "deltas", "CPU µs", "± µs", "first event µs",
    "first delta µs", "completed µs",
)  # fmt: skip


def _rows(samples: Mapping[Arm, Sequence[Sample]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for arm, taken in sorted(samples.items(), key=lambda entry: (entry[0] != RAW, entry[0])):
        cpu = figure_of(_cpu(taken))
        names = ("first_event_s", "first_delta_s", "completed_s")
        times = [f"{figure_of([getattr(one, name) for one in taken]).median * 1e6:,.0f}" for name in names]
        if arm == RAW:
            shown = ["-", "-", "-", "-", "-"]
            times[:2] = ["-", "-"]
        else:
            tokens = fmean(one.prompt_tokens for one in taken)
            shown = [arm.tokenizer, f"{arm.tokens:,}", arm.answer, f"{tokens:,.0f}", f"{taken[0].deltas:.0f}"]
        rows.append((str(arm.way), *shown, f"{cpu.median * 1e6:,.1f}", f"{cpu.spread * 1e6:,.1f}", *times))
    return rows


def _notes(taken: Taken) -> list[str]:
    vocabularies = "; ".join(f"{name}: {what}" for name, what in taken.vocabularies.items())
    return [
        "± is half the distance between the quartiles of the rounds. Times are on loopback, sent to received.",
        "Scripted engine: answers come from a file, no model runs and nothing is prefilled; engine time is in no figure.",
        f"Answers: short is {ANSWERS['short']} word, long are {ANSWERS['long']}. Ratios are those of the short one.",
        "previous: new items and `previous_response_id` (over HTTP with `store: true`); resend: the whole history.",
        f"Vocabularies: {vocabularies}. A resend costs what its tokenizer costs: vs_resend is websocket previous against http"
        " resend with caches off with the first, in both arms; with the second the same figures are shown, not judged. All"
        " else is judged with the second.",
    ]


def _cpu(samples: Sequence[Sample]) -> list[float]:
    return [sample.cpu_s for sample in samples]


def _first_delta(samples: Sequence[Sample]) -> list[float]:
    return [sample.first_delta_s for sample in samples]
