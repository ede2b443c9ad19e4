"""Compiles a grammar to find out whether it may be compiled. Runs where it can do no harm; see `child`.

The vocabulary stands in for the model's: every byte is a token, and every id exists. What a grammar costs before its first mask
does not depend on the vocabulary, and what it costs later shows when a few bytes are written: a step that takes long here
takes long there.
"""

import random
import re
import time
from collections.abc import Callable
from typing import Any

import llguidance

from hotloop.seams.grammar import (
    DETAIL_CHARACTERS,
    GRAMMAR_OPTIONS,
    INITIAL_LEXER_FUEL,
    MAX_GRAMMAR_SIZE,
    STEP_LEXER_FUEL,
    GrammarProblem,
)

_PLACE = re.compile(r"^at \d+\(\d+\): ")  # of our text: the client never saw it
WALK_CHOICES = 48  # of the steps taken after compiling, those where there was a choice
MAX_STEPS = 2_000
MAX_STEP_CPU_S = 0.25  # of one mask; a grammar in honest use takes a hundredth of it
MAX_WALK_CPU_S = 1.0
_BYTES = 256
_ALL_BYTES = (1 << _BYTES) - 1
# What the library says when a limit is reached, as opposed to a grammar that is wrong. Telling the branches of a `oneOf` apart
# and references that only lead back to themselves count as limits of what can be decided.
_LIMIT_WORDS = (
    "too big",
    "too large",
    "too many",
    "too deep",
    "limit",
    "fuel",
    "nested",
    "complex",
    "oneof",
    "circular",
)
_EMPTY = "NoExtensionBias"  # the library's name for a grammar that no text fits


class Compiler:
    """Judges grammars whose token ids are below `vocabulary_size`. `cpu_s`: CPU seconds used so far."""

    def __init__(self, vocabulary_size: int, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._cpu_s = cpu_s
        size = max(vocabulary_size, _BYTES) + 1
        self._stop = size - 1
        wrapper = llguidance.TokenizerWrapper(_Bytes(size))
        self._tokenizer = llguidance.LLTokenizer(wrapper, n_vocab=size, eos_token=[self._stop])
        self._limits = llguidance.LLParserLimits(
            initial_lexer_fuel=INITIAL_LEXER_FUEL,
            step_lexer_fuel=STEP_LEXER_FUEL,
            max_grammar_size=MAX_GRAMMAR_SIZE,
            verbose_errors=False,
        )

    def problem(self, grammar: str, index: int = 0) -> GrammarProblem | None:
        """What is wrong with `grammar`, or None."""
        lark = llguidance.LLMatcher.grammar_from_lark(GRAMMAR_OPTIONS + grammar)
        matcher = llguidance.LLMatcher(self._tokenizer, lark, log_level=0, limits=self._limits)
        detail = _error(matcher) or self._walk(matcher, grammar)
        if not detail:
            return None
        lowered = detail.lower()
        return GrammarProblem(index, detail[:DETAIL_CHARACTERS], any(word in lowered for word in _LIMIT_WORDS))

    def _walk(self, matcher: Any, grammar: str) -> str:
        """Write something the grammar allows. Returns what goes wrong, or nothing.

        Control tokens are preferred to text, so that the way leads through a think block and into a call.
        """
        choose = random.Random(len(grammar))
        started = self._cpu_s()
        choices = 0
        for _ in range(MAX_STEPS):
            before = self._cpu_s()
            mask = int.from_bytes(matcher.compute_bitmask(), "little") & ~(1 << self._stop)
            now = self._cpu_s()
            if now - before > MAX_STEP_CPU_S or now - started > MAX_WALK_CPU_S:
                return "it is too complex: a single token takes too long"
            if matcher.is_error() or not mask:
                break
            allowed = _indexes(mask >> _BYTES, _BYTES) or _indexes(mask & _ALL_BYTES, 0)
            choices += len(allowed) > 1
            if choices > WALK_CHOICES or not matcher.consume_token(choose.choice(allowed)):
                break
        return _error(matcher)


def _indexes(bits: int, first: int) -> list[int]:
    """Places of the bits set, counted from `first`. Of many only some: those of the lowest 256 places above the lowest."""
    if not bits:
        return []
    lowest = (bits & -bits).bit_length() - 1
    window = bits >> lowest & _ALL_BYTES
    return [first + lowest + place for place in range(_BYTES) if window >> place & 1]


def _error(matcher: Any) -> str:
    if not matcher.is_error():
        return ""
    lines = str(matcher.get_error()).strip().splitlines() or ["unknown error"]
    if lines[0].startswith(_EMPTY):
        return "circular: no text can ever fit it"
    return _PLACE.sub("", lines[0])


class _Bytes:
    """What llguidance.TokenizerWrapper asks of a tokenizer. Tokens above the bytes are empty but exist."""

    def __init__(self, size: int) -> None:
        self.eos_token_id = size - 1
        self.bos_token_id = None
        self.tokens = [bytes([byte]) for byte in range(_BYTES)] + [b""] * (size - _BYTES - 1) + [b"<|end|>"]
        self.special_token_ids = [size - 1]

    def __call__(self, text: bytes) -> list[int]:
        return list(text)
