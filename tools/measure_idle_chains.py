"""Times the turns of one chain while others lie idle, parked or kept in the KV cache; prints tables of docs/measurements.md.

python tools/measure_idle_chains.py [--model FILE.gguf] [--idle 0 4 16] [--rounds 34] [--only costs|turns|leaving|waits]

Each arm is an embedded engine of its own, with one thread. A chain of 1,000 tokens plays every turn while others of
1,500 idle; then all chains, of 1,000 tokens each, play in turn. A turn is 50 new tokens and 24 sampled ones, after which the
chain is rewound to where it began, so that all turns are alike. The arms are interleaved round by round; ratios are taken in
the round, against the same engine without idle chains. Before all that: what a cell of another chain costs, in CPU time of
one thread, for visiting it during a decode and for copying it out and in. At the end, in CPU time of the engine's steps: how
soon chains that were all played at once leave the cache, and what turns cost until then; and how long a stream waits for
its next token while a long chain, parked up to then, comes back beside it.
"""

import argparse
import asyncio
import random
import statistics
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from hotloop.bench.rounds import figure_of, ratio_of
from hotloop.engines.llama import LlamaEngine
from hotloop.engines.llama.binding import Context, Model
from hotloop.engines.llama.messages import Abort, Ended, Generate, Open
from hotloop.engines.llama.parking import PIECE_TOKENS
from hotloop.engines.llama.scheduler import BATCH_TOKENS, Scheduler
from hotloop.seams.engine import EndReason, KvHandle, Sampling, Usage
from hotloop.seams.prompt import CallRules, PromptContext, TurnView
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import LOCAL
from hotloop.session.token_log import TokenView
from hotloop.tiny import model_path

NO_TURN = TurnView(ItemLog(), (), PromptContext(), CallRules())
PLAYED_TOKENS = 1_000
IDLE_TOKENS = 1_500
NEW_TOKENS = 50
SAMPLED_TOKENS = 24
LARGEST_ID = 200
LONG_TOKENS = 8_000  # or as many as the model's context has room for
STREAMED_TOKENS = 400


@dataclass
class Chain:
    """A handle, its tokens, and how many of them the engine holds."""

    handle: KvHandle
    tokens: list[int]
    held: int = 0

    async def turn(self, new: int, sampled: int, ids: random.Random) -> Usage:
        """So many new tokens, then so many sampled ones."""
        self.tokens += [ids.randrange(LARGEST_ID) for _ in range(new)]
        ended: asyncio.Future[Usage] = asyncio.get_running_loop().create_future()

        def on_end(reason: EndReason, usage: Usage, detail: str) -> None:
            if reason is EndReason.LENGTH:
                ended.set_result(usage)
            else:
                ended.set_exception(RuntimeError(f"{reason.value}: {detail}"))

        self.handle.generate(
            self.held,
            array("I", self.tokens[self.held :]),
            sampling=Sampling(max_tokens=sampled, temperature=0.0),
            constraint=None,
            turn=NO_TURN,
            on_step=lambda step, _: self.tokens.extend(step),
            on_end=on_end,
        )
        usage = await ended
        self.held = usage.held_tokens
        return usage

    async def turn_again(self, new: int, sampled: int, ids: random.Random) -> Usage:
        """A turn that leaves nothing behind."""
        held = self.held
        usage = await self.turn(new, sampled, ids)
        del self.tokens[held:]
        self.held = held
        return usage


@dataclass
class Arm:
    """An engine with so many idle chains, and what its turns took."""

    idle: int
    is_parking: bool
    takes_turns: bool
    engine: LlamaEngine
    chains: list[Chain]
    ids: random.Random
    turn_ms: list[float] = field(default_factory=list[float])
    prefill_ms: list[float] = field(default_factory=list[float])
    decode_ms: list[float] = field(default_factory=list[float])

    async def play(self, number: int) -> None:
        """One turn, timed."""
        chain = self.chains[number % len(self.chains) if self.takes_turns else 0]
        started = time.perf_counter()
        usage = await chain.turn_again(NEW_TOKENS, SAMPLED_TOKENS, self.ids)
        self.turn_ms.append((time.perf_counter() - started) * 1000)
        self.prefill_ms.append(usage.prefill_s * 1000)
        self.decode_ms.append(usage.decode_s * 1000 / (SAMPLED_TOKENS - 1))


async def start(model: str, idle: int, *, is_parking: bool, takes_turns: bool) -> Arm:
    """An engine whose chains have all been played once."""
    engine = await LlamaEngine.start(
        model,
        threads=1,
        sequences=idle + 2,
        kv_cells=4096 + 2 * IDLE_TOKENS * idle,
        parked_bytes=None if is_parking else 0,
    )
    ids = random.Random(idle)
    chains: list[Chain] = []
    for number in range(idle + 1):
        chains.append(Chain(engine.open(TokenView.of([]), parent=None, tenant=LOCAL), []))
        await chains[-1].turn(IDLE_TOKENS if number and not takes_turns else PLAYED_TOKENS, 1, ids)
        del chains[-1].tokens[chains[-1].held :]
    return Arm(idle, is_parking, takes_turns, engine, chains, ids)


