"""`hotloop bench load`: many connections at once.

N streams at R tokens a second (simulated engine), alone, beside clients that never read, and while a create of 200,000 tokens
arrives; and what a connection weighs that does nothing.
"""

import asyncio
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop

from hotloop.bench.answers import Answer
from hotloop.bench.chart import Bars
from hotloop.bench.cpu import cpu_seconds, pinned, resident_bytes, split_cores
from hotloop.bench.frames import masked_frame
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import figure_of
from hotloop.bench.scripts import TURN_WORDS, write_speed_script
from hotloop.bench.servers import RunningServer, hotloop_server
from hotloop.bench.stalls import (
    CREATE,
    SPEED,
    WARM_UP_S,
    Pair,
    creates,
    measure_stalls,
    stall,
    stall_notes,
)
from hotloop.bench.streams import Heard, Stream, close_all, connect
from hotloop.bench.workload import create, encoded, question

TITLE = "hotloop bench load: many connections at once"
GOALS = (Goal("idle_connection", 25), Goal("stall_64", 1.5))
TTFT_LIMIT_S = 0.1  # a turn is good if its first delta came within this
GAP_FACTOR = 1.5  # and its mean gap was at most so much of the engine's


@dataclass(frozen=True, slots=True)
class Arm:
    """`streams` connections that get `speed` tokens a second each, turn after turn, and `slow` ones that never read."""

    streams: int
    speed: int
    slow: int = 0

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.streams} × {self.speed} tokens/s" + (f", {self.slow} never read" if self.slow else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    arms: tuple[Arm, ...]
    window_s: float
    rounds: int
    idle: int  # connections to a round


FULL = Plan(
    (Arm(1, 65), Arm(64, 65), Arm(64, 65, 8), Arm(256, 65), Arm(64, 250)),
    window_s=3.0,
    rounds=3,
    idle=200,
)
QUICK = Plan((Arm(64, 65),), window_s=2.0, rounds=5, idle=100)


@dataclass(frozen=True, slots=True)
class Window:
    """What one arm did in one round."""

    cpu_s: float
    wall_s: float
    tokens: float
    resident: int
    first_tokens: Sequence[float]
    gaps: Sequence[float]
    good: int  # turns within both limits


@dataclass(frozen=True, slots=True)
class Taken:
    """Everything that was measured. `stalls`: longest gaps, by what arrived (`bench.stalls`)."""

    windows: Mapping[Arm, Sequence[Window]]
    stalls: Mapping[str, Sequence[Pair]]
    idle_bytes: Sequence[float]


def measure(plan: Plan) -> Findings:
    """Run the plan. Raises BenchError."""
    _allow_many_files()
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        folder = Path(stack.enter_context(TemporaryDirectory()))
        speeds = sorted({SPEED, *(arm.speed for arm in plan.arms)})
        servers = {
            speed: stack.enter_context(hotloop_server(write_speed_script(folder, speed), server_core))
            for speed in speeds
        }
        stack.enter_context(pinned(client_core))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            idle = runner.run(_idle(servers[SPEED], plan))
            windows: dict[Arm, list[Window]] = {arm: [] for arm in plan.arms}
            for _ in range(plan.rounds):
                for arm in plan.arms:
                    windows[arm].append(runner.run(_window(servers[arm.speed], arm, plan.window_s)))
            server = servers[SPEED]
            endless = partial(turn_frame, server, "endless")
            stalls = runner.run(measure_stalls(server, endless, creates(server), plan.rounds, plan.window_s / 2))
    return findings_of(Taken(windows, stalls, idle))


