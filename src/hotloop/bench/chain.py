"""`hotloop bench chain`: whether the thousandth turn of a chain costs what the tenth did.

Two chains per transport, with the same small turns: a young one, begun anew for every round, and an old one that is a
thousand turns long. WebSocket on one connection, `store: false`; HTTP on one keep-alive connection, `store: true`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from hotloop.bench.answers import Answer, BenchError
from hotloop.bench.arms import Sample, sample_of
from hotloop.bench.chart import Bars
from hotloop.bench.clients import HttpClient, WebSocketClient
from hotloop.bench.cpu import pinned, settled_cpu_seconds, split_cores
from hotloop.bench.frames import masked_frame
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import figure_of, interleave, ratio_of
from hotloop.bench.scripts import write_script
from hotloop.bench.servers import API_KEY, RunningServer, hotloop_server
from hotloop.bench.workload import TOOL, Json, encoded, question

TITLE = "hotloop bench chain: what the thousandth turn of a chain costs against the tenth"
GOALS = (Goal("chain_1000", 1.25), Goal("chain_1000_http", 1.25))
YOUNG = 10  # turns; the one measured in the middle of its stretch
_LEAST_GROWTH = 4  # tokens that a turn adds, or something was lost


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `old`: length of the old chain, in the middle of the run."""

    old: int
    rounds: int
    turns: int = 6  # measured per round and arm


FULL = Plan(old=1_000, rounds=21)
QUICK = Plan(old=1_000, rounds=11)

_Key = tuple[str, int]  # transport, turns of the chain


class Chain:
    """A chain of small turns. `send` takes a body and gives its answer."""

    def __init__(self, server: RunningServer, send: Callable[[Json], Answer], *, store: bool) -> None:
        self._server = server
        self._send = send
        self._store = store
        self._latest: Answer | None = None
        self._turns = 0

    def begin(self) -> None:
        """Start over."""
        self._latest = None
        self._turns = 0

    def grow(self, turns: int) -> list[Answer]:
        """So many more turns. Raises BenchError if one lost what came before it."""
        return [self._ask() for _ in range(turns)]

    def sample(self, turns: int, pid: int) -> Sample:
        """Turns measured, two unmeasured ones before them so that all start alike warm."""
        self.grow(2)
        before = settled_cpu_seconds(pid)
        answers = self.grow(turns)
        return sample_of(settled_cpu_seconds(pid) - before, answers)

    def young_sample(self, turns: int, pid: int) -> Sample:
        """The same, of a chain begun anew whose tenth turn stands in the middle."""
        self.begin()
        self.grow(YOUNG - turns // 2 - 2)
        return self.sample(turns, pid)

    def _ask(self) -> Answer:
        before = self._latest
        self._turns += 1
        body: Json = {"model": self._server.model, "store": self._store, "tools": [TOOL]}
        body["input"] = [question("short", self._turns, 0)]
        if before is not None:
            body["previous_response_id"] = before.response_id
        answer = self._latest = self._send(body)
        least = 0 if before is None else before.prompt_tokens + before.output_tokens + _LEAST_GROWTH
        if answer.prompt_tokens < least:
            raise BenchError(f"turn {self._turns} saw {answer.prompt_tokens} tokens, not the {least} there must be")
        return answer


def measure(plan: Plan) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        script = Path(stack.enter_context(TemporaryDirectory())) / "script.json"
        write_script(script)
        server = stack.enter_context(hotloop_server(script, server_core))
        stack.enter_context(pinned(client_core))
        arms: dict[_Key, Callable[[], Sample]] = {}
        for transport, connect in (("websocket", _websocket), ("http", _http)):
            young, old = connect(stack, server), connect(stack, server)
            old.grow(max(1, plan.old - plan.rounds * (plan.turns + 2) // 2))
            arms[transport, YOUNG] = partial(young.young_sample, plan.turns, server.pid)
            arms[transport, plan.old] = partial(old.sample, plan.turns, server.pid)
        for sample in arms.values():
            sample()  # warm-up
        samples = interleave(arms, plan.rounds)
    return _findings(plan, samples)


def _websocket(stack: ExitStack, server: RunningServer) -> Chain:
    client = stack.enter_context(WebSocketClient(server.host, server.port, api_key=API_KEY))

    def send(body: Json) -> Answer:
        return client.turn(masked_frame(encoded({"type": "response.create", **body})))

    return Chain(server, send, store=False)


def _http(stack: ExitStack, server: RunningServer) -> Chain:
    client = stack.enter_context(HttpClient(server.host, server.port, api_key=API_KEY))

    def send(body: Json) -> Answer:
        return client.turn(client.request(encoded({**body, "stream": True})))

    return Chain(server, send, store=True)


def _findings(plan: Plan, samples: Mapping[_Key, Sequence[Sample]]) -> Findings:
    return Findings(
        table=Table("CPU of the server process and time at the client, per turn", _HEAD, _rows(samples)),
        figures={
            name: ratio_of(_cpu(samples[transport, plan.old]), _cpu(samples[transport, YOUNG]))
            for name, transport in (("chain_1000", "websocket"), ("chain_1000_http", "http"))
        },
        notes=_NOTES,
        samples={
            f"{transport} {turns}": [asdict(one) for one in taken] for (transport, turns), taken in samples.items()
        },
        charts=[
            Bars(
                "CPU of the server per turn",
                "µs",
                [f"{transport}, turn {turns:,}" for transport, turns in samples],
                {"CPU": [figure_of(_cpu(taken)).median * 1e6 for taken in samples.values()]},
            )
        ],
    )


_HEAD = ("arm", "turn", "prompt tokens", "CPU µs", "± µs", "completed µs")
_NOTES = [
    "± is half the distance between the quartiles of the rounds. Times are on loopback, sent to received.",
    "Scripted engine: answers come from a file, no model runs and nothing is prefilled; engine time is in no figure.",
    "Every turn's prompt holds the tokens of all turns before it, or the run fails.",
]


def _rows(samples: Mapping[_Key, Sequence[Sample]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for (transport, turns), taken in samples.items():
        cpu = figure_of(_cpu(taken))
        tokens = fmean(one.prompt_tokens for one in taken)
        completed = figure_of([one.completed_s for one in taken]).median * 1e6
        figures = (f"{cpu.median * 1e6:,.1f}", f"{cpu.spread * 1e6:,.1f}", f"{completed:,.0f}")
        rows.append((transport, f"{turns:,}", f"{tokens:,.0f}", *figures))
    return rows


def _cpu(samples: Sequence[Sample]) -> list[float]:
    return [sample.cpu_s for sample in samples]
