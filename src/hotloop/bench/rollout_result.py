"""What rollouts say: the seconds of each, what they save against stateless HTTP, and the goals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from hotloop.bench.agent import Split
from hotloop.bench.chart import Bars
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings, Table
from hotloop.bench.rollout_plan import COLD, HOT, PREFILL, Key, Series
from hotloop.bench.rounds import Figure, figure_of
from hotloop.bench.servers import ROUND_TRIP_MS, UP_MBIT
from hotloop.bench.vocabularies import LIBRARY

GOALS = (
    Goal("rollout_api_time", 90, at_most=False),
    # What a stateless turn costs hangs on the vocabulary: a published one is for the full run.
    Goal("rollout_total_1000", 30, at_most=False, in_quick=False),
    Goal("rollout_total_4000", 40, at_most=False, in_quick=False),
    Goal("rollout_floor", 1.05),
    Goal("rollout_never_slower", 1, at_most=False),
)
_JUDGED_SPEED = 4_000  # where the server's share of the time is largest


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured: every round's splits, and the bare round trip of every network."""

    splits: Mapping[Key, Sequence[Split]]
    round_trips: Mapping[str, float]
    vocabularies: Mapping[str, str]  # whose, and what encodes it, by the name of the series' tokenizer

    def pairs(self, series: Series) -> list[tuple[Split, Split]]:
        """Hot and cold, by round."""
        return list(zip(self.splits[Key(series, HOT)], self.splits[Key(series, COLD)], strict=True))


def findings_of(taken: Taken) -> Findings:
    """Tables, ratios and charts."""
    all_series = list(dict.fromkeys(key.series for key in taken.splits))
    figures: dict[str, Figure] = {}
    needs = _needs(taken)
    for series in all_series:
        if series.is_claimed and series.network == "loopback":
            figures |= _figures(series, taken) if series.tokenizer == LIBRARY else _own(series, taken)
    return Findings(
        table=Table("Seconds of a rollout, median of the rounds", _HEAD, _rows(taken)),
        more=[
            Table("WebSocket against stateless HTTP with caches off, per cent less", _GAINS_HEAD, _gains(taken)),
            *([Table(_NEEDS, _NEEDS_HEAD, needs)] if needs else []),
        ],
        figures=figures,
        notes=_notes(taken),
        samples={f"{key.series.name}, {key.arm}": [asdict(one) for one in ones] for key, ones in taken.splits.items()},
        skipped={goal.name: "not in this run" for goal in GOALS if goal.name not in figures},
        charts=_charts(taken),
    )


def _figures(series: Series, taken: Taken) -> dict[str, Figure]:
    pairs, trip = taken.pairs(series), taken.round_trips[series.network]
    figures = {f"rollout_total_{series.speed}": _less(pairs, "total_s")}
    if series.speed == _JUDGED_SPEED:
        figures |= {
            "rollout_api_time": _api_less(pairs, trip),
            "rollout_never_slower": figure_of([cold.total_s / hot.total_s for hot, cold in pairs]),
        }
    return figures


def _own(series: Series, taken: Taken) -> dict[str, Figure]:
    """What compares hotloop with nobody is told of its own encoder, with which it serves."""
    if series.speed != _JUDGED_SPEED:
        return {}
    trip = taken.round_trips[series.network]
    return {"rollout_floor": figure_of([hot.total_s / hot.floor_s(trip) for hot, _ in taken.pairs(series)])}


def _less(pairs: Sequence[tuple[Split, Split]], part: str) -> Figure:
    """Per cent that the hot arm spends less of a part than the cold one."""
    return figure_of([100 * (1 - getattr(hot, part) / getattr(cold, part)) for hot, cold in pairs])


def _api_less(pairs: Sequence[tuple[Split, Split]], round_trip_s: float) -> Figure:
    return figure_of([100 * (1 - hot.api_s(round_trip_s) / cold.api_s(round_trip_s)) for hot, cold in pairs])


def _most(pairs: Sequence[tuple[Split, Split]], round_trip_s: float) -> Figure:
    """Per cent that an arm at its floor, a server that costs nothing, would spend less than the cold one."""
    return figure_of([100 * cold.api_s(round_trip_s) / cold.total_s for _, cold in pairs])


_GAINS_HEAD = (
    "engine, network, mix, calls, tokenizer", "end to end", "±", "most that can be saved", "TTFT", "perceived",
    "outside engine, tools, round trip",
)  # fmt: skip


def _gains(taken: Taken) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for series in dict.fromkeys(key.series for key in taken.splits):
        pairs, trip = taken.pairs(series), taken.round_trips[series.network]
        api = _api_less(pairs, trip)
        total, first, perceived = (_less(pairs, part) for part in ("total_s", "first_token_s", "silence_s"))
        shown = [f"{total.median:.1f}", f"{total.spread:.1f}"]
        rows.append(
            (series.name, *shown, *(f"{one.median:.1f}" for one in (_most(pairs, trip), first, perceived, api)))
        )
    return rows


