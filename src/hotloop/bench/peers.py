"""`hotloop bench peers`: the same conversations against any other Responses server, beside hotloop, turn by turn interleaved.

A server is given by its URL, several by a file. Behind each stands what its owner put there; with the bench's mock engine
(`python -m hotloop.bench.peer_mock PORT`) the prompt tokens that reach the engine are counted too. Without a URL only hotloop's
own arms run.
"""

import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from hotloop.bench.answers import BenchError
from hotloop.bench.chart import Bars
from hotloop.bench.clients import PATH
from hotloop.bench.mix import FIRST_TURN_TOKENS, load, stretched
from hotloop.bench.peer_chat import CHARS_PER_TOKEN, Chat, Target, Turn
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import figure_of, interleave
from hotloop.bench.scripts import write_script
from hotloop.bench.servers import API_KEY, WIDE_AREA, hotloop_server
from hotloop.bench.workload import SEED, output_lines

TITLE = "hotloop bench peers: the same turns against other Responses servers"
_T = TypeVar("_T")
_MIX, _CALLS = "interactive", 50


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `histories` are in tokens of four characters."""

    histories: tuple[int, ...]
    rounds: int
    networks: tuple[str, ...] = ("loopback",)
    rollouts: int = 0  # rounds of them


FULL = Plan((1_000, 20_000, 100_000, 200_000), 11, ("loopback", WIDE_AREA), rollouts=3)
QUICK = Plan((1_000, 20_000), 5)


@dataclass(frozen=True, slots=True)
class Played:
    """A rollout at the client: every turn's text is sent as soon as the answer before it is whole."""

    total_s: float
    turns: int
    first_delta_s: float  # mean


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured, by target: turns also by length of history."""

    turns: Mapping[tuple[Target, int], Sequence[Turn]]
    rollouts: Mapping[Target, Sequence[Played]]
    failures: Sequence[str] = ()  # of servers that were left out


class Peer(msgspec.Struct, forbid_unknown_fields=True):
    """One way to ask one server, as the options or an entry of the file give it."""

    url: str
    name: str = "peer"
    model: str = "mock"
    api_key: str = "none"
    transport: Literal["http", "websocket"] = "http"
    mode: Literal["previous", "full"] = "full"
    mock: str = ""


def add_options(parser: ArgumentParser) -> None:
    """The bench's own."""
    parser.add_argument("--url", metavar="URL", help="base URL of the other server, ending in /v1")
    parser.add_argument("--name", default="peer", metavar="NAME", help="how the table calls it; default: peer")
    parser.add_argument("--model", default="mock", metavar="NAME", help="model to ask it for; default: mock")
    parser.add_argument("--api-key", default="none", metavar="KEY", help="sent as a bearer token; default: none")
    parser.add_argument("--transport", choices=("http", "websocket"), default="http", help="default: http")
    parser.add_argument(
        "--mode",
        choices=("previous", "full"),
        default="full",
        help="what every turn sends: what is new and previous_response_id, or the whole history; default: full",
    )
    parser.add_argument("--mock", default="", metavar="URL", help="the mock engine behind it, http://HOST:PORT")
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="FILE.json",
        help="several servers, or several ways to ask one: a list of objects with these options as keys",
    )


def targets_of(given: Namespace) -> list[Target]:
    """The servers asked for. Raises BenchError."""
    peers: list[Peer] = []
    if given.peers is not None:
        try:
            peers += msgspec.json.decode(given.peers.read_bytes(), type=list[Peer])
        except OSError as error:
            raise BenchError(f"--peers {given.peers}: {error.strerror}") from error
        except msgspec.DecodeError as error:
            raise BenchError(f"--peers {given.peers}: {error}") from error
    if given.url:
        peers.append(Peer(given.url, given.name, given.model, given.api_key, given.transport, given.mode, given.mock))
    return [_target(peer) for peer in peers]


def _target(peer: Peer) -> Target:
    for url in (peer.url, peer.mock):
        if url and not (url.startswith("http://") and _has_host(url)):
            raise BenchError(f"{url}: the URL must be http://HOST:PORT, the bench's client speaks no TLS")
    parts = urlsplit(peer.url)
    return Target(
        name=peer.name,
        host=parts.hostname or "",
        port=parts.port or 80,
        path=f"{parts.path.rstrip('/')}/responses",
        model=peer.model,
        api_key=peer.api_key,
        transport=peer.transport,
        is_resending=peer.mode == "full",
        counts_url=f"{peer.mock.rstrip('/')}/counts" if peer.mock else "",
    )


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        return False


def measure(plan: Plan, peers: Sequence[Target]) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        script = Path(stack.enter_context(TemporaryDirectory())) / "script.json"
        write_script(script)
        ours = stack.enter_context(hotloop_server(script, None))
        near = [
            Target("hotloop", ours.host, ours.port, PATH, ours.model, API_KEY, transport, is_resending)
            for transport, is_resending in (("websocket", False), ("http", True))
        ]
        near += peers
        targets = [one if net == "loopback" else one.far(stack) for net in plan.networks for one in near]
        standing = _Standing(peers)
        chats: list[tuple[Target, Chat]] = []
        turns: dict[tuple[Target, int], Callable[[], Turn | None]] = {}
        for tokens in plan.histories:
            for target in targets:
                begin = partial(_begun, stack, target, tokens)
                chat = standing.tries(target, begin)
                if chat is not None:
                    chats.append((target, chat))
                    turns[target, tokens] = partial(_attended, standing, chats, target, chat)
        for turn in turns.values():
            turn()  # warm-up
        taken = interleave(turns, plan.rounds)
        texts = _texts() if plan.rollouts else []
        rollouts = {one: partial(standing.tries, one, partial(_play, one, texts)) for one in targets}
        played = interleave(rollouts, plan.rollouts)
    return findings_of(
        Taken(
            {key: _whole(ones) for key, ones in taken.items() if key[0] not in standing.left_out},
            {target: _whole(ones) for target, ones in played.items() if target not in standing.left_out},
            list(dict.fromkeys(standing.left_out.values())),
        )
    )


