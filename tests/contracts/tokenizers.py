"""The tokenizers that the Tokenizer suite runs over: on a small model made here, and on real vocabularies."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mistral_common
from tests.support.random_gguf import CONTROL, USER_DEFINED

from hotloop.engines.llama import GgufTokenizer
from hotloop.seams.tokenizer import Tokenizer
from hotloop.tokenizers.byte_pairs import tekken_file, tiktoken_file
from hotloop.tokenizers.fast import choose_for_gguf
from hotloop.tokenizers.patterns import O200K
from hotloop.tokenizers.tokenizer_json import JsonTokenizer

ASSETS = Path(".assets")
HARMONY = {"<|start|>": 200006, "<|end|>": 200007, "<|message|>": 200008, "<|channel|>": 200005, "<|return|>": 200002}
DEEPSEEK = ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜tool▁calls▁begin｜>")


@dataclass(frozen=True)
class TokenizerCase:
    """How to make one tokenizer (given the small model's file), and spellings of its special tokens."""

    name: str
    make: Callable[[Path], Tokenizer]
    specials: tuple[str, ...]
    composes: bool = False  # text is normalized to NFC first, as the model's own tokenizer does


def tekken_path() -> Path:
    """The newest of the vocabularies that come with mistral-common."""
    return max(Path(mistral_common.__file__).parent.glob("data/tekken*.json"))


def fast_tokenizer(path: Path) -> Tokenizer:
    """The fast tokenizer of a GGUF file, which must pass the self-test."""
    choice = choose_for_gguf(path, GgufTokenizer(str(path)))
    assert choice.encoder == "tiktoken", choice.reason
    return choice.tokenizer


def _published(name: str, _model: Path) -> Tokenizer:
    return JsonTokenizer(ASSETS / f"tokenizers/{name}/tokenizer.json")


CASES = [
    TokenizerCase("gguf", lambda model: GgufTokenizer(str(model)), CONTROL + USER_DEFINED),
    TokenizerCase(
        "qwen2 fast",
        lambda _: fast_tokenizer(ASSETS / "vocabularies/qwen2.gguf"),
        ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    ),
    TokenizerCase(
        "gemma-4 gguf",
        lambda _: GgufTokenizer(str(ASSETS / "vocabularies/gemma-4.gguf")),
        ("<bos>", "<eos>", "<|turn>"),
    ),
    TokenizerCase(
        "tiktoken file",
        lambda _: tiktoken_file(ASSETS / "tokenizers/o200k_base.tiktoken", O200K, HARMONY),
        tuple(HARMONY),
    ),
    TokenizerCase("tekken", lambda _: tekken_file(tekken_path()), ("[INST]", "[/INST]", "<s>", "</s>")),
    TokenizerCase("tokenizer.json", lambda _: JsonTokenizer(ASSETS / "tokenizers/deepseek_v3.json"), DEEPSEEK),
]

QWEN = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>")
# From npm: only `make test-long` fetches them.
PUBLISHED = [
    TokenizerCase(f"{name} tokenizer.json", partial(_published, name), specials, name.startswith("qwen"))
    for name, specials in {
        "qwen3": (*QWEN, "<think>"),
        "qwen2_5": QWEN,
        "llama3_1": ("<|begin_of_text|>", "<|start_header_id|>", "<|eot_id|>"),
        "deepseek_v3": DEEPSEEK,
    }.items()
]
