"""`hotloop bench rollout`: where the time of a whole agent rollout goes, and how far it is from its floor.

The baseline is the same server with its own caches off and a stateless client that resends everything over HTTP keep-alive.
The engine keeps its prefix cache in all arms. Speeds are simulated; `real` is the demonstration model.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hotloop.bench.agent import Agent, Input, Split
from hotloop.bench.arms import round_trips
from hotloop.bench.chart import Bars
from hotloop.bench.clients import Connection, HttpClient, WebSocketClient
from hotloop.bench.cpu import pinned, split_cores
from hotloop.bench.floor_server import FRAME, request_bytes
from hotloop.bench.goals import Goal
from hotloop.bench.render import load_tokenizer
from hotloop.bench.report import Findings, Table
from hotloop.bench.rollout_work import Texts, inputs, write_script
from hotloop.bench.rounds import Figure, figure_of, interleave
from hotloop.bench.servers import API_KEY, SERVE, RunningServer, floor_server, hotloop_server, wide_area
from hotloop.seams.tokenizer import Tokenizer

TITLE = "hotloop bench rollout: where the time of an agent's rollout goes"
GOALS = (
    Goal("rollout_api_time", 90, at_most=False, in_quick=False),
    Goal("rollout_total_1000", 30, at_most=False, in_quick=False),
    Goal("rollout_total_4000", 40, at_most=False, in_quick=False),
    Goal("rollout_floor", 1.05, in_quick=False),
    Goal("rollout_never_slower", 1, at_most=False),
)
ROUND_TRIP_MS, UP_MBIT = 40.0, 20.0  # the WAN profile
# Uncached tokens a second for each decode speed: assumptions, named in the notes.
PREFILL = {65: 10_000, 1_000: 50_000, 4_000: 200_000}
_REAL_TURNS, _REAL_FIRST, _REAL_INPUT, _REAL_OUTPUT = 12, 800, 60, 24  # what a context of 4,096 tokens has room for
_RAW_TURNS = 50


class Series(NamedTuple):
    """Rollouts that are compared with each other. `speed` 0: the real demonstration model."""

    speed: int
    network: str  # loopback or WAN
    mix: str
    calls: int
    rounds: int
    with_hot_http: bool = False  # stateless HTTP to the server with its caches on, too

    @property
    def name(self) -> str:
        """Without the rounds."""
        speed = f"{self.speed:,} tokens/s" if self.speed else "real"
        return f"{speed}, {self.network}, {self.mix} {self.calls}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, series by series."""

    series: tuple[Series, ...]


FULL = Plan(
    (
        Series(1_000, "loopback", "interactive", 50, 3, with_hot_http=True),
        Series(1_000, "WAN", "interactive", 50, 3),
        Series(1_000, "loopback", "interactive", 20, 1),
        Series(1_000, "loopback", "interactive", 100, 1),
        Series(1_000, "loopback", "heavy", 50, 1),
        Series(4_000, "loopback", "interactive", 50, 5, with_hot_http=True),
        Series(4_000, "WAN", "interactive", 50, 3),
        Series(65, "loopback", "interactive", 20, 1),
        Series(0, "loopback", "chat", _REAL_TURNS, 3),
    )
)
QUICK = Plan((Series(4_000, "loopback", "interactive", 50, 3),))

HOT, COLD, HOT_HTTP = "websocket", "http, caches off", "http, caches on"


class Key(NamedTuple):
    """One arm of a series."""

    series: Series
    arm: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured: every round's splits, and the round trip of every network."""

    splits: Mapping[Key, Sequence[Split]]
    round_trips: Mapping[str, float]
    vocabulary: str


def add_options(parser: ArgumentParser) -> None:
    """The bench's own."""
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE.gguf",
        help="file whose vocabulary and chat template the simulated engine uses (weights are not needed); default: the "
        "demonstration model's",
    )


