"""`hotloop bench stall`: how long 64 streams wait while a large message is read for somebody else.

One table row for each kind of message, on whatever route it comes. Rounds send every message once, each between a window in
which nothing arrives and the next.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from hotloop.bench.chart import Bars
from hotloop.bench.cpu import pinned, split_cores
from hotloop.bench.large_bodies import large_bodies
from hotloop.bench.load import turn_frame
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import figure_of
from hotloop.bench.scripts import write_speed_script
from hotloop.bench.servers import SERVE, hotloop_server
from hotloop.bench.stalls import SPEED, STREAMS, Pair, creates, measure_stalls

TITLE = "hotloop bench stall: what other streams notice of a large message"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `only`: messages whose names hold one of these."""

    window_s: float
    rounds: int
    only: tuple[str, ...] = ("",)


FULL = Plan(window_s=1.0, rounds=5)
QUICK = Plan(window_s=0.5, rounds=1, only=("in a", "steer", "conversation"))


def measure(plan: Plan, serve: Sequence[str] = SERVE) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        script = write_speed_script(Path(stack.enter_context(TemporaryDirectory())), SPEED)
        server = stack.enter_context(hotloop_server(script, server_core, serve))
        stack.enter_context(pinned(client_core))
        messages = {**creates(server), **large_bodies(server)}
        chosen = {name: arrival for name, arrival in messages.items() if any(part in name for part in plan.only)}
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            endless = partial(turn_frame, server, "endless")
            found = runner.run(measure_stalls(server, endless, chosen, plan.rounds, plan.window_s))
    return findings_of(found)


def findings_of(found: Mapping[str, Sequence[Pair]]) -> Findings:
    """Table and chart."""
    head = ("arrives", "longest gap ms without", "±", "with", "±")
    return Findings(
        table=Table("Medians of the rounds", head, [_row(name, pairs) for name, pairs in found.items()]),
        figures={},
        notes=[
            f"Simulated engine. {STREAMS} streams at {SPEED} tokens/s; the gap is the longest between two deltas of any "
            "of them in a window without and in one with the message, which lasts until that is answered.",
        ],
        samples={name: list(pairs) for name, pairs in found.items()},
        charts=[_chart(found)],
    )


def _row(name: str, pairs: Sequence[Pair]) -> tuple[str, ...]:
    without, with_it = (figure_of([1e3 * pair[side] for pair in pairs]) for side in (0, 1))
    return (name, *(f"{value:.1f}" for one in (without, with_it) for value in (one.median, one.spread)))


def _chart(found: Mapping[str, Sequence[Pair]]) -> Bars:
    without, with_it = (
        [figure_of([1e3 * pair[side] for pair in pairs]).median for pairs in found.values()] for side in (0, 1)
    )
    longer = [max(0.0, longest - idle) for longest, idle in zip(with_it, without, strict=True)]
    return Bars(f"Longest gap of {STREAMS} streams", "ms", list(found), {"without": without, "longer with it": longer})
