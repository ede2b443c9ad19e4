"""The longest gap of many streams while something large arrives on another connection: who waits for whom."""

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from statistics import median

import msgspec

from hotloop.bench.answers import BenchError
from hotloop.bench.arms import Conversation, measure_scale
from hotloop.bench.clients import PATH, Connection, WebSocketClient
from hotloop.bench.frames import masked_frame
from hotloop.bench.rounds import Figure, figure_of
from hotloop.bench.servers import API_KEY, RunningServer
from hotloop.bench.streams import Stream, close_all, connect
from hotloop.bench.workload import create, encoded, history, question, user_message

STREAMS, SPEED, CREATE_TOKENS = 64, 65, 200_000
ALLOWANCE_S = 0.005  # of the goal stall_64: at most 1.5 times the idle gap, and this
WARM_UP_S = 1.0
CREATE = f"a create of {CREATE_TOKENS:,} tokens"
STEERED = "steered"  # the script's answer that is long enough to be steered
NUMBER = b"00000000"  # stands in every message: no two are to begin alike
_PAUSE_S = 0.2  # before a message: what its making held up in this process must not count; and behind it

Pair = tuple[float, float]  # the longest gap of a window without, and of one with it
Send = Callable[[], None]  # from the first byte sent to the last one of the answer, whatever that is
Arrival = Callable[[int], AbstractContextManager[Send]]  # the message with this number, made and ready to be sent


def creates(server: RunningServer) -> Mapping[str, Arrival]:
    """A create that fits the context."""
    probe = Conversation(server, "short")
    try:
        chars = measure_scale(probe).chars(CREATE_TOKENS)
    finally:
        probe.close()
    first = user_message(f"conversation {NUMBER.decode()}")
    return {CREATE: by_websocket(server, encoded(create(server.model, [first, *history(chars), question("short", 1)])))}


# --- how a message arrives ---


def by_websocket(server: RunningServer, text: bytes) -> Arrival:
    """As a create on a connection of its own."""

    @contextmanager
    def arrival(number: int) -> Generator[Send]:
        frame = masked_frame(numbered(text, number))
        with _connected(server) as client:
            yield lambda: _turn(client, frame)

    return arrival


def by_http(server: RunningServer, path: str, text: bytes) -> Arrival:
    """As the body of a POST."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {API_KEY}\r\nConnection: close\r\nContent-Length: {len(text)}\r\n\r\n"
    ).encode()

    @contextmanager
    def arrival(number: int) -> Generator[Send]:
        request = head + numbered(text, number)
        with Connection(server.host, server.port) as connection:
            yield lambda: _exchange(connection, request)

    return arrival


def as_steer(server: RunningServer, text: bytes) -> Arrival:
    """As the `input` of a steer of a response that is being written."""
    frame = masked_frame(encoded(create(server.model, [question(STEERED, 0, 0)])))

    @contextmanager
    def arrival(number: int) -> Generator[Send]:
        with _connected(server) as client:
            client.socket.sendall(frame)
            created = msgspec.json.decode(client.event("response.created"), type=_Created)
            head = b'{"type":"response.steer","previous_response_id":%b,"input":' % encoded_text(created.response.id)
            steer = masked_frame(b"%b%b}" % (head, numbered(text, number)))
            yield lambda: _steer(client, steer)

    return arrival


class _Named(msgspec.Struct):
    id: str


class _Created(msgspec.Struct):
    response: _Named


def encoded_text(text: str) -> bytes:
    """A JSON string."""
    return msgspec.json.encode(text)


def numbered(text: bytes, number: int) -> bytes:
    """The message with its number in every place that has one."""
    return text.replace(NUMBER, b"%08d" % number)


def _connected(server: RunningServer) -> WebSocketClient:
    return WebSocketClient(server.host, server.port, api_key=API_KEY, path=PATH)


def _turn(client: WebSocketClient, frame: bytes) -> None:
    with suppress(BenchError):  # it may be one to be refused
        client.turn(frame)


def _exchange(connection: Connection, request: bytes) -> None:
    connection.socket.sendall(request)
    with suppress(BenchError):  # the server closes behind its answer
        while True:
            connection.receive()


def _steer(client: WebSocketClient, frame: bytes) -> None:
    """Up to the end of the response that the server starts for it, if it takes it."""
    client.socket.sendall(frame)
    if client.event("response.steer.").startswith(b'{"type":"response.steer.accepted'):
        client.event("response.created")
        client.event("response.completed", "response.incomplete", "response.failed")


# --- the streams ---


async def measure_stalls(
    server: RunningServer, endless: Callable[[int], bytes], arrivals: Mapping[str, Arrival], rounds: int, seconds: float
) -> dict[str, list[Pair]]:
    """Pairs by message and round. `endless(n)` asks for the n-th stream; each message is sent once before it counts."""
    streams = await connect(server, STREAMS)
    found: dict[str, list[Pair]] = {name: [] for name in arrivals}
    try:
        for number, stream in enumerate(streams):
            stream.ask(endless(number))
        await asyncio.sleep(WARM_UP_S)
        for number in range(rounds + 1):
            for name, arrival in arrivals.items():
                pair = await _one(streams, arrival, number + 1, seconds)
                if number:
                    found[name].append(pair)
        return found
    finally:
        close_all(streams)


async def _one(streams: Sequence[Stream], arrival: Arrival, number: int, seconds: float) -> Pair:
    longest_gap(streams)
    await asyncio.sleep(seconds)
    idle = longest_gap(streams)
    with arrival(number) as send:
        await asyncio.sleep(_PAUSE_S)
        longest_gap(streams)
        await asyncio.gather(asyncio.to_thread(send), asyncio.sleep(seconds))
        await asyncio.sleep(_PAUSE_S)  # a gap counts where it ends
        return idle, longest_gap(streams)


def longest_gap(streams: Sequence[Stream]) -> float:
    """Of all streams since the last call."""
    return max(max(stream.emptied().gaps, default=0.0) for stream in streams)


def stall(pairs: Sequence[Pair]) -> Figure:
    """The longest gap with a message, less the allowance, over the one without."""
    return figure_of([max(0.0, loaded - ALLOWANCE_S) / idle for idle, loaded in pairs])


def stall_notes(stalls: Mapping[str, Sequence[Pair]]) -> list[str]:
    """A line per message."""
    return [
        f"{STREAMS} streams at {SPEED} tokens/s: longest gap {1e3 * median(idle for idle, _ in pairs):.1f} ms, "
        f"{1e3 * median(loaded for _, loaded in pairs):.1f} ms while {name} arrives."
        for name, pairs in stalls.items()
    ]
