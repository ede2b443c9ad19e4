"""An agent's rollout as a client drives it, turn after turn, with the time of every turn split up.

client    building the request, reading the answer's items
network   from sending to received, less what the server says it took: the link, sockets on both sides, HTTP parsing
server    from the request's receipt to its commit, less the engine's time, by the server's own stamps
engine    what the engine reports: modelled if it is simulated
tools     as the mix says; accounted, not slept, for it is the same whatever the transport
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import msgspec

from hotloop.bench.answers import Answer, BenchError
from hotloop.bench.clients import HttpClient, WebSocketClient
from hotloop.bench.workload import Json, create_bytes, encoded, user_message


@dataclass(frozen=True, slots=True)
class Input:
    """What a turn adds: the output of the call before it, or a user's message."""

    text: str
    tool_s: float = 0.0  # the tool ran so long before it
    is_tool_output: bool = False
    max_output_tokens: int = 0  # 0: no limit is asked for


@dataclass(frozen=True, slots=True)
class Split:
    """Where the seconds of a whole rollout went. `total_s` is the clock's, plus the tools'."""

    total_s: float
    client_s: float
    network_s: float
    server_s: float
    engine_s: float
    tools_s: float
    first_token_s: float  # mean over the turns, from sending to the first delta
    turns: int
    prompt_tokens: int  # of the last turn
    cached_tokens: int
    output_tokens: int  # of all turns

    @property
    def silence_s(self) -> float:
        """In which no tool runs and the model has not begun to answer."""
        return self.client_s + self.turns * self.first_token_s

    def api_s(self, round_trip_s: float) -> float:
        """Outside engine, tools and one round trip per turn."""
        return self.total_s - self.floor_s(round_trip_s)

    def floor_s(self, round_trip_s: float) -> float:
        """What no server can be faster than: the engine, the tools, one round trip per turn."""
        return self.engine_s + self.tools_s + self.turns * round_trip_s


class Agent:
    """Plays rollouts, each on a connection of its own that is made before the clock starts.

    Args:
        connect: makes the connection, which asks for the server's timing.
        model: name of the model.
        name: one word; with a number it begins every task, so that no rollout finds another one's beginning in a cache.
        is_resending: every request carries the whole conversation, as a stateless client must.
    """

    def __init__(
        self, connect: Callable[[], WebSocketClient | HttpClient], model: str, name: str, *, is_resending: bool
    ) -> None:
        self._connect = connect
        self._name = name
        self._played = 0
        self._is_resending = is_resending
        self._model = model

    def play(self, inputs: Sequence[Input]) -> Split:
        """The whole rollout. Raises BenchError if the server gives no timing."""
        with self._connect() as client:
            return self._play(client, inputs)

    def _play(self, client: WebSocketClient | HttpClient, inputs: Sequence[Input]) -> Split:
        transport = "websocket" if isinstance(client, WebSocketClient) else "http"
        self._played += 1
        task = replace(inputs[0], text=f"{self._name}-{self._played} {inputs[0].text}")
        started = time.perf_counter()
        answers: list[Answer] = []
        sent: list[bytes] = []  # written once: no client need write its history anew every turn
        for one in (task, *inputs[1:]):
            output = answers[-1].output if answers else ()
            new = encoded(_item(one, output))
            sent += [*output, new]
            previous = "" if self._is_resending or not answers else answers[-1].response_id
            items = sent if self._is_resending else [new]
            body = create_bytes(self._model, items, transport=transport, previous=previous, more=_limits(one))
            answers.append(client.ask(body))
        return split(time.perf_counter() - started, sum(one.tool_s for one in inputs), answers)


def _limits(one: Input) -> Json:
    return {"max_output_tokens": one.max_output_tokens, "tool_choice": "none"} if one.max_output_tokens else {}


def _item(one: Input, output: Sequence[bytes]) -> Json:
    if not one.is_tool_output:
        return user_message(one.text)
    for item in map(_item_decoder.decode, output):
        if item.type == "function_call":
            return {"type": "function_call_output", "call_id": item.call_id, "output": one.text}
    raise BenchError("the model made no tool call where the rollout has one")


class _Item(msgspec.Struct):
    type: str
    call_id: str = ""


_item_decoder = msgspec.json.Decoder(_Item)


def split(elapsed_s: float, tools_s: float, answers: Sequence[Answer]) -> Split:
    """The parts of a rollout that took `elapsed_s` without its tools."""
    timings = [answer.timing for answer in answers if answer.timing is not None]
    if len(timings) != len(answers):
        raise BenchError("the server gives no hotloop:timing")
    engine_s = sum(timing.engine_s for timing in timings)
    at_server_s = sum(timing.stamps["committed"] for timing in timings)
    waited_s = sum(answer.completed_s for answer in answers)
    return Split(
        total_s=elapsed_s + tools_s,
        client_s=elapsed_s - waited_s,
        network_s=waited_s - at_server_s,
        server_s=at_server_s - engine_s,
        engine_s=engine_s,
        tools_s=tools_s,
        first_token_s=fmean(answer.first_delta_s for answer in answers),
        turns=len(answers),
        prompt_tokens=answers[-1].prompt_tokens,
        cached_tokens=answers[-1].cached_tokens,
        output_tokens=sum(answer.output_tokens for answer in answers),
    )
