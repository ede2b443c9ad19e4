"""`hotloop bench peers`: the same conversation against any other Responses server, beside hotloop, turn by turn interleaved.

The server is given by its URL. Behind it stands what its owner put there; with the bench's mock engine
(`python -m hotloop.bench.peer_mock`) the prompt tokens that reach the engine are counted too. Without a URL only hotloop's own
arms run.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

from hotloop.bench.answers import Answer, BenchError
from hotloop.bench.clients import PATH, HttpClient, WebSocketClient
from hotloop.bench.report import Findings, Table
from hotloop.bench.rounds import figure_of, interleave
from hotloop.bench.scripts import write_script
from hotloop.bench.servers import API_KEY, hotloop_server
from hotloop.bench.workload import create_bytes, encoded, history, question

TITLE = "hotloop bench peers: the same turns against another Responses server"
_CHARS_PER_TOKEN = 4  # nobody's tokenizer, and the mock's count


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `histories` are in tokens of four characters."""

    histories: tuple[int, ...]
    rounds: int


FULL = Plan((1_000, 20_000, 100_000, 200_000), 11)
QUICK = Plan((1_000, 20_000), 5)


@dataclass(frozen=True, slots=True)
class Target:
    """A server and how to talk to it."""

    name: str
    host: str
    port: int
    path: str
    model: str
    api_key: str
    transport: str
    is_resending: bool
    counts_url: str = ""  # of the mock behind it

    @property
    def way(self) -> str:
        """For the table."""
        return f"{self.transport} {'full' if self.is_resending else 'previous'}"


class Turn(NamedTuple):
    """One turn at the client; tokens and requests that reached the mock for it, if there is one."""

    first_event_s: float
    first_delta_s: float
    completed_s: float
    engine_tokens: int | None
    engine_requests: int | None


class Chat:
    """A conversation with a target, of a given length when it begins."""

    def __init__(self, target: Target, tokens: int) -> None:
        self._target = target
        connect = WebSocketClient if target.transport == "websocket" else HttpClient
        self._client = connect(target.host, target.port, api_key=target.api_key, path=target.path)
        self._latest = ""
        self._sent: list[bytes] = []
        self._asked = 0
        self._send([*map(encoded, history(tokens * _CHARS_PER_TOKEN)), self._question()])

    def turn(self) -> Turn:
        """One more turn of about 1 KB."""
        before = _counts(self._target.counts_url)
        answer = self._send([self._question()])
        after = _counts(self._target.counts_url)
        reached = (None, None) if before is None or after is None else (after[0] - before[0], after[1] - before[1])
        return Turn(answer.first_event_s, answer.first_delta_s, answer.completed_s, *reached)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _question(self) -> bytes:
        self._asked += 1
        return encoded(question("short", self._asked))

    def _send(self, new: list[bytes]) -> Answer:
        target = self._target
        items = [*self._sent, *new] if target.is_resending else new
        # Without a connection that remembers, only a stored response can be named.
        store = target.transport == "http" and not target.is_resending
        previous = "" if target.is_resending else self._latest
        answer = self._client.ask(
            create_bytes(target.model, items, transport=target.transport, previous=previous, store=store)
        )
        self._sent += [*new, *answer.output]
        self._latest = answer.response_id
        return answer


def _counts(url: str) -> tuple[int, int] | None:
    """Prompt tokens and requests that the mock has seen."""
    if not url:
        return None
    try:
        with urlopen(url, timeout=10) as answer:  # an http URL: `target_of` has checked it
            found = json.load(answer)
    except (OSError, ValueError) as error:
        raise BenchError(f"the mock at {url} does not answer: {error}") from error
    return found["prompt_tokens"], found["requests"]