async def measure(model: str, idle: list[int], rounds: int, *, takes_turns: bool) -> None:
    """One table."""
    begin = partial(start, model, takes_turns=takes_turns)
    arms = [await begin(count, is_parking=is_parking) for is_parking in (False, True) for count in idle]
    try:
        for number in range(rounds):
            for arm in random.Random(number).sample(arms, len(arms)):
                await arm.play(number)
    finally:
        for arm in arms:
            await arm.engine.close()
    print(f"\n{'all chains in turn' if takes_turns else 'one chain plays'}, {rounds} rounds\n")
    print("| idle chains | KV of idle chains | turn ms | against none idle | prefill of 50 ms | decode ms/token |")
    print("|--:|---|--:|--:|--:|--:|")
    for arm in arms:
        base = next(other for other in arms if other.is_parking == arm.is_parking)
        times = [figure_of(values).median for values in (arm.turn_ms, arm.prefill_ms, arm.decode_ms)]
        ratio = ratio_of(arm.turn_ms, base.turn_ms)
        kept = "parked" if arm.is_parking else "in the cache"
        print(
            f"| {arm.idle} | {kept} | {times[0]:.1f} | {ratio.median:.2f} ± {ratio.spread:.2f} "
            f"| {times[1]:.1f} | {times[2]:.2f} |"
        )


def put(context: Context, sequence: int, start: int, count: int) -> float:
    """Decode so many tokens; seconds of CPU."""
    context.tokens[:count] = np.arange(count) % LARGEST_ID
    context.positions[:count] = np.arange(start, start + count)
    context.sequences[:count] = sequence
    context.wants_logits[:count] = 0
    context.wants_logits[count - 1] = 1
    started = time.thread_time()
    assert context.decode(count), "no room"
    return time.thread_time() - started


def fill(context: Context, sequence: int, tokens: int) -> None:
    """A chain of so many tokens."""
    for start in range(0, tokens, BATCH_TOKENS):
        put(context, sequence, start, min(BATCH_TOKENS, tokens - start))


def decode_s(context: Context) -> float:
    """Seconds that a token of the first sequence takes."""
    context.remove(0, 512)
    return statistics.median(put(context, 0, 512 + token, 1) for token in range(33))


def copy_s(context: Context, tokens: int) -> tuple[float, float, int]:
    """Seconds for copying the second sequence out and in, and the bytes of that."""
    starts = range(0, tokens, PIECE_TOKENS)
    began = time.thread_time()
    pieces = [context.save(1, start, start + PIECE_TOKENS) for start in starts]
    saved = time.thread_time()
    context.remove(1, 0)
    removed = time.thread_time()
    for start, piece in zip(starts, pieces, strict=True):
        assert piece is not None
        assert context.load(1, start, start + PIECE_TOKENS, piece), "no room"
    size = sum(piece.nbytes for piece in pieces if piece is not None)
    return saved - began, time.thread_time() - removed, size


def show_costs(path: str) -> None:
    """The first table."""
    model = Model(path)
    others = 16 * PIECE_TOKENS
    alone, among = (
        Context(model, cells=2 * others, sequences=2, batch_tokens=BATCH_TOKENS, threads=1) for _ in range(2)
    )
    fill(among, 1, others)
    for context in (alone, among):
        fill(context, 0, 512)
    visit = statistics.median(decode_s(among) - decode_s(alone) for _ in range(9)) / others
    copies = [copy_s(among, others) for _ in range(7)]
    out, back = (statistics.median(taken) / others for taken in ([c[0] for c in copies], [c[1] for c in copies]))
    print("\n| kB of KV per token | visiting a cell ns | copying it out µs | in µs | visits as costly as copying |")
    print("|--:|--:|--:|--:|--:|")
    kilobytes = copies[0][2] / others / 1000
    print(f"| {kilobytes:.1f} | {visit * 1e9:.0f} | {out * 1e6:.1f} | {back * 1e6:.1f} | {(out + back) / visit:.0f} |")
    for context in (alone, among):
        context.close()
    model.close()


class Timed(Context):
    """Knows how much CPU time it decoded."""

    decoded_s = 0.0

    def decode(self, count: int) -> bool:
        """As ever."""
        started = time.thread_time()
        is_done = super().decode(count)
        self.decoded_s += time.thread_time() - started
        return is_done


