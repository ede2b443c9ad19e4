"""`hotloop bench floor`: what a turn and a delta cost above the cheapest socket program.

fixed    a turn of one word: a create of 1 KB whose input is a few tokens, so that tokenizing is out of it
tick     per token, one to an engine step and loop tick: the slope between a long and a short answer
batch    per token, sixteen to an engine step
raw      1 KB in, 200 B frames out on bare uvloop, one per loop tick or sixteen per write
sends    the same frames, each through one ASGI send, on the stack that hotloop runs on, with nothing else in the program

What our own socket path saves is judged by the same server and turns, forced onto the ASGI path; what sixteen tokens in one
delta save, by sending an event for each of them through ASGI, with no engine or parser behind it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hotloop.bench.arms import Chain, Sample, round_trips
from hotloop.bench.clients import Connection, WebSocketClient
from hotloop.bench.cpu import pinned, split_cores
from hotloop.bench.floor_server import BATCH, FRAME, request_bytes
from hotloop.bench.frames import masked_frame
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import Figure, figure_of, interleave, ratio_of
from hotloop.bench.scripts import write_script
from hotloop.bench.servers import API_KEY, floor_server, hotloop_server

TITLE = "hotloop bench floor: a turn and a delta as multiples of the cheapest socket program"
GOALS = (
    Goal("fixed_turn", 6, in_quick=False),
    Goal("delta_tick", 2),
    Goal("delta_batch", 2.5),
    Goal("vs_asgi_tick", 1.5, at_most=False, in_quick=False),
    Goal("vs_asgi_batch", 5, at_most=False),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured, per round and arm."""

    rounds: int
    turns: int = 40  # short ones
    long_turns: int = 4
    round_trips: int = 200
    streams: int = 4  # requests for many frames
    frames: int = 512


FULL = Plan(rounds=21)
QUICK = Plan(rounds=9)


def measure(plan: Plan) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        script = Path(stack.enter_context(TemporaryDirectory())) / "script.json"
        write_script(script)
        floors = {kind: stack.enter_context(floor_server(kind, server_core)) for kind in ("raw", "asgi")}
        servers = {
            path: stack.enter_context(hotloop_server(script, server_core, websocket=path)) for path in ("raw", "asgi")
        }
        stack.enter_context(pinned(client_core))
        raw = stack.enter_context(Connection(floors["raw"].host, floors["raw"].port))
        sends = stack.enter_context(WebSocketClient(floors["asgi"].host, floors["asgi"].port, path="/"))
        arms: dict[str, Callable[[], Sample]] = {}
        for path, server in servers.items():
            client = stack.enter_context(WebSocketClient(server.host, server.port, api_key=API_KEY))
            chain = Chain(client, server)
            arms[f"turn-{path} short"] = partial(chain.sample, "short", plan.turns)
            arms[f"turn-{path} tick"] = partial(chain.sample, "stream", plan.long_turns)
            arms[f"turn-{path} batch"] = partial(chain.sample, "batch", plan.long_turns)
        for kind, pid, link, framed in (
            ("raw", floors["raw"].pid, raw, bytes),
            ("sends", floors["asgi"].pid, sends, masked_frame),
        ):
            measure_floor = partial(_floor_round, pid, link, framed)
            arms[f"{kind} short"] = partial(measure_floor, "T", 1, plan.round_trips)
            arms[f"{kind} tick"] = partial(measure_floor, "T", plan.frames, plan.streams)
            arms[f"{kind} batch"] = partial(measure_floor, "B", plan.frames, plan.streams)
        for sample in arms.values():
            sample()  # warm-up: lazy imports, caches
        return _findings(plan, interleave(arms, plan.rounds))


def _floor_round(
    pid: int, link: Connection, framed: Callable[[bytes], bytes], mode: str, frames: int, count: int
) -> Sample:
    sample = round_trips(pid, link, framed(request_bytes(mode, frames)), len(FRAME) * frames, count)
    return Sample(sample.cpu_s, output_tokens=frames)


def _findings(plan: Plan, samples: Mapping[str, Sequence[Sample]]) -> Findings:
    fixed = {name: [one.cpu_s for one in samples[f"{arm} short"]] for name, arm in _PROGRAMS.items()}
    slopes = {
        name: {mode: _slope(samples[f"{arm} short"], samples[f"{arm} {mode}"]) for mode in ("tick", "batch")}
        for name, arm in _PROGRAMS.items()
    }
    figures = {"fixed_turn": ratio_of(fixed["hotloop"], fixed["raw uvloop"])}
    for mode in ("tick", "batch"):
        figures[f"delta_{mode}"] = ratio_of(slopes["hotloop"][mode], slopes["raw uvloop"][mode])
    figures["vs_asgi_tick"] = ratio_of(slopes["hotloop through ASGI"]["tick"], slopes["hotloop"]["tick"])
    figures["vs_asgi_batch"] = ratio_of(slopes["ASGI sends"]["batch"], slopes["hotloop"]["batch"])
    rows = [
        (name, *_cells(fixed[name]), *_cells(slopes[name]["tick"]), *_cells(slopes[name]["batch"]))
        for name in _PROGRAMS
    ]
    return Findings(
        table=Table("CPU of the server process", _HEAD, rows),
        figures=figures,
        notes=[*_NOTES, _delta_note(samples)],
        samples={name: [asdict(one) for one in taken] for name, taken in samples.items()},
    )


_PROGRAMS = {"hotloop": "turn-raw", "hotloop through ASGI": "turn-asgi", "raw uvloop": "raw", "ASGI sends": "sends"}
_HEAD = (
    "program",
    "turn or round trip µs",
    "± µs",
    "token or frame, one per tick µs",
    "± µs",
    f"{BATCH} per tick µs",
    "± µs",
)
_NOTES = [
    "± is half the distance between the quartiles of the rounds. Frames of the floor are 200 B, a delta event is about that.",
    "Of sixteen tokens in one step hotloop makes one delta on either path, so the path matters little there.",
    "Scripted engine: answers come from a file, no model runs; its own work per step is in hotloop's figures.",
]


def _slope(short: Sequence[Sample], long: Sequence[Sample]) -> list[float]:
    """CPU seconds per further token or frame, round by round."""
    return [
        (many.cpu_s - few.cpu_s) / (many.output_tokens - few.output_tokens)
        for few, many in zip(short, long, strict=True)
    ]


def _cells(seconds: Sequence[float]) -> tuple[str, str]:
    figure: Figure = figure_of(seconds)
    return f"{figure.median * 1e6:,.2f}", f"{figure.spread * 1e6:,.2f}"


def _delta_note(samples: Mapping[str, Sequence[Sample]]) -> str:
    counts = [
        f"{name.split()[1]} {samples[name][0].output_tokens:.0f} tokens in {samples[name][0].deltas:.0f} delta events"
        for name in ("turn-raw tick", "turn-raw batch")
    ]
    return f"hotloop's long answers: {', '.join(counts)}."