class _Standing:
    """Who still takes part: a server that fails once is left out, unless it is hotloop or the only other one."""

    def __init__(self, peers: Sequence[Target]) -> None:
        self._may_fail = {(peer.name, peer.way) for peer in peers} if len(peers) > 1 else set[tuple[str, str]]()
        self.left_out: dict[Target, str] = {}

    def tries(self, target: Target, act: Callable[[], _T]) -> _T | None:
        """What it gives; None if it is out. Raises BenchError of one that may not fail."""
        if target in self.left_out:
            return None
        try:
            return act()
        except BenchError as error:
            if (target.name, target.way) not in self._may_fail:
                raise
            self.left_out[target] = str(error)
            return None


def _attended(standing: _Standing, chats: Sequence[tuple[Target, Chat]], target: Target, chat: Chat) -> Turn | None:
    """One turn; the others' connections are kept alive first."""
    for owner, one in chats:
        standing.tries(owner, one.attend)
    return standing.tries(target, chat.turn)


def _begun(stack: ExitStack, target: Target, tokens: int) -> Chat:
    chat = stack.enter_context(closing(Chat(target)))
    chat.begin(tokens)
    return chat


def _whole(ones: Sequence[_T | None]) -> list[_T]:
    return [one for one in ones if one is not None]


def _texts() -> list[str]:
    """The task and the tool outputs of a rollout, in tokens of four characters."""
    random_ = random.Random(SEED)
    sizes = [FIRST_TURN_TOKENS, *(step.tool_output_tokens for step in stretched(load(_MIX)[:_CALLS]))]
    return ["\n".join(output_lines(random_, size * CHARS_PER_TOKEN)) for size in sizes]


def _play(target: Target, texts: Sequence[str]) -> Played:
    with closing(Chat(target)) as chat:
        started = perf_counter()
        answers = [chat.say(text) for text in texts]
        total = perf_counter() - started
    return Played(total, len(answers), fmean(answer.first_delta_s for answer in answers))


_HEAD = (
    "server", "way", "network", "history", "first event ms", "first delta ms", "completed ms", "± ms", "engine tokens/turn",
    "engine requests/turn",
)  # fmt: skip
_ROLLOUT_HEAD = ("server", "way", "network", "total s", "± s", "ms/turn", "TTFT ms")


def findings_of(taken: Taken) -> Findings:
    """The tables. Nothing is judged: servers with different engines behind them are shown side by side."""
    rollouts = [_rollout_row(target, ones) for target, ones in taken.rollouts.items() if ones]
    title = f"A rollout of {_CALLS + 1} turns, 10,000 to 60,000 tokens, the engine at no cost"
    return Findings(
        table=Table("A turn at the client", _HEAD, [_row(*key, turns) for key, turns in taken.turns.items()]),
        more=[Table(title, _ROLLOUT_HEAD, rollouts)] if rollouts else [],
        figures={},
        notes=[
            "Histories are in tokens of four characters. previous: new items and `previous_response_id`; full: all of it.",
            "hotloop runs its scripted engine in process, tokenizer and format included, the other servers whatever stands"
            " behind them (the mock engine: one word, at once, nothing tokenized). Engine tokens are what the mock was asked to"
            " read, four characters each.",
            *(f"Left out: {failure}" for failure in taken.failures),
        ],
        samples={
            **{f"{one.name} {one.way} {one.network} {tokens}": [turn._asdict() for turn in turns]
               for (one, tokens), turns in taken.turns.items()},
            **{f"{one.name} {one.way} {one.network} rollout": [asdict(played) for played in ones]
               for one, ones in taken.rollouts.items()},
        },
        charts=_charts(taken),
    )  # fmt: skip


def _row(target: Target, tokens: int, turns: Sequence[Turn]) -> tuple[str, ...]:
    times = [
        figure_of([getattr(turn, name) * 1e3 for turn in turns])
        for name in ("first_event_s", "first_delta_s", "completed_s")
    ]
    shown = [f"{figure.median:.2f}" for figure in times]
    reached = [_middle([turn.engine_tokens for turn in turns]), _middle([turn.engine_requests for turn in turns])]
    return (target.name, target.way, target.network, f"{tokens:,}", *shown, f"{times[-1].spread:.2f}", *reached)


def _rollout_row(target: Target, ones: Sequence[Played]) -> tuple[str, ...]:
    total = figure_of([one.total_s for one in ones])
    return (
        target.name,
        target.way,
        target.network,
        f"{total.median:.3f}",
        f"{total.spread:.3f}",
        f"{1e3 * total.median / ones[0].turns:.2f}",
        f"{1e3 * median(one.first_delta_s for one in ones):.2f}",
    )


def _charts(taken: Taken) -> list[Bars]:
    longest = max(tokens for _, tokens in taken.turns)
    shown = {target: turns for (target, tokens), turns in taken.turns.items() if tokens == longest}
    bars = [f"{target.name} {target.way}, {target.network}" for target in shown]
    first = [median(turn.first_delta_s * 1e3 for turn in turns) for turns in shown.values()]
    return [Bars(f"First delta behind {longest:,} tokens", "ms", bars, {"first delta": first})]


def _middle(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{figure_of(known).median:,.0f}" if known else "-"
