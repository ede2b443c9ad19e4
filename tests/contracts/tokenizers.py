"""The tokenizers that the Tokenizer suite runs over."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.random_gguf import CONTROL, USER_DEFINED

from hotloop.engines.llama import GgufTokenizer
from hotloop.seams.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenizerCase:
    """How to make one tokenizer from a model file, and the spellings of its special tokens."""

    name: str
    make: Callable[[Path], Tokenizer]
    specials: tuple[str, ...]


CASES = [TokenizerCase("gguf", lambda model: GgufTokenizer(str(model)), CONTROL + USER_DEFINED)]
