"""Grammars that a client can write and no text can ever fit to its end."""

import numpy as np

from hotloop.constraints.compiling import Compiler
from hotloop.engines.llama.grammar import GrammarVocabulary

# A lexeme takes all it can: behind `ax` only `{` may come, without end.
ENDLESS = 'start: "a" X "{{"\nX: /x\\{*/'


def test_what_goes_on_for_ever_is_judged_at_once() -> None:
    assert Compiler(300).problem(ENDLESS) is None


def test_the_engine_writes_it_token_by_token() -> None:
    pieces = [bytes([code]) for code in range(256)] + [b"<stop>"]
    vocabulary = GrammarVocabulary(pieces, marked=[256], stops=[256], encode=list)
    matcher = vocabulary.matcher(ENDLESS)
    for code in b"ax{{{{":
        assert code in vocabulary.allowed(matcher, np.array([256]))
        assert matcher.consume_token(code)
    assert vocabulary.allowed(matcher, np.array([256])).tolist() == [ord("{")]
