"""Says whether a text belongs to the language of a Lark grammar. Knows nothing of how hotloop reads one.

Lark's own package reads the grammar into plain rules and regular expressions; on those runs Earley's recogniser, which tries
every division of the text into terminals. Lark's own Earley parser is no use here: it builds every tree there is, and it
skips what is ignored greedily, even where a terminal begins with it.
"""

import re
from collections import defaultdict
from functools import lru_cache

from lark import Lark
from lark.exceptions import GrammarError
from lark.grammar import NonTerminal

_State = tuple[int, int, int]  # rule, symbols of it that were seen, where it began


class LarkJudge:
    """One grammar. Raises GrammarError if Lark cannot read it."""

    def __init__(self, source: str) -> None:
        lark = Lark(source, parser="earley", lexer="dynamic_complete")
        self._rules = [(rule.origin.name, tuple(rule.expansion)) for rule in lark.rules]
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for index, (name, _) in enumerate(self._rules):
            self._by_name[name].append(index)
        self._terminals = {one.name: re.compile(one.pattern.to_regexp()) for one in lark.terminals}
        self._widest = {one.name: one.pattern.max_width for one in lark.terminals}
        self._ignored = tuple(lark.ignore_tokens)

    def accepts(self, text: str) -> bool:
        """The whole of `text` is in the language."""
        self._text = text
        self._ends = lru_cache(maxsize=None)(self._find_ends)
        self._gaps = lru_cache(maxsize=None)(self._find_gaps)
        columns: list[dict[_State, None]] = [{} for _ in range(len(text) + 1)]
        self._waiting: list[dict[str, list[_State]]] = [defaultdict(list) for _ in columns]
        for rule in self._by_name["start"]:
            columns[0][rule, 0, 0] = None
        for at in range(len(columns)):
            self._fill(columns, at)
        return any(
            self._rules[rule][0] == "start" and seen == len(self._rules[rule][1]) and began == 0
            for at, column in enumerate(columns)
            if len(text) in self._gaps(at)
            for rule, seen, began in column
        )

    def _fill(self, columns: list[dict[_State, None]], at: int) -> None:
        """Everything that can stand at `at`; a rule that is empty there moves on whoever asks for it, also later."""
        waiting = self._waiting[at]  # who asks for a rule here
        empty: set[str] = set()
        todo = list(columns[at])

        def add(state: _State) -> None:
            if state not in columns[at]:
                columns[at][state] = None
                todo.append(state)

        while todo:
            rule, seen, began = state = todo.pop()
            name, symbols = self._rules[rule]
            if seen == len(symbols):
                if began == at:
                    empty.add(name)
                for parent, before, start in list(self._waiting[began].get(name, ())):
                    add((parent, before + 1, start))
            elif isinstance(symbols[seen], NonTerminal):
                wanted = symbols[seen].name
                waiting[wanted].append(state)
                for index in self._by_name[wanted]:
                    add((index, 0, at))
                if wanted in empty:
                    add((rule, seen + 1, began))
            else:
                for gap in self._gaps(at):
                    for end in self._ends(symbols[seen].name, gap):
                        columns[end][rule, seen + 1, began] = None

    def _find_ends(self, terminal: str, at: int) -> list[int]:
        pattern = self._terminals[terminal]
        if pattern.match(self._text, at) is None:
            return []
        last = min(len(self._text), at + self._widest[terminal])
        return [end for end in range(at + 1, last + 1) if pattern.fullmatch(self._text, at, end)]

    def _find_gaps(self, at: int) -> list[int]:
        """Where the next terminal may begin: here, or behind what is ignored."""
        found = {at: None}
        todo = [at]
        while todo:
            place = todo.pop()
            for name in self._ignored:
                for end in self._ends(name, place):
                    if end not in found:
                        found[end] = None
                        todo.append(end)
        return list(found)


def is_readable(source: str) -> bool:
    """Lark takes the grammar: it refuses rules with options that come out the same."""
    try:
        LarkJudge(source)
    except GrammarError:
        return False
    return True
