"""Names for modules, packages, functions and parameters, split into those of training and those held out."""

import hashlib
import random

from phrases import phrases

NOUNS = phrases("nouns")

TAKEN = frozenset(phrases("taken_names"))  # of the standard library and of Python itself

PARAMETERS = {
    "pair": (
        "a,b",
        "x,y",
        "left,right",
        "first,second",
        "m,n",
        "p,q",
        "one,two",
        "u,v",
        "low,high",
        "base,other",
        "lhs,rhs",
    ),
    "number": ("n", "x", "value", "number", "amount", "num", "v", "k", "count", "level"),
    "items": ("xs", "items", "values", "numbers", "data", "nums", "rows", "seq", "entries", "things"),
    "element": ("x", "item", "v", "entry", "e", "elem", "one", "it"),
    "text": ("s", "text", "word", "name", "line", "string", "label", "phrase"),
    "limit": ("limit", "bound", "top", "maximum", "cutoff", "most"),
    "table": ("d", "table", "mapping", "counts", "lookup", "pairs"),
    "result": ("total", "result", "out", "acc", "answer"),
}

_FRAGMENTS = phrases("fragments")
_ONSETS = (*"bcdfghklmnprstvwz", "br", "cr", "dr", "fl", "gr", "kl", "pl", "pr", "st", "tr", "sh", "ch")
_VOWELS = ("a", "e", "i", "o", "u", "a", "e", "i", "o", "ai", "ea", "oo")
_CODAS = ["", "", "", "n", "r", "l", "s", "t", "m", "x", "ck", "nd", "st"]


def is_held_out(word: str) -> bool:
    """Tell whether a name is kept for evaluation. One in seven is, by a hash, so that the split never moves."""
    return hashlib.sha256(word.encode()).digest()[0] % 7 == 0


def made_up(rng: random.Random) -> str:
    """A word nobody has seen, of syllables or of any pieces: what teaches to copy names instead of knowing them."""
    if rng.random() < 0.4:
        return "".join(rng.choice(_FRAGMENTS) for _ in range(rng.choice((1, 2, 2, 3))))
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(rng.choice((1, 2, 2, 2)))
    )


class Names:
    """Draws names of one side of the split.

    Args:
        held_out: draw only names that training never sees.
    """

    def __init__(self, rng: random.Random, *, held_out: bool) -> None:
        self._rng = rng
        self._held_out = held_out
        self._nouns = [noun for noun in dict.fromkeys(NOUNS) if is_held_out(noun) == held_out]

    def noun(self) -> str:
        """One name in lower case, letters only, never a Python keyword or a name the tests need."""
        while True:
            word = self._rng.choice(self._nouns) if self._rng.random() < 0.6 else made_up(self._rng)
            if is_held_out(word) == self._held_out and len(word) > 2 and len(word) < 16 and word not in TAKEN:
                return word

    def nouns(self, count: int) -> list[str]:
        """Different names."""
        chosen: list[str] = []
        while len(chosen) < count:
            word = self.noun()
            if word not in chosen:
                chosen.append(word)
        return chosen
