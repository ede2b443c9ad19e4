"""A Lark grammar written for the grammar engine, over plain or over JSON-escaped text.

The engine's lexer takes the longest match of a terminal and never goes back, where Lark tries every division; over escaped
text `/.*/` would even run into the `\\n` behind it. So whatever is regular becomes one terminal: every rule that is not
recursive, and in those that are, every stretch between two recursive symbols. What `%ignore` names is written out in
front of each symbol and at the end. Names are our own, so that an author's grammar cannot reach outside its place.
"""

import json
from collections.abc import Iterable

from hotloop.formats.grammar.lark_reader import (
    LarkError,
    LarkGrammar,
    Name,
    Node,
    Options,
    Sequence,
    Text,
    Times,
    is_terminal,
    names_in,
)
from hotloop.formats.grammar.regex_text import Writing, write_pattern


def write_lark(grammar: LarkGrammar, writing: Writing) -> str:
    """The grammar as one symbol of a rule. Raises LarkError if a terminal contains itself."""
    return _Writer(grammar, writing).write()


class _Writer:
    def __init__(self, grammar: LarkGrammar, writing: Writing) -> None:
        self._grammar = grammar
        self._writing: Writing = writing
        self._recursive = _recursive_names(grammar.definitions)
        self._names: dict[str, str] = {}
        self._lines: list[str] = []
        self._waiting: list[str] = []
        self._stretches = 0
        self._ignored = ""

    def write(self) -> str:
        if self._grammar.ignored:
            options = " | ".join(self._terminal(node) for node in self._grammar.ignored)
            self._lines.append(f"IGNORED: ({options})*")
            self._ignored = "IGNORED "
        start = self._rule(Name("start")) + (" IGNORED" if self._ignored else "")
        while self._waiting:
            self._define(self._waiting.pop())
        return "%lark {\n" + "\n".join([f"start: {start}", *self._lines]) + "\n}"

    def _define(self, name: str) -> None:
        node = self._grammar.definitions[name]
        if is_terminal(name):
            if name in self._recursive:
                raise LarkError(f"the grammar's terminal '{name}' contains itself")
            body = self._terminal(node)
        else:
            body = self._rule(node) if name in self._recursive else self._regular(node)
        self._lines.append(f"{self._names[name]}: {body}")

    def _name(self, name: str) -> str:
        known = self._names.get(name)
        if known is None:
            prefix = "r" if name in self._recursive and not is_terminal(name) else "T"
            known = self._names[name] = f"{prefix}{len(self._names)}"
            self._waiting.append(name)
        return known

    def _rule(self, node: Node) -> str:
        """`node` where names may be recursive rules."""
        if not self._is_recursive(node):
            self._stretches += 1
            name = f"S{self._stretches}"
            self._lines.append(f"{name}: {self._regular(node)}")
            return name
        match node:
            case Name(name):
                return self._name(name)
            case Sequence(parts):
                return " ".join(self._rule(part) for part in self._stretched(parts, Sequence))
            case Options(options):
                return f"({' | '.join(self._rule(part) for part in self._stretched(options, Options))})"
            case Times(part, counts):
                return f"({self._rule(part)}){counts}"
            case Text():
                raise AssertionError("a text is not recursive")

    def _stretched(self, parts: tuple[Node, ...], kind: type[Sequence] | type[Options]) -> list[Node]:
        """The same parts with regular neighbours joined into one."""
        joined: list[Node] = []
        stretch: list[Node] = []
        for part in parts:
            if not self._is_recursive(part):
                stretch.append(part)
                continue
            if stretch:
                joined.append(kind(tuple(stretch)))
                stretch = []
            joined.append(part)
        return [*joined, kind(tuple(stretch))] if stretch else joined

    def _is_recursive(self, node: Node) -> bool:
        return any(name in self._recursive for name in names_in([node]))

    def _regular(self, node: Node) -> str:
        """`node` of a rule as a terminal: what is ignored may stand in front of each symbol."""
        match node:
            case Text():
                return f"({self._ignored}{self._text(node)})" if self._ignored else self._text(node)
            case Name(name):
                return f"({self._ignored if is_terminal(name) else ''}{self._name(name)})"
            case Sequence(parts):
                return " ".join(self._regular(part) for part in parts) or '""'
            case Options(options):
                return f"({' | '.join(self._regular(option) for option in options)})"
            case Times(part, counts):
                return f"({self._regular(part)}){counts}"

    def _terminal(self, node: Node) -> str:
        match node:
            case Text():
                return self._text(node)
            case Name(name):
                if not is_terminal(name):
                    raise LarkError(f"a terminal of the grammar uses the rule '{name}'")
                return self._name(name)
            case Sequence(parts):
                return " ".join(self._terminal(part) for part in parts) or '""'
            case Options(options):
                return f"({' | '.join(self._terminal(option) for option in options)})"
            case Times(part, counts):
                return f"({self._terminal(part)}){counts}"

    def _text(self, node: Text) -> str:
        if node.literal is None:
            return f"/{write_pattern(node.pattern, self._writing)}/"
        text = json.dumps(node.literal, ensure_ascii=False)
        return text if self._writing == "raw" else json.dumps(text[1:-1], ensure_ascii=False)


def _recursive_names(definitions: dict[str, Node]) -> frozenset[str]:
    """Names that lead back to themselves, or to a name that does."""
    uses = {name: set(names_in([node])) for name, node in definitions.items()}
    ended = _peel(uses)
    return frozenset(uses.keys() - ended)


def _peel(uses: dict[str, set[str]]) -> set[str]:
    """Names whose every path ends: those that use nothing, then those that use only such, and so on."""
    users: dict[str, list[str]] = {name: [] for name in uses}
    open_uses = {name: len(used) for name, used in uses.items()}
    for name, used in uses.items():
        for other in used:
            users[other].append(name)
    ended: set[str] = set()
    ready: Iterable[str] = [name for name, count in open_uses.items() if count == 0]
    while ready:
        following: list[str] = []
        for name in ready:
            ended.add(name)
            for user in users[name]:
                open_uses[user] -= 1
                if open_uses[user] == 0:
                    following.append(user)
        ready = following
    return ended
