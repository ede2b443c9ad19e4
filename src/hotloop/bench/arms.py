"""What one arm does in one round: a few turns, with the server's CPU time read before and after them.

A base is preloaded and then continued, 1 KB at a time, a few turns to a stretch; two turns of a few tokens go before every
stretch and are not measured (none where every turn is rendered in full). When the conversation has outgrown its length, a new
base is made on a new connection. Bases are so much shorter than the wanted history that the mean measured prompt has its
length.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from hotloop.bench.answers import Answer, BenchError
from hotloop.bench.clients import Connection, HttpClient, WebSocketClient
from hotloop.bench.cpu import settled_cpu_seconds
from hotloop.bench.frames import masked_frame
from hotloop.bench.servers import API_KEY, RunningServer
from hotloop.bench.workload import LONG_TOOL, Json, create, create_bytes, encoded, history, question

TOLERANCE = 0.10  # of the prompt tokens an arm is named for
Transport = Literal["websocket", "http"]
Mode = Literal["previous", "resend"]
_DRIFT = 0.14  # how far a chain may grow while it counts as of one length, from 7 % below to 7 % above
_LEAST_TURNS = 3  # of a stretch, and measured on one base, however short
_PROBE_CHARS = (8_000, 24_000)
_PROBE_TURNS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One arm in one round: CPU is the mean turn's, times are the median turn's."""

    cpu_s: float
    first_event_s: float = 0.0
    first_delta_s: float = 0.0
    completed_s: float = 0.0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    output_tokens: float = 0.0
    deltas: float = 0.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How text becomes prompt tokens on this server's tokenizer."""

    offset: float  # prompt tokens of a base without tool outputs
    per_char: float
    warm_up: float  # tokens that a turn of a few words adds
    turn: float  # tokens that a measured turn adds: the question, and the answer before it
    question: float  # of these, the question's

    def chars(self, tokens: float) -> int:
        """Characters of tool output that make a base of `tokens`."""
        return max(0, round((tokens - self.offset) / self.per_char))


def sample_of(cpu_s: float, answers: Sequence[Answer]) -> Sample:
    """Several turns as one sample; `cpu_s` is that of all of them."""
    return Sample(
        cpu_s=cpu_s / len(answers),
        first_event_s=median(answer.first_event_s for answer in answers),
        first_delta_s=median(answer.first_delta_s for answer in answers),
        completed_s=median(answer.completed_s for answer in answers),
        prompt_tokens=fmean(answer.prompt_tokens for answer in answers),
        cached_tokens=fmean(answer.cached_tokens for answer in answers),
        output_tokens=fmean(answer.output_tokens for answer in answers),
        deltas=fmean(answer.deltas for answer in answers),
    )


def round_trips(pid: int, connection: Connection, request: bytes, answer_bytes: int, count: int) -> Sample:
    """A floor's round: `count` requests, each answered with `answer_bytes`."""
    times: list[float] = []
    before = settled_cpu_seconds(pid)
    for _ in range(count):
        started = time.perf_counter()
        connection.socket.sendall(request)
        connection.receive_exactly(answer_bytes)
        times.append(time.perf_counter() - started)
    return Sample((settled_cpu_seconds(pid) - before) / count, completed_s=median(times))