class Steps:
    """A scheduler in this process, and the CPU time of its steps."""

    def __init__(self, model: Model, *, cells: int, sequences: int) -> None:
        self._context = Timed(model, cells=cells, sequences=sequences, batch_tokens=BATCH_TOKENS, threads=1)
        self._scheduler = Scheduler(
            self._context,
            sequences=sequences,
            context_tokens=cells,
            parked_bytes=1 << 33,
            clock=time.monotonic,
            compile_constraint=lambda _run, _constraint: None,
        )
        self._runs = 0
        self.ended: dict[int, Ended] = {}

    def open(self, handle: int) -> None:
        self._scheduler.receive(Open(handle, "", b""))

    def begin(self, handle: int, keep: int, new: Sequence[int], sampled: int) -> int:
        self._runs += 1
        sampling = Sampling(max_tokens=sampled, temperature=0.0)
        self._scheduler.receive(Generate(handle, self._runs, keep, array("I", new).tobytes(), sampling, None))
        return self._runs

    @property
    def cells(self) -> int:
        """In use."""
        return self._scheduler.held.cells

    def abort(self, run: int) -> None:
        """It need not end by itself."""
        self._scheduler.receive(Abort(run))

    def until(self, run: int, most: int = 1 << 30) -> tuple[list[float], list[float]]:
        """Step until the end of a run; milliseconds that each step decoded, and that it did other things."""
        decodes: list[float] = []
        others: list[float] = []
        while run not in self.ended and len(decodes) < most:
            started, before = time.thread_time(), self._context.decoded_s
            self.ended |= {ended.run: ended for ended in self._scheduler.step().ended}
            decodes.append(1000 * (self._context.decoded_s - before))
            others.append(1000 * (time.thread_time() - started) - decodes[-1])
        return decodes, others


def show_leaving(path: str, idle: list[int]) -> None:
    """The table before the last."""
    print("\n| idle chains, all new | turns until they have left | such a turn ms | one after that ms |")
    print("|--:|--:|--:|--:|")
    for count in idle:
        steps = Steps(Model(path), cells=4096 + IDLE_TOKENS * count, sequences=count + 1)
        ids = random.Random(count)
        for handle in range(count + 1):
            steps.open(handle)
        steps.until(steps.begin(0, 0, [ids.randrange(LARGEST_ID) for _ in range(PLAYED_TOKENS)], 0))
        runs = [
            steps.begin(handle, 0, [ids.randrange(LARGEST_ID) for _ in range(IDLE_TOKENS)], count * IDLE_TOKENS)
            for handle in range(1, count + 1)
        ]
        steps.until(runs[-1], count * IDLE_TOKENS // BATCH_TOKENS + 2)  # side by side, so that none has idled yet
        for run in runs:
            steps.abort(run)
        turns: list[tuple[bool, float]] = []
        for _ in range(30):
            new = [ids.randrange(LARGEST_ID) for _ in range(NEW_TOKENS)]
            decodes, others = steps.until(steps.begin(0, PLAYED_TOKENS, new, SAMPLED_TOKENS))
            turns.append((steps.cells < 2 * PLAYED_TOKENS, sum(decodes) + sum(others)))
        before = [taken for has_left, taken in turns if not has_left]
        after = [taken for has_left, taken in turns if has_left]
        until = f"{statistics.median(before):.0f}" if before else "-"
        print(f"| {count} | {len(before)} | {until} | {statistics.median(after):.0f} |")


def show_waits(path: str, rounds: int) -> None:
    """The last table."""
    model = Model(path)
    tokens = min(LONG_TOKENS, model.trained_context - STREAMED_TOKENS)
    steps = Steps(model, cells=4 * tokens, sequences=4)
    ids = random.Random(0)
    for handle in (1, 2):
        steps.open(handle)
    steps.until(steps.begin(1, 0, [ids.randrange(LARGEST_ID) for _ in range(tokens)], 0))
    steps.until(steps.begin(2, 0, [ids.randrange(LARGEST_ID) for _ in range(NEW_TOKENS)], STREAMED_TOKENS))
    usual: list[float] = []
    longest: list[float] = []
    together: list[float] = []
    for _ in range(rounds):
        stream = steps.begin(2, NEW_TOKENS, [1], STREAMED_TOKENS)
        usual.append(statistics.median(steps.until(stream, STREAMED_TOKENS // 4)[0]))
        coming = steps.begin(1, tokens, [1], 1)
        _, others = steps.until(coming)
        assert steps.ended[coming].usage.restored_tokens == tokens, "it was not parked"
        longest.append(max(others))
        together.append(sum(others))
        steps.until(stream)  # it is parked again
    print(f"\na stream beside a chain that comes back, {rounds} rounds\n")
    print("| tokens that come back | ms for that | most of them in one step | a step's decode ms |")
    print("|--:|--:|--:|--:|")
    figures = [figure_of(values) for values in (together, longest, usual)]
    print(f"| {tokens:,} | " + " | ".join(f"{figure.median:.2f} ± {figure.spread:.2f}" for figure in figures) + " |")


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(model_path()))
    parser.add_argument("--idle", type=int, nargs="+", default=[0, 4, 16])
    parser.add_argument("--rounds", type=int, default=34)
    parser.add_argument("--only", choices=["costs", "turns", "leaving", "waits"])
    arguments = parser.parse_args()
    if arguments.only in (None, "costs"):
        show_costs(arguments.model)
    for takes_turns in (False, True) if arguments.only in (None, "turns") else ():
        asyncio.run(measure(arguments.model, arguments.idle, arguments.rounds, takes_turns=takes_turns))
    if arguments.only in (None, "leaving"):
        show_leaving(arguments.model, [count for count in arguments.idle if count])
    if arguments.only in (None, "waits"):
        show_waits(arguments.model, arguments.rounds)


if __name__ == "__main__":
    main()
