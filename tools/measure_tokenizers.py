"""Times every tokenizer on 1,000 and 100,000 tokens of the same mixed text; prints the table of docs/measurements.md.

python tools/measure_tokenizers.py ASSETS_FOLDER
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hotloop.engines.llama import GgufTokenizer
from hotloop.seams.tokenizer import Tokenizer
from hotloop.tokenizers.byte_pairs import tiktoken_file
from hotloop.tokenizers.fast import choose_for_gguf
from hotloop.tokenizers.patterns import O200K
from hotloop.tokenizers.tokenizer_json import JsonTokenizer

TEXT = (
    "The test in tests/test_pay.py fails: expected 1200, got 12000. Let me read the file first.\n"
    "    def total(items):\n        return sum(item.price * item.count for item in items)  # cents\n"
    '{"path": "src/pay.py", "line": 41}\nDas Übliche: größer als vorher, 你好 😀\n'
)
ROUNDS = 7


def main() -> None:
    assets = Path(sys.argv[1])
    qwen = assets / "vocabularies/qwen2.gguf"
    reference = GgufTokenizer(str(qwen))
    tokenizers: dict[str, Tokenizer] = {
        "GGUF reference (llama_tokenize), qwen2": reference,
        "GGUF fast (tiktoken), qwen2": choose_for_gguf(qwen, reference).tokenizer,
        "tokenizer.json (tokenizers), DeepSeek V3": JsonTokenizer(assets / "tokenizers/deepseek_v3.json"),
        "ranks file (tiktoken), o200k": tiktoken_file(assets / "tokenizers/o200k_base.tiktoken", O200K, {}),
    }
    print("| tokenizer | 1,000 tokens ms | 100,000 tokens ms |")
    print("|---|--:|--:|")
    for name, tokenizer in tokenizers.items():
        times = [_median_ms(tokenizer.encode, _text_of(tokenizer, count)) for count in (1_000, 100_000)]
        print(f"| {name} | {times[0]:.2f} | {times[1]:.1f} |")


def _text_of(tokenizer: Tokenizer, tokens: int) -> str:
    return TEXT * round(tokens / len(tokenizer.encode(TEXT)))


def _median_ms(encode: Callable[[str], object], text: str) -> float:
    times: list[float] = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        encode(text)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
