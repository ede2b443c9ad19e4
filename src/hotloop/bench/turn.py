"""`hotloop bench turn`: what a turn costs the server against the length of its history.

WebSocket and HTTP, each with `previous_response_id` and with a full resend, each with our caches on and off, against a bare
round trip (`bench.arms`). One server process per length of history and state of the caches, so that none pays for another's
memory; all arms interleaved.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

from hotloop.bench.arms import (
    Conversation,
    Mode,
    Sample,
    Scale,
    Transport,
    check_continued,
    check_tokens,
    measure_scale,
    round_trips,
)
from hotloop.bench.chart import Lines
from hotloop.bench.clients import Connection
from hotloop.bench.cpu import pinned, split_cores
from hotloop.bench.floor_server import FRAME, request_bytes
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import Figure, figure_of, interleave, ratio_of
from hotloop.bench.scripts import ANSWERS, write_script
from hotloop.bench.servers import RunningServer, floor_server, hotloop_server

TITLE = "hotloop bench turn: what a turn costs the server against the length of its history"
GOALS = (
    Goal("flat_200k", 1.10),
    Goal("flat_1m", 1.25),
    Goal("vs_resend_200k", 150, at_most=False, in_quick=False),
    Goal("vs_resend_20k", 20, at_most=False, in_quick=False),
    Goal("vs_resend_1k", 1, at_most=False),
    Goal("first_delta_200k", 1.25),
    Goal("first_delta_raw", 20, in_quick=False),
)
_RAW_TURNS = 200
_COLD_TOKENS = 10_000  # an arm that renders in full does about this many tokens a round, in one turn or several


class Arm(NamedTuple):
    """One way to ask, at one length of history. `raw` is the bare round trip."""

    transport: Transport | Literal["raw"]
    mode: Mode | Literal[""]
    caches: str
    tokens: int
    answer: str

    @property
    def way(self) -> str:
        """Without length and answer."""
        return " ".join(filter(None, (self.transport, self.mode, f"caches {self.caches}" if self.caches else "")))

    @property
    def is_hot(self) -> bool:
        """The way that is judged, as against the stateless one."""
        return (self.transport, self.mode, self.caches) == _HOT


_RAW = Arm("raw", "", "", 0, "")
_HOT: tuple[Transport, Mode, str] = ("websocket", "previous", "on")
_STATELESS: tuple[Transport, Mode, str] = ("http", "resend", "off")
_ALL: tuple[tuple[Transport, Mode, str], ...] = (
    _HOT,
    ("http", "previous", "on"),
    ("websocket", "resend", "on"),
    ("http", "resend", "on"),
    ("websocket", "previous", "off"),
    ("http", "previous", "off"),
    ("websocket", "resend", "off"),
    _STATELESS,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: the two ways that are judged with every answer, all ways with the first one."""

    histories: tuple[int, ...]
    answers: tuple[str, ...]
    rounds: int
    turns: int = 12  # measured per round and arm that does not render in full
    all_ways: bool = True

    def arms(self) -> "Iterator[Arm]":
        """Every arm but the raw one."""
        for number, answer in enumerate(self.answers):
            for tokens in self.histories:
                for way in _ALL if self.all_ways and not number else (_HOT, _STATELESS):
                    yield Arm(*way, tokens, answer)


FULL = Plan(histories=(1_000, 20_000, 100_000, 200_000, 1_000_000), answers=("short", "long"), rounds=11)
QUICK = Plan(histories=(1_000, 20_000, 200_000), answers=("short",), rounds=15, all_ways=False)


