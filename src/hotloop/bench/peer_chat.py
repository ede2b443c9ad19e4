"""A conversation with any Responses server, and what reached the mock engine behind it."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.request import urlopen

from hotloop.bench.answers import Answer, BenchError
from hotloop.bench.clients import HttpClient, WebSocketClient
from hotloop.bench.servers import WIDE_AREA, wide_area
from hotloop.bench.workload import create_bytes, encoded, history, question, user_message

CHARS_PER_TOKEN = 4  # nobody's tokenizer, and the mock's count


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
    network: str = "loopback"

    @property
    def way(self) -> str:
        """For the table."""
        return f"{self.transport} {'full' if self.is_resending else 'previous'}"

    def far(self, stack: ExitStack) -> "Target":
        """The same server behind the shaping proxy."""
        host, port = stack.enter_context(wide_area(self.host, self.port))
        return replace(self, host=host, port=port, network=WIDE_AREA)


class Turn(NamedTuple):
    """One turn at the client; tokens and requests that reached the mock for it, if there is one."""

    first_event_s: float
    first_delta_s: float
    completed_s: float
    engine_tokens: int | None
    engine_requests: int | None


class Chat:
    """A conversation with a target, one turn at a time. Raises BenchError that names the target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client = self._connected()
        self._latest = ""
        self._sent: list[bytes] = []
        self._asked = 0

    def begin(self, tokens: int) -> None:
        """Preload a history of that length."""
        self._send([*map(encoded, history(tokens * CHARS_PER_TOKEN)), self._question()])

    def turn(self) -> Turn:
        """One more turn of about 1 KB."""
        before = _counts(self._target.counts_url)
        answer = self._send([self._question()])
        after = _counts(self._target.counts_url)
        reached = (None, None) if before is None or after is None else (after[0] - before[0], after[1] - before[1])
        return Turn(answer.first_event_s, answer.first_delta_s, answer.completed_s, *reached)

    def say(self, text: str) -> Answer:
        """One more turn of that text."""
        return self._send([encoded(user_message(f"[short] {text}"))])

    def attend(self) -> None:
        """Keep the connection while other arms run; a server may close an idle one over HTTP, which is then made anew."""
        if isinstance(self._client, HttpClient):
            if self._client.is_closed():
                self._client.close()
                self._client = self._connected()
            return
        try:
            self._client.attend()
        except (BenchError, OSError) as error:
            raise self._named(error) from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _connected(self) -> WebSocketClient | HttpClient:
        target = self._target
        connect = WebSocketClient if target.transport == "websocket" else HttpClient
        try:
            return connect(target.host, target.port, api_key=target.api_key, path=target.path)
        except (BenchError, OSError) as error:
            raise self._named(error) from error

    def _question(self) -> bytes:
        self._asked += 1
        return encoded(question("short", self._asked))

    def _send(self, new: Sequence[bytes]) -> Answer:
        target = self._target
        items = [*self._sent, *new] if target.is_resending else new
        # Without a connection that remembers, only a stored response can be named.
        store = target.transport == "http" and not target.is_resending
        previous = "" if target.is_resending else self._latest
        body = create_bytes(target.model, items, transport=target.transport, previous=previous, store=store)
        try:
            answer = self._client.ask(body)
        except (BenchError, OSError) as error:
            raise self._named(error) from error
        if target.is_resending:
            self._sent += [*new, *answer.output]
        self._latest = answer.response_id
        return answer

    def _named(self, error: Exception) -> BenchError:
        target = self._target
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        return BenchError(f"{target.name} at {target.host}:{target.port}, {target.way}: {reason}")


def _counts(url: str) -> tuple[int, int] | None:
    """Prompt tokens and requests that the mock has seen."""
    if not url:
        return None
    try:
        with urlopen(url, timeout=10) as answer:  # an http URL: the options were checked
            found = json.load(answer)
            return found["prompt_tokens"], found["requests"]
    except (OSError, ValueError, KeyError) as error:
        raise BenchError(f"the mock at {url} does not answer: {error}") from error