def measure(plan: Plan, model: Path | None = None) -> Findings:
    """Run the plan. Raises BenchError."""
    tokenizer, _ = load_tokenizer(model)
    splits: dict[Key, list[Split]] = {}
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        folder = Path(stack.enter_context(TemporaryDirectory()))
        raw = stack.enter_context(floor_server("raw", server_core))
        trips = {network: _round_trip(raw, network) for network in dict.fromkeys(one.network for one in plan.series)}
        for speed in dict.fromkeys(one.speed for one in plan.series):
            series = [one for one in plan.series if one.speed == speed]
            script = _script(folder, series, tokenizer)
            command = [*SERVE, *(["--model", str(model)] if model is not None and speed else [])]
            with (
                hotloop_server(script, server_core, command) as hot,
                hotloop_server(script, server_core, command, caches="off") as cold,
                pinned(client_core),
            ):
                for one in series:
                    splits |= _play(one, hot, cold, tokenizer)
    return findings_of(Taken(splits, trips, model.name if model else "demonstration model"))


def _script(folder: Path, series: Sequence[Series], tokenizer: Tokenizer) -> Path | None:
    speed = series[0].speed
    if not speed:
        return None
    path = folder / f"{speed}.json"
    rollouts = list(dict.fromkeys((one.mix, one.calls) for one in series))
    write_script(path, rollouts, tokenizer, decode=speed, prefill=PREFILL[speed])
    return path


def _round_trip(raw: RunningServer, network: str) -> float:
    with ExitStack() as stack:
        server = _reached(stack, raw, network)
        link = stack.enter_context(Connection(server.host, server.port))
        round_trips(raw.pid, link, request_bytes("T", 1), len(FRAME), 2)
        return round_trips(raw.pid, link, request_bytes("T", 1), len(FRAME), _RAW_TURNS).completed_s


def _reached(stack: ExitStack, server: RunningServer, network: str) -> RunningServer:
    if network == "loopback":
        return server
    return stack.enter_context(wide_area(server, ROUND_TRIP_MS, UP_MBIT))


def _play(series: Series, hot: RunningServer, cold: RunningServer, tokenizer: Tokenizer) -> dict[Key, list[Split]]:
    work = inputs(series.mix, series.calls, tokenizer) if series.speed else _chat(tokenizer)
    with ExitStack() as stack:
        near, far = (_reached(stack, server, series.network) for server in (hot, cold))
        websocket, http, hot_http = (
            partial(kind, server.host, server.port, api_key=API_KEY, timing=True)
            for kind, server in ((WebSocketClient, near), (HttpClient, far), (HttpClient, near))
        )
        arms: dict[Key, Callable[[], Split]] = {
            Key(series, HOT): partial(
                Agent(websocket, hot.model, f"websocket-{series.network}", is_resending=False).play, work
            ),
            Key(series, COLD): partial(Agent(http, cold.model, f"cold-{series.network}", is_resending=True).play, work),
        }
        if series.with_hot_http:
            arms[Key(series, HOT_HTTP)] = partial(
                Agent(hot_http, hot.model, f"http-{series.network}", is_resending=True).play, work
            )
        return interleave(arms, series.rounds)


def _chat(tokenizer: Tokenizer) -> list[Input]:
    """Turns for a model that answers as it likes: user messages, answers cut at a length."""
    texts = Texts(tokenizer)
    sizes = [_REAL_FIRST] + [_REAL_INPUT] * (_REAL_TURNS - 1)
    return [Input(texts.output(tokens), max_output_tokens=_REAL_OUTPUT) for tokens in sizes]


