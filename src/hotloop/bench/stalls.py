"""The longest gap of many streams while something large arrives on another connection: who waits for whom."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from statistics import median

from hotloop.bench.answers import BenchError
from hotloop.bench.arms import Conversation, measure_scale
from hotloop.bench.frames import masked_frame
from hotloop.bench.rounds import Figure, figure_of
from hotloop.bench.servers import RunningServer
from hotloop.bench.streams import Stream, close_all, connect
from hotloop.bench.workload import create, encoded, history, question, user_message

STREAMS, SPEED, CREATE_TOKENS = 64, 65, 200_000
ALLOWANCE_S = 0.005  # of the goal stall_64: at most 1.5 times the idle gap, and this
WARM_UP_S = 1.0
CREATE = f"a create of {CREATE_TOKENS:,} tokens"
ITEMS, BRACES = "17 MB of items", "15 MB of `{}`"
_NUMBER = b"00000000"

Pair = tuple[float, float]  # the longest gap of a window without, and of one with it
Make = Callable[[int], bytes]  # the message with this number; no two begin alike


def creates(server: RunningServer) -> Mapping[str, Make]:
    """A create that fits the context."""
    probe = Conversation(server, "short")
    try:
        chars = measure_scale(probe).chars(CREATE_TOKENS)
    finally:
        probe.close()
    first = user_message(f"conversation {_NUMBER.decode()}")
    return {CREATE: _numbered(encoded(create(server.model, [first, *history(chars), question("short", 1)])))}


def large_bodies(server: RunningServer) -> Mapping[str, Make]:
    """Messages that end in a refusal, the one for its length, the other for what it is; both have to be read first."""
    item = encoded(user_message("some words and " * 250))
    body = encoded(create(server.model, [user_message(f"conversation {_NUMBER.decode()}"), user_message("")]))
    last = encoded(user_message(""))
    return {
        ITEMS: _numbered(body.replace(last, b",".join([item] * 4500), 1)),
        BRACES: _numbered(body.replace(last, b",".join([b"{}"] * 5_000_000), 1)),
    }


def _numbered(text: bytes) -> Make:
    return lambda number: text.replace(_NUMBER, b"%08d" % number, 1)


async def measure_stalls(
    server: RunningServer, endless: Callable[[int], bytes], messages: Mapping[str, Make], rounds: int, seconds: float
) -> dict[str, list[Pair]]:
    """Pairs by message and round. `endless(n)` asks for the n-th stream; each message is sent once before it counts."""
    streams = await connect(server, STREAMS)
    found: dict[str, list[Pair]] = {name: [] for name in messages}
    try:
        for number, stream in enumerate(streams):
            stream.ask(endless(number))
        await asyncio.sleep(WARM_UP_S)
        for number in range(rounds + 1):
            for name, make in messages.items():
                pair = await _one(server, streams, masked_frame(make(number + 1)), seconds)
                if number:
                    found[name].append(pair)
        return found
    finally:
        close_all(streams)


async def _one(server: RunningServer, streams: Sequence[Stream], frame: bytes, seconds: float) -> Pair:
    (sender,) = await connect(server, 1)
    try:
        longest_gap(streams)
        await asyncio.sleep(seconds)
        idle = longest_gap(streams)
        await asyncio.gather(_asked(sender, frame), asyncio.sleep(seconds))
        return idle, longest_gap(streams)
    finally:
        close_all([sender])


async def _asked(sender: Stream, frame: bytes) -> None:
    with suppress(BenchError):  # it may be one to be refused
        await sender.ask(frame)


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