def measure(plan: Plan) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        script = Path(stack.enter_context(TemporaryDirectory())) / "script.json"
        write_script(script)
        raw = stack.enter_context(floor_server("raw", server_core))
        servers = {
            (tokens, caches): stack.enter_context(hotloop_server(script, server_core, caches=caches))
            for tokens in plan.histories
            for caches in ("on", "off")
        }
        stack.enter_context(pinned(client_core))
        link = stack.enter_context(Connection(raw.host, raw.port))
        arms: dict[Arm, Callable[[], Sample]] = {
            _RAW: partial(round_trips, raw.pid, link, request_bytes("T", 1), len(FRAME), _RAW_TURNS)
        }
        scales = {answer: _scale(servers[plan.histories[0], "on"], answer) for answer in plan.answers}
        conversations: list[Conversation] = []
        for arm in plan.arms():
            is_cold = arm.caches == "off"
            turns = max(1, _COLD_TOKENS // arm.tokens) if is_cold else plan.turns
            conversation = Conversation(
                servers[arm.tokens, arm.caches],
                arm.answer,
                transport="http" if arm.transport == "http" else "websocket",
                mode="resend" if arm.mode == "resend" else "previous",
                warm_ups=1 if is_cold else 2,
            )
            stack.enter_context(closing(conversation))
            conversation.keep_at(arm.tokens, scales[arm.answer], turns * plan.rounds)
            conversations.append(conversation)
            arms[arm] = partial(_sample, conversations, conversation, turns)
        for sample in arms.values():
            sample()  # warm-up: lazy imports, caches
        samples = interleave(arms, plan.rounds)
    _check(samples)
    return findings_of(plan, samples)


def _sample(all_of_them: Sequence[Conversation], one: Conversation, turns: int) -> Sample:
    """One round of an arm; the others' connections are kept alive first."""
    for conversation in all_of_them:
        conversation.attend()
    return one.sample(turns)


def _check(samples: Mapping[Arm, Sequence[Sample]]) -> None:
    for arm, taken in samples.items():
        name = f"{arm.way} {arm.tokens} {arm.answer}"
        if arm is not _RAW:
            check_tokens(name, arm.tokens, taken)
        if (arm.mode, arm.caches) == ("previous", "on"):
            check_continued(name, taken)


def _scale(server: RunningServer, answer: str) -> Scale:
    with closing(Conversation(server, answer)) as probe:
        return measure_scale(probe)


def findings_of(plan: Plan, samples: Mapping[Arm, Sequence[Sample]]) -> Findings:
    """Ratios, table and charts out of the samples of all arms."""
    figures: dict[str, Figure] = {}
    first = plan.answers[0]
    shortest = samples[Arm(*_HOT, plan.histories[0], first)]
    for tokens in plan.histories:
        name = f"{tokens // 1_000_000}m" if tokens >= 1_000_000 else f"{tokens // 1000}k"
        hot, resent = samples[Arm(*_HOT, tokens, first)], samples[Arm(*_STATELESS, tokens, first)]
        figures[f"vs_resend_{name}"] = ratio_of(_cpu(resent), _cpu(hot))
        if tokens != plan.histories[0]:
            figures[f"flat_{name}"] = ratio_of(_cpu(hot), _cpu(shortest))
            figures[f"first_delta_{name}"] = ratio_of(_first_delta(hot), _first_delta(shortest))
        if tokens == _RAW_JUDGED_AT:
            figures["first_delta_raw"] = ratio_of(_first_delta(hot), [one.completed_s for one in samples[_RAW]])
    return Findings(
        table=Table("CPU of the server process and time at the client, per turn", _HEAD, _rows(samples)),
        figures=figures,
        notes=_NOTES,
        samples={
            f"{arm.way} {arm.tokens} {arm.answer}": [asdict(one) for one in taken] for arm, taken in samples.items()
        },
        skipped={} if 1_000_000 in plan.histories else {"flat_1m": "only in the full run"},
        charts=[
            Lines("CPU of the server per turn", "tokens of history", "µs", _curves(samples, first, "cpu_s")),
            Lines("First delta at the client", "tokens of history", "µs", _curves(samples, first, "first_delta_s")),
        ],
    )


def _curves(samples: Mapping[Arm, Sequence[Sample]], answer: str, name: str) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for arm, taken in sorted(samples.items(), key=lambda entry: entry[0].tokens):
        if arm.answer == answer:
            point = (arm.tokens, figure_of([getattr(one, name) for one in taken]).median * 1e6)
            curves.setdefault(arm.way, []).append(point)
    return dict(sorted(curves.items()))


_RAW_JUDGED_AT = 200_000
_HEAD = (
    "arm", "history", "answer", "prompt tokens", "deltas", "CPU µs", "± µs", "first event µs", "first delta µs",
    "completed µs",
)  # fmt: skip
_NOTES = [
    "± is half the distance between the quartiles of the rounds. Times are on loopback, sent to received.",
    "Scripted engine: answers come from a file, no model runs and nothing is prefilled; engine time is in no figure.",
    f"Answers: short is {ANSWERS['short']} word, long are {ANSWERS['long']}. Ratios are those of the short one.",
    "previous: new items and `previous_response_id` (over HTTP with `store: true`); resend: the whole history."
    " Tokenizer: that of the demonstration model. Judged is websocket previous against http resend with caches off.",
]


def _rows(samples: Mapping[Arm, Sequence[Sample]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for arm, taken in sorted(samples.items(), key=lambda entry: (entry[0] is not _RAW, entry[0])):
        cpu = figure_of(_cpu(taken))
        names = ("first_event_s", "first_delta_s", "completed_s")
        times = [f"{figure_of([getattr(one, name) for one in taken]).median * 1e6:,.0f}" for name in names]
        if arm is _RAW:
            shown = ["-", "-", "-", "-"]
            times[:2] = ["-", "-"]
        else:
            tokens = fmean(one.prompt_tokens for one in taken)
            shown = [f"{arm.tokens:,}", arm.answer, f"{tokens:,.0f}", f"{taken[0].deltas:.0f}"]
        rows.append((arm.way, *shown, f"{cpu.median * 1e6:,.1f}", f"{cpu.spread * 1e6:,.1f}", *times))
    return rows


def _cpu(samples: Sequence[Sample]) -> list[float]:
    return [sample.cpu_s for sample in samples]


def _first_delta(samples: Sequence[Sample]) -> list[float]:
    return [sample.first_delta_s for sample in samples]