def findings_of(taken: Taken) -> Findings:
    """Table, ratios and charts."""
    figures: dict[str, Figure] = {}
    for series in dict.fromkeys(key.series for key in taken.splits):
        if (series.mix, series.calls) == ("interactive", 50):
            figures |= _figures(series, taken)
    judged = {goal.name: "not in this run" for goal in GOALS if goal.name not in figures}
    return Findings(
        table=Table("Seconds of a rollout, median of the rounds", _HEAD, _rows(taken)),
        figures=figures,
        notes=_notes(taken, figures),
        samples={f"{key.series.name}, {key.arm}": [asdict(one) for one in ones] for key, ones in taken.splits.items()},
        skipped=judged,
        charts=_charts(taken),
    )


def _figures(series: Series, taken: Taken) -> dict[str, Figure]:
    trip = taken.round_trips[series.network]
    pairs = list(zip(taken.splits[Key(series, HOT)], taken.splits[Key(series, COLD)], strict=True))
    api = figure_of([100 * (1 - _api_s(hot, trip) / _api_s(cold, trip)) for hot, cold in pairs])
    total = figure_of([100 * (1 - hot.total_s / cold.total_s) for hot, cold in pairs])
    floor = figure_of([hot.total_s / hot.floor_s(trip) for hot, _ in pairs])
    where = "" if series.network == "loopback" else "_wan"
    figures = {
        f"rollout_api_time_{series.speed}{where}": api,
        f"rollout_total_{series.speed}{where}": total,
        f"rollout_floor_{series.speed}{where}": floor,
    }
    if not where:  # judged at the highest speed that was played, where the server's share is largest
        faster = figure_of([cold.total_s / hot.total_s for hot, cold in pairs])
        figures |= {"rollout_api_time": api, "rollout_floor": floor, "rollout_never_slower": faster}
    return figures


def _api_s(one: Split, round_trip_s: float) -> float:
    """Outside engine, tools and one round trip per turn."""
    return one.total_s - one.floor_s(round_trip_s)


_HEAD = (
    "engine, network, mix, calls", "arm", "total s", "client s", "network s", "server s", "engine s", "tools s",
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
                f"{median(1e3 * _api_s(one, trip) / one.turns for one in ones):.2f}",
                f"{median(one.total_s / one.floor_s(trip) for one in ones):.3f}",
                f"{median(1e3 * one.first_token_s for one in ones):.1f}",
                f"{ones[-1].prompt_tokens:,}",
            )
        )
    return rows


def _notes(taken: Taken, figures: Mapping[str, Figure]) -> list[str]:
    prefill = ", ".join(f"{rate:,} at {speed:,}" for speed, rate in PREFILL.items())
    trips = ", ".join(f"{name} {1e3 * trip:.3f} ms" for name, trip in taken.round_trips.items())
    gains = [
        f"{name.removeprefix('rollout_')} {figure.median:.3g}"
        for name, figure in figures.items()
        if name not in {goal.name for goal in GOALS}
    ]
    return [
        "Engines with a speed are simulated: tokens decoded a second; prefilled behind the engine's prefix cache, which is on"
        f" in all arms: {prefill}. real: the demonstration model, user messages instead of tool calls, answers cut.",
        f"Vocabulary: {taken.vocabulary}. A rollout has one turn more than calls; its first prompt has 10,000 tokens, its last"
        " 60,000.",
        "Tool times are accounted, not slept: they are the same in all arms, and a server gets no pause between turns.",
        f"Round trips, bare: {trips}. WAN: {ROUND_TRIP_MS:g} ms, {UP_MBIT:g} Mbit/s up, no loss, no slow start. Floor: engine,"
        " tools, one bare round trip per turn.",
        f"interactive 50, websocket against http with caches off (per cent less; floor: times): {', '.join(gains)}.",
    ]


def _charts(taken: Taken) -> list[Bars]:
    bars = [f"{key.series.name}\n{key.arm}" for key in taken.splits]
    parts = {
        name: [
            median(getattr(one, f"{name}_s") for one in ones) / ones[0].turns * 1e3 for ones in taken.splits.values()
        ]
        for name in ("client", "network", "server")
    }
    return [Bars("Time of a turn outside engine and tools", "ms per turn", bars, parts)]
