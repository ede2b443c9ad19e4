"""A safety policy of regular expressions, judged incrementally over a window that overlaps deltas."""

import re
from collections.abc import Mapping, Sequence

from hotloop.seams.classifier import ClassifierStream, Decision, Direction, Verdict

WINDOW_CHARS = 256  # longest match a rule may need; a rule that needs more can miss it


class PatternPolicy:
    """Rules by label; without rules nothing is ever found and nothing is paid.

    Args:
        flag: patterns whose match is written down.
        block: patterns whose match stops the turn.
    """

    def __init__(self, flag: Mapping[str, str] | None = None, block: Mapping[str, str] | None = None) -> None:
        self._rules = [(label, re.compile(text), Decision.BLOCK) for label, text in (block or {}).items()]
        self._rules += [(label, re.compile(text), Decision.FLAG) for label, text in (flag or {}).items()]

    @property
    def is_blocking(self) -> bool:
        """Some rule blocks."""
        return any(decision is Decision.BLOCK for _, _, decision in self._rules)

    @property
    def is_idle(self) -> bool:
        """There are no rules."""
        return not self._rules

    def stream(self, direction: Direction) -> ClassifierStream:
        """Begin a text; both directions are judged alike."""
        return _Window(self._rules) if self._rules else _NOTHING


class _Nothing:
    def feed(self, delta: str) -> Sequence[Verdict]:
        return ()


_NOTHING = _Nothing()


class _Window:
    """Judges tail + delta. Each rule reports once per text."""

    def __init__(self, rules: Sequence[tuple[str, re.Pattern[str], Decision]]) -> None:
        self._rules = list(rules)
        self._tail = ""

    def feed(self, delta: str) -> Sequence[Verdict]:
        text = self._tail + delta
        self._tail = text[-WINDOW_CHARS:]
        found = [rule for rule in self._rules if rule[1].search(text)]
        for rule in found:
            self._rules.remove(rule)
        return [Verdict(label, decision) for label, _, decision in found]
