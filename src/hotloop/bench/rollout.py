"""`hotloop bench rollout`: where the time of a whole agent rollout goes, and how far it is from its floor.

The baseline is the same server with its own caches off and a stateless client that resends everything over HTTP keep-alive.
The engine keeps its prefix cache in all arms. Speeds are simulated; `real` is the demonstration model. What a baseline costs
hangs on its tokenizer: the judged one encodes with the tokenizers library, as servers of open models do.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from hotloop.bench.agent import Agent, Input, Split
from hotloop.bench.clients import Connection, HttpClient, WebSocketClient
from hotloop.bench.cpu import pinned, split_cores
from hotloop.bench.floor_server import FRAME, request_bytes
from hotloop.bench.report import Findings
from hotloop.bench.rollout_plan import (
    COLD,
    HOT,
    HOT_HTTP,
    PREFILL,
    REAL_FIRST,
    REAL_INPUT,
    REAL_OUTPUT,
    REAL_TURNS,
    Key,
    Plan,
    Series,
)
from hotloop.bench.rollout_result import Taken, findings_of
from hotloop.bench.rollout_work import Texts, inputs, write_script
from hotloop.bench.rounds import interleave
from hotloop.bench.servers import API_KEY, SERVE, RunningServer, floor_server, hotloop_server, wide_area
from hotloop.bench.vocabularies import DEMONSTRATION, Vocabularies, load_both
from hotloop.seams.tokenizer import Tokenizer

TITLE = "hotloop bench rollout: where the time of an agent's rollout goes"
_TRIPS = 50
_PAUSE_S = 0.02  # before each bare round trip: who has slept is slower to answer, and between turns everybody sleeps


@dataclass(frozen=True, slots=True)
class _Player:
    """One arm of a series."""

    agent: Agent
    work: Sequence[Input]

    def play(self) -> Split:
        """The whole rollout."""
        return self.agent.play(self.work)

    def warm_up(self) -> None:
        """Its first turn, unmeasured: what a server does once, behind its first turn, is no rollout's."""
        self.agent.play(self.work[:1])


def measure(plan: Plan, given: Vocabularies = DEMONSTRATION) -> Findings:
    """Run the plan. Raises BenchError."""
    splits: dict[Key, list[Split]] = {}
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        folder = Path(stack.enter_context(TemporaryDirectory()))
        vocabularies = load_both(given, folder)
        raw = stack.enter_context(floor_server("raw", server_core))
        trips = {network: _round_trip(raw, network) for network in dict.fromkeys(one.network for one in plan.series)}
        for speed, encoder in dict.fromkeys((one.speed, one.tokenizer) for one in plan.series):
            series = [one for one in plan.series if (one.speed, one.tokenizer) == (speed, encoder)]
            vocabulary = vocabularies[encoder]
            script = _script(folder, series, vocabulary.tokenizer)
            command = [*SERVE, *(vocabulary.flags if speed else ())]
            with (
                hotloop_server(script, server_core, command) as hot,
                hotloop_server(script, server_core, command, caches="off") as cold,
                pinned(client_core),
                ExitStack() as links,
            ):
                arms = {one: _arms(links, one, hot, cold, vocabulary.tokenizer) for one in series}
                for player in arms[series[0]].values():
                    player.warm_up()
                splits |= _crowd(arms, plan.crowd) if speed == plan.crowd_speed else _in_turn(arms)
    return findings_of(Taken(splits, trips, {encoder: one.name for encoder, one in vocabularies.items()}))


def _in_turn(arms: Mapping[Series, Mapping[Key, _Player]]) -> dict[Key, list[Split]]:
    splits: dict[Key, list[Split]] = {}
    for series, players in arms.items():
        splits |= interleave({key: player.play for key, player in players.items()}, series.rounds)
    return splits


def _crowd(arms: Mapping[Series, Mapping[Key, _Player]], size: int) -> dict[Key, list[Split]]:
    """One round of each, several at a time."""
    with ThreadPoolExecutor(size) as pool:
        playing = {key: pool.submit(player.play) for players in arms.values() for key, player in players.items()}
        return {key: [one.result()] for key, one in playing.items()}


def _script(folder: Path, series: Sequence[Series], tokenizer: Tokenizer) -> Path | None:
    speed = series[0].speed
    if not speed:
        return None
    path = folder / f"{speed}.json"
    rollouts = list(dict.fromkeys((one.mix, one.calls) for one in series))
    write_script(path, rollouts, tokenizer, decode=speed, prefill=PREFILL[speed])
    return path


def _round_trip(raw: RunningServer, network: str) -> float:
    """The median bare round trip of a peer that has slept."""
    times: list[float] = []
    with ExitStack() as stack:
        server = _reached(stack, raw, network)
        link = stack.enter_context(Connection(server.host, server.port))
        for _ in range(_TRIPS):
            time.sleep(_PAUSE_S)
            started = time.perf_counter()
            link.socket.sendall(request_bytes("T", 1))
            link.receive_exactly(len(FRAME))
            times.append(time.perf_counter() - started)
    return median(times)


def _reached(stack: ExitStack, server: RunningServer, network: str) -> RunningServer:
    if network == "loopback":
        return server
    host, port = stack.enter_context(wide_area(server.host, server.port))
    return replace(server, host=host, port=port)


def _arms(
    links: ExitStack, series: Series, hot: RunningServer, cold: RunningServer, tokenizer: Tokenizer
) -> dict[Key, _Player]:
    work = inputs(series.mix, series.calls, tokenizer) if series.speed else _chat(tokenizer)
    near, far = (_reached(links, server, series.network) for server in (hot, cold))
    websocket, http, hot_http = (
        partial(kind, server.host, server.port, api_key=API_KEY, timing=True)
        for kind, server in ((WebSocketClient, near), (HttpClient, far), (HttpClient, near))
    )
    agents = {
        # Both with the same name: a real model answers the same text with the same number of tokens.
        HOT: Agent(websocket, hot.model, series.network, is_resending=False),
        COLD: Agent(http, cold.model, series.network, is_resending=True),
    }
    if series.with_hot_http:
        agents[HOT_HTTP] = Agent(hot_http, hot.model, f"http-{series.network}", is_resending=True)
    return {Key(series, arm): _Player(agent, work) for arm, agent in agents.items()}


def _chat(tokenizer: Tokenizer) -> list[Input]:
    """Turns for a model that answers as it likes: user messages, answers cut at a length."""
    texts = Texts(tokenizer)
    sizes = [REAL_FIRST] + [REAL_INPUT] * (REAL_TURNS - 1)
    return [Input(texts.output(tokens), max_output_tokens=REAL_OUTPUT) for tokens in sizes]
