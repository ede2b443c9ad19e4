"""What a constrained run may sample next: llguidance grammars over the model's own tokens.

    free ──trigger sampled──▶ ruled ──grammar over──▶ free          (trigger, not once)
                              ruled ──grammar over──▶ stop only     (no trigger, or once)

Marked tokens (control and user-defined) are special to llguidance: a grammar reaches them only by id, `<[151657]>`, so
no string or regex rule can ever produce one.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Any

import llguidance
import numpy as np
from numpy.typing import NDArray

from hotloop.seams.engine import Constraint
from hotloop.seams.grammar import (
    DETAIL_CHARACTERS,
    GRAMMAR_OPTIONS,
    INITIAL_LEXER_FUEL,
    MAX_GRAMMAR_SIZE,
    STEP_LEXER_FUEL,
)

KEPT_GRAMMARS = 64


class GrammarError(Exception):
    """The grammar cannot be compiled, or leads nowhere. The message never holds prompt text."""


class GrammarVocabulary:
    """The model's tokens as llguidance sees them. Building it takes about 1 s for 150k tokens."""

    def __init__(
        self,
        pieces: Sequence[bytes],
        marked: Collection[int],
        stops: Collection[int],
        encode: Callable[[bytes], list[int]],
    ) -> None:
        self.size = len(pieces)
        self.stops = np.array(sorted(stops), np.intp)
        self._stop_bits = np.zeros(self.size, bool)
        self._stop_bits[self.stops] = True
        wrapper = llguidance.TokenizerWrapper(_Wrapped(pieces, sorted({*marked, *stops}), int(self.stops[0]), encode))
        self._tokenizer = llguidance.LLTokenizer(
            wrapper, n_vocab=self.size, eos_token=[int(token) for token in self.stops]
        )
        self._compiled: OrderedDict[str, Any] = OrderedDict()

    def matcher(self, grammar: str) -> Any:
        """A matcher of its own at the start of the Lark `grammar`. Raises GrammarError."""
        compiled = self._compiled.get(grammar)
        if compiled is None:
            compiled = self._compile(grammar)
            self._compiled[grammar] = compiled
            if len(self._compiled) > KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(grammar)
        return compiled.deep_copy()

    def _compile(self, grammar: str) -> Any:
        limits = llguidance.LLParserLimits(
            initial_lexer_fuel=INITIAL_LEXER_FUEL,
            step_lexer_fuel=STEP_LEXER_FUEL,
            max_grammar_size=MAX_GRAMMAR_SIZE,
            verbose_errors=False,
        )
        lark = llguidance.LLMatcher.grammar_from_lark(GRAMMAR_OPTIONS + grammar)
        matcher = llguidance.LLMatcher(self._tokenizer, lark, log_level=0, limits=limits)
        if matcher.is_error():
            raise GrammarError(_first_line(matcher.get_error()))
        return matcher

    def allowed(self, matcher: Any, stops: NDArray[np.intp]) -> NDArray[np.intp]:
        """Tokens the matcher takes next; where the grammar may end, `stops` instead of the model's own stop tokens."""
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        mask = np.unpackbits(bits, count=self.size, bitorder="little").view(bool)
        if matcher.is_error():
            raise GrammarError(_first_line(matcher.get_error()))
        may_end = bool(mask[self.stops].any())
        tokens = np.flatnonzero(mask & ~self._stop_bits)
        if may_end:
            tokens = np.union1d(tokens, stops)
        if not len(tokens):
            raise GrammarError("the grammar allows no token here")
        return tokens


class _Wrapped:
    """What llguidance.TokenizerWrapper asks of a tokenizer."""

    def __init__(
        self, pieces: Sequence[bytes], marked: list[int], eos: int, encode: Callable[[bytes], list[int]]
    ) -> None:
        self.eos_token_id = eos
        self.bos_token_id = None
        self.tokens = list(pieces)
        self.special_token_ids = marked
        self._encode = encode

    def __call__(self, text: bytes) -> list[int]:
        return self._encode(text)


class _State(Enum):
    FREE = 1
    RULED = 2
    STOP_ONLY = 3


class ConstraintRun:
    """The constraint of one run, told of every token sampled."""

    def __init__(self, vocabulary: GrammarVocabulary, constraint: Constraint, stop_tokens: Collection[int]) -> None:
        self._vocabulary = vocabulary
        self._constraint = constraint
        self._start = vocabulary.matcher(constraint.grammar)
        self._stops = np.array(sorted(stop_tokens), np.intp) if stop_tokens else vocabulary.stops
        self._matcher = self._start.deep_copy()
        self._state = _State.RULED if constraint.trigger is None else _State.FREE
        self.stop_tokens = frozenset(int(token) for token in self._stops)

    def allowed(self) -> NDArray[np.intp] | None:
        """Tokens that may come next, or None for any. Raises GrammarError if none may."""
        if self._state is _State.FREE:
            return None
        if self._state is _State.STOP_ONLY:
            return self._stops
        return self._vocabulary.allowed(self._matcher, self._stops)

    def accept(self, token: int) -> None:
        """`token`, one of those allowed, was sampled and does not stop the run."""
        if self._state is _State.FREE:
            if token == self._constraint.trigger:
                self._state = _State.RULED
                self._end_if_over()
        elif self._state is _State.RULED:
            if not self._matcher.consume_token(token):
                raise GrammarError(_first_line(self._matcher.get_error()))
            self._end_if_over()

    def _end_if_over(self) -> None:
        if not self._matcher.is_stopped():
            return
        if self._constraint.trigger is None or self._constraint.once:
            self._state = _State.STOP_ONLY
        else:
            self._state = _State.FREE
            self._matcher = self._start.deep_copy()


def _first_line(message: str) -> str:
    return (message.strip() or "unknown error").splitlines()[0][:DETAIL_CHARACTERS]
