"""Judging a grammar before the engine sees it.

Grammars come from clients: some are wrong, some are built to cost minutes or gigabytes. The engine host serves every turn, so
what it compiles has been compiled once before, where nothing else can suffer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# In front of every grammar. The library would look for bytes that must come, and never ends where those go on for ever.
GRAMMAR_OPTIONS = '%llguidance {"no_forcing": true}\n'
# Bounds on what one grammar may cost the library, there and here. Fuel is the library's own measure: a mask is some 14k of it
# per millisecond.
INITIAL_LEXER_FUEL = 2_000_000
STEP_LEXER_FUEL = 1_400_000
MAX_GRAMMAR_SIZE = 500_000

DETAIL_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class GrammarProblem:
    """Why a grammar cannot be used.

    Args:
        index: of the grammar, in what was asked.
        detail: one line for the client.
        is_too_complex: it is over a limit of size, time or memory; otherwise it is wrong or not supported.
    """

    index: int
    detail: str
    is_too_complex: bool


class GrammarValidator(Protocol):
    """Compiles grammars to see whether they may be compiled."""

    async def check(self, grammars: Sequence[str]) -> GrammarProblem | None:
        """The first of these llguidance Lark grammars that cannot be used, or None. Costs nothing for those seen before.

        Ends within a few seconds whatever the grammars are. Raises Overloaded where too many are waiting.
        """
        ...

    async def close(self) -> None:
        """Free what it holds. Idempotent."""
        ...