def add_options(parser: ArgumentParser) -> None:
    """The bench's own."""
    parser.add_argument("--url", metavar="URL", help="base URL of the other server, ending in /v1")
    parser.add_argument("--name", default="peer", metavar="NAME", help="how the table calls it")
    parser.add_argument("--model", default="mock", metavar="NAME", help="model to ask it for; default: mock")
    parser.add_argument("--api-key", default="none", metavar="KEY", help="sent as a bearer token")
    parser.add_argument("--transport", choices=("http", "websocket"), default="http")
    parser.add_argument("--mode", choices=("previous", "full"), default="full", help="what every turn sends")
    parser.add_argument("--mock", default="", metavar="URL", help="the mock engine behind it, http://HOST:PORT")


def target_of(given: Namespace) -> Target | None:
    """The server asked for; None without a URL. Raises BenchError."""
    if not given.url:
        return None
    urls: tuple[str, str] = (given.url, given.mock)
    for url in urls:
        if url and not (url.startswith("http://") and urlsplit(url).hostname):
            raise BenchError(f"{url}: the URL must be http://HOST:PORT, the bench's client speaks no TLS")
    parts = urlsplit(urls[0])
    return Target(
        name=given.name,
        host=parts.hostname or "",
        port=parts.port or 80,
        path=f"{parts.path.rstrip('/')}/responses",
        model=given.model,
        api_key=given.api_key,
        transport=given.transport,
        is_resending=given.mode == "full",
        counts_url=f"{urls[1].rstrip('/')}/counts" if urls[1] else "",
    )


def measure(plan: Plan, peer: Target | None) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        script = Path(stack.enter_context(TemporaryDirectory())) / "script.json"
        write_script(script)
        ours = stack.enter_context(hotloop_server(script, None))
        targets = [
            Target("hotloop", ours.host, ours.port, PATH, ours.model, API_KEY, transport, is_resending)
            for transport, is_resending in (("websocket", False), ("http", True))
        ]
        if peer is not None:
            targets.append(peer)
        arms: dict[tuple[Target, int], Callable[[], Turn]] = {}
        for tokens in plan.histories:
            for target in targets:
                arms[target, tokens] = partial(_reached(stack, target, tokens).turn)
        for turn in arms.values():
            turn()  # warm-up
        return findings_of(interleave(arms, plan.rounds))


def _reached(stack: ExitStack, target: Target, tokens: int) -> Chat:
    try:
        return stack.enter_context(closing(Chat(target, tokens)))
    except OSError as error:
        raise BenchError(f"{target.name} at {target.host}:{target.port}: {error.strerror or error}") from error


_HEAD = (
    "server", "way", "history", "first event ms", "first delta ms", "completed ms", "± ms", "engine tokens/turn",
    "engine requests/turn",
)  # fmt: skip


def findings_of(taken: Mapping[tuple[Target, int], Sequence[Turn]]) -> Findings:
    """The table. Nothing is judged: two servers with different engines behind them are shown side by side."""
    rows: list[tuple[str, ...]] = []
    for (target, tokens), turns in taken.items():
        times = [
            figure_of([getattr(turn, name) * 1e3 for turn in turns])
            for name in ("first_event_s", "first_delta_s", "completed_s")
        ]
        shown = [f"{figure.median:.2f}" for figure in times]
        reached = [_middle([turn.engine_tokens for turn in turns]), _middle([turn.engine_requests for turn in turns])]
        rows.append((target.name, target.way, f"{tokens:,}", *shown, f"{times[-1].spread:.2f}", *reached))
    return Findings(
        table=Table("A turn at the client, on loopback", _HEAD, rows),
        figures={},
        notes=[
            "Histories are in tokens of four characters. previous: new items and `previous_response_id`; full: all of it.",
            "hotloop runs its scripted engine in process, the other server whatever stands behind it (the mock engine: one"
            " word, at once). Engine tokens are what the mock was asked to read, four characters each.",
        ],
        samples={
            f"{target.name} {target.way} {tokens}": [turn._asdict() for turn in turns]
            for (target, tokens), turns in taken.items()
        },
    )


def _middle(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{figure_of(known).median:,.0f}" if known else "-"
