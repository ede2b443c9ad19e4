"""`hotloop bench turn`: what a turn costs the server against the length of its history.

WebSocket with `previous_response_id` against a full resend over HTTP and against a bare round trip (`bench.arms`). One
server process per length of history, so that none pays for another's memory; all arms interleaved.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from hotloop.bench.arms import (
    Conversation,
    Resender,
    Sample,
    Scale,
    check_continued,
    check_tokens,
    measure_scale,
    round_trips,
)
from hotloop.bench.clients import Connection, HttpClient
from hotloop.bench.cpu import pinned, split_cores
from hotloop.bench.floor_server import FRAME, request_bytes
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import Figure, figure_of, interleave, ratio_of
from hotloop.bench.scripts import ANSWERS, write_script
from hotloop.bench.servers import API_KEY, RunningServer, floor_server, hotloop_server

TITLE = "hotloop bench turn: what a turn costs the server against the length of its history"
GOALS = (
    Goal("flat_200k", 1.10),
    Goal("vs_resend_200k", 150, at_most=False, judged=False),
    Goal("vs_resend_20k", 20, at_most=False, judged=False),
    Goal("first_delta_200k", 1.25, judged=False),
)
_RAW_TURNS = 200
_RESENT_TOKENS = 10_000  # an HTTP arm resends about this many tokens a round, in one turn or several


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    histories: tuple[int, ...]
    answers: tuple[str, ...]
    rounds: int
    turns: int = 12  # measured per round and WebSocket arm


FULL = Plan(histories=(1_000, 20_000, 100_000, 200_000), answers=("short", "long"), rounds=21)
QUICK = Plan(histories=(1_000, 20_000, 200_000), answers=("short",), rounds=15)

_Key = tuple[str, int, str]  # transport, history, answer


def measure(plan: Plan) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        script = Path(stack.enter_context(TemporaryDirectory())) / "script.json"
        write_script(script)
        raw = stack.enter_context(floor_server("raw", server_core))
        servers = [stack.enter_context(hotloop_server(script, server_core)) for _ in plan.histories]
        stack.enter_context(pinned(client_core))
        link = stack.enter_context(Connection(raw.host, raw.port))
        arms: dict[_Key, Callable[[], Sample]] = {
            ("raw", 0, ""): partial(round_trips, raw.pid, link, request_bytes("T", 1), len(FRAME), _RAW_TURNS)
        }
        for answer in plan.answers:
            scale = _scale(servers[0], answer)
            for tokens, server in zip(plan.histories, servers, strict=True):
                arms["websocket", tokens, answer] = _websocket(stack, plan, server, answer, tokens, scale)
                arms["http", tokens, answer] = _http(stack, server, answer, tokens, scale)
        for sample in arms.values():
            sample()  # warm-up: lazy imports, caches
        samples = interleave(arms, plan.rounds)
    _check(samples)
    return _findings(plan, samples)


def _check(samples: Mapping[_Key, Sequence[Sample]]) -> None:
    for (transport, tokens, answer), taken in samples.items():
        if transport != "raw":
            check_tokens(f"{transport} {tokens} {answer}", tokens, taken)
        if transport == "websocket":
            check_continued(f"{transport} {tokens} {answer}", taken)


def _scale(server: RunningServer, answer: str) -> Scale:
    with closing(Conversation(server, answer)) as probe:
        return measure_scale(probe)


def _websocket(
    stack: ExitStack, plan: Plan, server: RunningServer, answer: str, tokens: int, scale: Scale
) -> Callable[[], Sample]:
    conversation = stack.enter_context(closing(Conversation(server, answer)))
    conversation.keep_at(tokens, scale, plan.turns * plan.rounds)
    return partial(conversation.sample, plan.turns)


def _http(stack: ExitStack, server: RunningServer, answer: str, tokens: int, scale: Scale) -> Callable[[], Sample]:
    client = stack.enter_context(HttpClient(server.host, server.port, api_key=API_KEY))
    resender = Resender(client, server, answer, scale.chars(tokens - scale.question))
    return partial(resender.sample, max(1, _RESENT_TOKENS // tokens))


def _findings(plan: Plan, samples: Mapping[_Key, Sequence[Sample]]) -> Findings:
    figures: dict[str, Figure] = {}
    first = plan.answers[0]
    shortest = samples["websocket", plan.histories[0], first]
    for tokens in plan.histories:
        name = f"{tokens // 1000}k"
        hot, resent = samples["websocket", tokens, first], samples["http", tokens, first]
        figures[f"vs_resend_{name}"] = ratio_of(_cpu(resent), _cpu(hot))
        if tokens != plan.histories[0]:
            figures[f"flat_{name}"] = ratio_of(_cpu(hot), _cpu(shortest))
            figures[f"first_delta_{name}"] = ratio_of(_first_delta(hot), _first_delta(shortest))
    return Findings(
        table=Table("CPU of the server process and time at the client, per turn", _HEAD, _rows(samples)),
        figures=figures,
        notes=_NOTES,
        samples={" ".join(map(str, key)).strip(): [asdict(one) for one in taken] for key, taken in samples.items()},
    )


_HEAD = (
    "arm", "history", "answer", "prompt tokens", "deltas", "CPU µs", "± µs", "first event µs", "first delta µs",
    "completed µs",
)  # fmt: skip
_NOTES = [
    "± is half the distance between the quartiles of the rounds. Times are on loopback, sent to received.",
    "Scripted engine: answers come from a file, no model runs and nothing is prefilled; engine time is in no figure.",
    f"Answers: short is {ANSWERS['short']} word, long are {ANSWERS['long']}. Ratios are those of the short one.",
]


def _rows(samples: Mapping[_Key, Sequence[Sample]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for (transport, tokens, answer), taken in sorted(
        samples.items(), key=lambda entry: (entry[0][0] != "raw", entry[0])
    ):
        cpu = figure_of(_cpu(taken))
        shown = [transport, f"{tokens:,}" if tokens else "-", answer or "-"]
        counts = (
            [f"{fmean(one.prompt_tokens for one in taken):,.0f}", f"{taken[0].deltas:.0f}"] if tokens else ["-", "-"]
        )
        times = [
            f"{figure_of([getattr(one, name) for one in taken]).median * 1e6:,.0f}" if tokens else "-"
            for name in ("first_event_s", "first_delta_s", "completed_s")
        ]
        rows.append((*shown, *counts, f"{cpu.median * 1e6:,.1f}", f"{cpu.spread * 1e6:,.1f}", *times))
    return rows


def _cpu(samples: Sequence[Sample]) -> list[float]:
    return [sample.cpu_s for sample in samples]


def _first_delta(samples: Sequence[Sample]) -> list[float]:
    return [sample.first_delta_s for sample in samples]