_NEEDS = "What the baseline must spend on a turn outside engine, tools and round trip, or no server can reach the goal"
_NEEDS_HEAD = (
    "goal, network",
    "limit, %",
    "saved, %",
    "most that can be saved, %",
    "must spend ms/turn",
    "spends ms/turn",
)


def _needs(taken: Taken) -> list[tuple[str, ...]]:
    """What each goal for the total time asks of the baseline, wherever its work was done."""
    limits = {goal.name: goal.limit for goal in GOALS}
    rows: list[tuple[str, ...]] = []
    for series in dict.fromkeys(key.series for key in taken.splits):
        goal = f"rollout_total_{series.speed}"
        if not series.is_claimed or series.tokenizer != LIBRARY or goal not in limits:
            continue
        pairs, trip = taken.pairs(series), taken.round_trips[series.network]
        share = limits[goal] / 100
        needs = [1e3 * share / (1 - share) * cold.floor_s(trip) / cold.turns for _, cold in pairs]
        spends = [1e3 * cold.api_s(trip) / cold.turns for _, cold in pairs]
        figures = (_less(pairs, "total_s"), _most(pairs, trip), figure_of(needs), figure_of(spends))
        rows.append((f"{goal}, {series.network}", f"{limits[goal]:g}", *(f"{one.median:.1f}" for one in figures)))
    return rows


_HEAD = (
    "engine, network, mix, calls, tokenizer", "arm", "total s", "client s", "network s", "server s", "engine s", "tools s",
    "above floor ms/turn", "times the floor", "TTFT ms", "last prompt",
)  # fmt: skip
_PARTS = ("client", "network", "server", "engine", "tools")


def _rows(taken: Taken) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, ones in taken.splits.items():
        trip = taken.round_trips[key.series.network]
        parts = [f"{median(getattr(one, f'{name}_s') for one in ones):.3f}" for name in ("total", *_PARTS)]
        rows.append(
            (
                key.series.name,
                key.arm,
                *parts,
                f"{median(1e3 * one.api_s(trip) / one.turns for one in ones):.2f}",
                f"{median(one.total_s / one.floor_s(trip) for one in ones):.3f}",
                f"{median(1e3 * one.first_token_s for one in ones):.1f}",
                f"{ones[-1].prompt_tokens:,}",
            )
        )
    return rows


def _notes(taken: Taken) -> list[str]:
    prefill = ", ".join(f"{rate:,} at {speed:,}" for speed, rate in PREFILL.items())
    vocabularies = "; ".join(f"{name}: {what}" for name, what in taken.vocabularies.items())
    trips = ", ".join(f"{name} {1e3 * trip:.3f} ms" for name, trip in taken.round_trips.items())
    return [
        "Engines with a speed are simulated: tokens decoded a second; prefilled behind the engine's prefix cache, which is on"
        f" in all arms: {prefill}. real: the demonstration model, user messages instead of tool calls, answers cut.",
        f"Vocabularies, the same in all arms: {vocabularies}. Gains are judged with the first, the floor with the second.",
        "A rollout has one turn more than calls; its first prompt has 10,000 tokens, its last 60,000.",
        "Tool times are accounted, not slept: they are the same in all arms, and a server gets no pause between turns.",
        f"Bare round trips, each after a pause as between turns: {trips}. WAN: {ROUND_TRIP_MS:g} ms, {UP_MBIT:g} Mbit/s up, no"
        " loss, no slow start. Floor: engine, tools, one bare round trip per turn.",
        "TTFT: sent to first delta, mean of the turns. Perceived: the time in which no tool runs and the model has not begun to"
        " answer, the client's own work included. At 65 tokens/s rollouts were played beside each other.",
        "Most that can be saved: what the baseline spends outside engine, tools and one round trip per turn, of its total. No"
        " server saves more end to end; the last column is the share of it that is saved.",
        *_drowned(taken),
    ]


def _drowned(taken: Taken) -> list[str]:
    """Says of which series the rounds differ by more than there is to save."""
    notes: list[str] = []
    for series in dict.fromkeys(key.series for key in taken.splits):
        pairs = taken.pairs(series)
        total, most = _less(pairs, "total_s"), _most(pairs, taken.round_trips[series.network])
        if total.spread > most.median:
            notes.append(
                f"{series.name}: no server can save more than {most.median:.1f} % here, and the rounds differ by"
                f" ± {total.spread:.1f} %, with the engine: what is saved end to end drowns in it."
            )
    return notes


def _charts(taken: Taken) -> list[Bars]:
    claimed = {key: ones for key, ones in taken.splits.items() if key.series.is_claimed}
    bars = [f"{one.pace}, {one.network}, {one.tokenizer}\n{arm}" for one, arm in claimed]
    parts = {
        name: [median(getattr(one, f"{name}_s") for one in ones) / ones[0].turns * 1e3 for ones in claimed.values()]
        for name in ("client", "network", "server")
    }
    return [Bars("Outside engine and tools, interactive 50", "ms per turn", bars, parts)]