def _allow_many_files() -> None:
    """A socket is a file: as many as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _idle(server: RunningServer, plan: Plan) -> list[float]:
    """Bytes per connection, by round. The first connections, not counted, bring what is loaded only once."""
    open_: list[Stream] = []
    try:
        open_ += await connect(server, plan.idle)
        found: list[float] = []
        for _ in range(plan.rounds):
            before = resident_bytes(server.pid)
            open_ += await connect(server, plan.idle)
            found.append((resident_bytes(server.pid) - before) / plan.idle)
        return found
    finally:
        close_all(open_)


def turn_frame(server: RunningServer, name: str, number: int, previous: str | None = None) -> bytes:
    """A turn that asks for the answer `name` of the script."""
    return masked_frame(encoded(create(server.model, [question(name, number, 200)], previous=previous)))


async def _window(server: RunningServer, arm: Arm, seconds: float) -> Window:
    streams = await connect(server, arm.streams)
    slow = await connect(server, arm.slow)
    try:
        for number, one in enumerate(slow):
            one.stop_reading()
            one.ask(turn_frame(server, "endless", number))
        for number, stream in enumerate(streams):
            stream.keep_on = _next_turn(server, number)
            stream.ask(turn_frame(server, "turn", number))
            await asyncio.sleep(WARM_UP_S / arm.streams)
        for stream in streams:
            stream.emptied()
        cpu, started = cpu_seconds(server.pid), time.perf_counter()
        await asyncio.sleep(seconds)
        cpu, wall = cpu_seconds(server.pid) - cpu, time.perf_counter() - started
        resident = resident_bytes(server.pid)
        return window_of(arm, cpu, wall, resident, [stream.emptied() for stream in streams])
    finally:
        close_all([*streams, *slow])


def _next_turn(server: RunningServer, number: int) -> Callable[[Answer], bytes]:
    return lambda answer: turn_frame(server, "turn", number, answer.response_id)


def window_of(arm: Arm, cpu_s: float, wall_s: float, resident: int, heard: Sequence[Heard]) -> Window:
    """One window out of what its streams heard."""
    answers = [answer for one in heard for answer in one.answers]
    deltas = sum(one.deltas for one in heard)
    per_delta = sum(one.output_tokens for one in answers) / max(1, sum(one.deltas for one in answers))
    return Window(
        cpu_s=cpu_s,
        wall_s=wall_s,
        tokens=deltas * (per_delta or 1.0),
        resident=resident,
        first_tokens=sorted(answer.first_delta_s for answer in answers),
        gaps=sorted(gap for one in heard for gap in one.gaps),
        good=sum(is_good(answer, arm.speed) for answer in answers),
    )


def is_good(answer: Answer, speed: float) -> bool:
    """Within both limits of the goodput."""
    mean_gap = (answer.completed_s - answer.first_delta_s) / max(1, answer.output_tokens - 1)
    return answer.first_delta_s <= TTFT_LIMIT_S and mean_gap <= GAP_FACTOR / speed


def findings_of(taken: Taken) -> Findings:
    """Table, ratios and chart."""
    connection = figure_of([size / 1000 for size in taken.idle_bytes])
    return Findings(
        table=Table("Medians of the rounds", _HEAD, [_row(arm, ones) for arm, ones in taken.windows.items()]),
        figures={"idle_connection": connection, "stall_64": stall(taken.stalls[CREATE])},
        notes=[
            f"Simulated engine. Answers of {TURN_WORDS} words, turn after turn, each continuing the one before. TTFT: sent to"
            " first delta, at the client; gaps between consecutive deltas. RSS of the whole server, model files included.",
            f"Goodput: turns a second whose TTFT is at most {TTFT_LIMIT_S * 1e3:g} ms and whose mean gap at most "
            f"{GAP_FACTOR:g} times the engine's.",
            f"An idle connection: {connection.median:.1f} kB of resident memory, spread {connection.spread:.2g}.",
            *stall_notes(taken.stalls),
            f"stall_64 is the gap while {CREATE} arrives, less 5 ms, over the one without.",
        ],
        samples={
            **{arm.name: [asdict(one) for one in ones] for arm, ones in taken.windows.items()},
            "stall_64": {name: list(pairs) for name, pairs in taken.stalls.items()},
            "idle_connection": list(taken.idle_bytes),
        },
        charts=[_chart(taken.windows)],
    )


_PERCENTILES = (0.50, 0.95, 0.99)
_HEAD = (
    "load", "CPU µs/token", "± µs", "TTFT p50 ms", "p95", "p99", "gap p50 ms", "p95", "p99", "tokens/s", "goodput turns/s",
    "RSS MB",
)  # fmt: skip


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so many of the values do not exceed; 0 of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _row(arm: Arm, ones: Sequence[Window]) -> tuple[str, ...]:
    cpu = figure_of([1e6 * one.cpu_s / max(1.0, one.tokens) for one in ones])
    times = [[one.first_tokens for one in ones], [one.gaps for one in ones]]
    spreads = [
        f"{1e3 * median(percentile(values, share) for values in rounds):.1f}"
        for rounds in times
        for share in _PERCENTILES
    ]
    rates = [median(one.tokens / one.wall_s for one in ones), median(one.good / one.wall_s for one in ones)]
    resident = median(one.resident for one in ones) / 1e6
    return (
        arm.name,
        f"{cpu.median:.1f}",
        f"{cpu.spread:.1f}",
        *spreads,
        f"{rates[0]:,.0f}",
        f"{rates[1]:.1f}",
        f"{resident:.0f}",
    )


def _chart(windows: Mapping[Arm, Sequence[Window]]) -> Bars:
    bars = [arm.name for arm in windows]
    lengths = [median(1e6 * one.cpu_s / max(1.0, one.tokens) for one in ones) for ones in windows.values()]
    return Bars("CPU of the server per token", "µs", bars, {"CPU": lengths})
