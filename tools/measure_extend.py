"""Counts the instructions of `Format.extend`: by 1, 2 and 4 outputs of 100 tokens, and by one of them behind a long history.
Prints the table of docs/measurements.md. Needs valgrind.

python tools/measure_extend.py [FAMILY …]
"""

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from hotloop.bench.render import load_tokenizer
from hotloop.bench.render_arms import EveryMark, Scale, conversation
from hotloop.bench.workload import encoded, post
from hotloop.formats.registry import FAMILIES
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, Item
from hotloop.protocol.request import decode_create, decode_input
from hotloop.seams.format import Extension, Format
from hotloop.seams.prompt import PromptContext
from hotloop.seams.tokenizer import Tokenizer

COLUMNS = ((1, 1_000), (2, 1_000), (4, 1_000), (1, 200_000))  # outputs, tokens of history
OUTPUT_TOKENS = 100
TIMES = 20
_COUNTED = "HOTLOOP_COUNTED"  # set in the process that callgrind watches


def main() -> None:
    families = sys.argv[1:] or list(FAMILIES)
    if _COUNTED in os.environ:
        run_each(families)
        return
    counts = iter(_instructions(families, 1 + len(families) * len(COLUMNS)))
    tokenizing = next(counts)
    print("| family | 1 output | 2 outputs | 4 outputs | 1 output, 200k history |")
    print("|---|--:|--:|--:|--:|")
    for family in families:
        print(f"| {family} | {' | '.join(f'{next(counts):,}' for _ in COLUMNS)} |")
    print(f"\nTokenizing one output: {tokenizing:,}")


def run_each(families: Sequence[str]) -> None:
    """Run what is counted, in the order of the counts."""
    tokenizer, _ = load_tokenizer(None)
    gc.disable()
    text = _output(FAMILIES[families[0]], tokenizer)
    _counted(lambda: tokenizer.encode(text))
    for family in families:
        for outputs, history in COLUMNS:
            _counted(_extending(FAMILIES[family], tokenizer, outputs, history))


def _output(make: Callable[[Tokenizer], Format], tokenizer: Tokenizer) -> str:
    return str(conversation(0, Scale(make, tokenizer).chars_of_text(OUTPUT_TOKENS))[1]["output"])


def _extending(
    make: Callable[[Tokenizer], Format], tokenizer: Tokenizer, outputs: int, history: int
) -> Callable[[], object]:
    """An extend by so many outputs behind as many calls."""
    format_ = make(EveryMark(tokenizer))
    text = _output(make, tokenizer)
    sent, _ = conversation(Scale(make, tokenizer).chars(history), 0)
    said = decode_input(decode_create(encoded(post("bench", sent))).input)[:-1]
    ids = [f"call_{number}" for number in range(outputs)]
    calls: list[Item] = [FunctionCall(call_id=one, name="shell", arguments='{"command":"make"}') for one in ids]
    new = [FunctionCallOutput(call_id=one, output=text) for one in ids]
    start = format_.begin(PromptContext())
    base = format_.extend(start.state, len(start.tokens), [*said, *calls])
    assert isinstance(base, Extension)
    state, length = base.state, len(start.tokens) + len(base.tokens)
    return lambda: format_.extend(state, length, new)


def _counted(call: Callable[[], object]) -> None:
    for _ in range(3):
        call()
    os.getpgid(0)  # here callgrind writes down what it has counted, and begins anew
    for _ in range(TIMES):
        call()
    os.getpgid(0)


def _instructions(families: Sequence[str], counts: int) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "counts"
        subprocess.run(
            ["valgrind", "--quiet", "--tool=callgrind", "--dump-before=getpgid", f"--callgrind-out-file={dump}",
             sys.executable, __file__, *families],
            env={**os.environ, _COUNTED: "1", "PYTHONHASHSEED": "0"},
            check=True,
        )  # fmt: skip
        return [_total(dump.with_suffix(f".{number}")) // TIMES for number in range(2, 2 * counts + 1, 2)]


def _total(dump: Path) -> int:
    return next(int(line.split()[1]) for line in dump.read_text().splitlines() if line.startswith("totals:"))


if __name__ == "__main__":
    main()