class Conversation:
    """A growing conversation on a connection of its own, kept at about one length.

    Args:
        server: where it talks to.
        answer: the kind of answer every measured turn asks for.
        transport: what carries it.
        mode: `previous` sends what is new and names the response before, `resend` sends all of it every time.
        warm_ups: turns of a few tokens that go before every measured stretch.
    """

    def __init__(
        self,
        server: RunningServer,
        answer: str,
        *,
        transport: Transport = "websocket",
        mode: Mode = "previous",
        warm_ups: int = 2,
    ) -> None:
        self._server = server
        self._answer = answer
        self._connect = WebSocketClient if transport == "websocket" else HttpClient
        self._transport = transport
        self._mode = mode
        self._warm_ups = warm_ups
        self._client: WebSocketClient | HttpClient | None = None
        self._latest = ""
        self._sent: list[bytes] = []  # with the answers between them, if all is sent again
        self._base_chars = 0
        self._turns_per_base = 0
        self._turns_left = 0
        self._asked = 0

    def begin(self, chars: int) -> Answer:
        """Preload a base with `chars` characters of tool output on a fresh connection."""
        self.close()
        self._client = self._connect(self._server.host, self._server.port, api_key=API_KEY)
        self._latest = ""
        self._sent = []
        return self._send([*history(chars), question("short", 0, 0)])

    def warm_up(self) -> Answer:
        """A turn of a few tokens."""
        return self._send([question("short", 0, 0)])

    def ask(self) -> Answer:
        """One more turn: about 1 KB of new input."""
        self._asked += 1
        return self._send([question(self._answer, self._asked)])

    def keep_at(self, tokens: int, scale: Scale, turns_in_all: int) -> None:
        """From now on the mean measured prompt has `tokens`, over `turns_in_all` turns."""
        self._turns_per_base = max(_LEAST_TURNS, min(turns_in_all, int(_DRIFT * tokens / scale.turn)))
        # The first measured turn stands behind a short answer, whatever it asks for itself.
        grown = scale.warm_up * (self._warm_ups - 1) + scale.question + scale.turn * (self._turns_per_base - 1) / 2
        self._base_chars = scale.chars(tokens - grown)
        self._turns_left = 0

    def sample(self, turns: int) -> Sample:
        """One round of `turns` measured turns. Unmeasured ones go before every stretch, so that all start alike warm."""
        cpu_s = 0.0
        answers: list[Answer] = []
        while len(answers) < turns:
            warm_ups = self._warm_ups
            if not self._turns_left:
                self.begin(self._base_chars)
                self._turns_left = self._turns_per_base
                warm_ups -= 1
            for _ in range(warm_ups):
                self.warm_up()
            count = min(_LEAST_TURNS, self._turns_left, turns - len(answers))
            before = settled_cpu_seconds(self._server.pid)
            answers += [self.ask() for _ in range(count)]
            cpu_s += settled_cpu_seconds(self._server.pid) - before
            self._turns_left -= count
        return sample_of(cpu_s, answers)

    def attend(self) -> None:
        """Keep the connection alive while other arms run."""
        if isinstance(self._client, WebSocketClient):
            self._client.attend()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def _send(self, items: Sequence[Json]) -> Answer:
        assert self._client is not None, "begin first"
        new = [encoded(item) for item in items]
        is_resent = self._mode == "resend"
        answer = self._client.ask(
            create_bytes(
                self._server.model,
                [*self._sent, *new] if is_resent else new,
                transport=self._transport,
                previous="" if is_resent else self._latest,
                # Over HTTP only a stored response can be named.
                store=self._transport == "http" and not is_resent,
            )
        )
        if is_resent:
            self._sent += [*new, *answer.output]
        self._latest = answer.response_id
        return answer


class Chain:
    """A WebSocket connection for the fixed cost: every round a new chain of turns whose input is a few tokens."""

    def __init__(self, client: WebSocketClient, server: RunningServer) -> None:
        self._client = client
        self._server = server

    def sample(self, answer: str, turns: int) -> Sample:
        """One round: the first turn of the chain is not measured."""
        answers = [self._ask(answer, None)]
        before = settled_cpu_seconds(self._server.pid)
        for _ in range(turns):
            answers.append(self._ask(answer, answers[-1].response_id))
        return sample_of(settled_cpu_seconds(self._server.pid) - before, answers[1:])

    def _ask(self, answer: str, previous: str | None) -> Answer:
        body = create(self._server.model, [question(answer, 0, 0)], previous=previous, tool=LONG_TOOL)
        return self._client.turn(masked_frame(encoded(body)))


def measure_scale(conversation: Conversation) -> Scale:
    """Read off the server's own counts how many tokens text, the first turn and further turns make."""
    few, many = (conversation.begin(chars).prompt_tokens for chars in _PROBE_CHARS)
    per_char = (many - few) / (_PROBE_CHARS[1] - _PROBE_CHARS[0])
    warm_up = conversation.warm_up().prompt_tokens
    first, *_, last = (conversation.ask() for _ in range(_PROBE_TURNS))
    turn = (last.prompt_tokens - first.prompt_tokens) / (_PROBE_TURNS - 1)
    return Scale(
        offset=few - per_char * _PROBE_CHARS[0],
        per_char=per_char,
        warm_up=warm_up - many,
        turn=turn,
        question=turn - last.output_tokens,
    )


def check_tokens(name: str, wanted: int, samples: Sequence[Sample]) -> None:
    """The arm measured what it is named for. Raises BenchError."""
    found = fmean(sample.prompt_tokens for sample in samples)
    if abs(found / wanted - 1) > TOLERANCE:
        raise BenchError(f"{name}: {found:.0f} prompt tokens instead of {wanted}")


def check_continued(name: str, samples: Sequence[Sample]) -> None:
    """No measured turn fell back to a full prompt. Raises BenchError."""
    if any(sample.cached_tokens < sample.prompt_tokens / 2 for sample in samples):
        raise BenchError(
            f"{name}: the server did not continue from previous_response_id, it prefilled the whole prompt"
        )
