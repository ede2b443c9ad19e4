"""A custom tool's Lark grammar, read into a tree.

Read is the part of Lark that says which texts belong to the language: rules, terminals, strings (also `"a".."z"` and
`"x"i`), regular expressions, `| ( ) [ ] ? * +`, `~n..m`, `%ignore`, `%import common.NAME`. Aliases, priorities, `?rule` and
`!rule` shape Lark's tree only and are dropped. Whatever else there is, is refused by name.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hotloop.formats.grammar.lark_common import COMMON_TERMINALS
from hotloop.formats.grammar.regex_text import Concat, Pattern, PatternError, character, parse_pattern

MAX_GRAMMAR_CHARS = 65_536
MAX_DEPTH = 64  # parentheses inside parentheses
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f]+|(?://|\#)[^\n]*|\\\n)
      | (?P<newline>\n)
      | (?P<string>"(?:[^"\\\n]|\\.)*"i?)
      | (?P<regex>/(?!/)(?:[^/\\\n]|\\.)+/[imslux]*)
      | (?P<name>[!?]{0,2}_?[A-Za-z][A-Za-z0-9_-]*|_[A-Za-z0-9_-]+)
      | (?P<directive>%[a-z]+)
      | (?P<repeat>~\ *\d{1,7}(?:\ *\.\.\ *\d{1,7})?)
      | (?P<range>\.\.)
      | (?P<arrow>->)
      | (?P<priority>\.-?\d+)
      | (?P<mark>[:|()\[\]?*+,.])""",
    re.VERBOSE,
)


class LarkError(PatternError):
    """The grammar cannot be ruled; see PatternError."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string if `literal` is set, else a regular expression."""

    pattern: Pattern
    literal: str | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """A rule or terminal, by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Options:
    """One of them."""

    options: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Times:
    """A part with `?`, `*`, `+` or `{n,m}` behind it."""

    part: "Node"
    counts: str


Node = Text | Name | Sequence | Options | Times


@dataclass(frozen=True, slots=True)
class LarkGrammar:
    """Definitions by name, and what may stand between any two symbols."""

    definitions: dict[str, Node]
    ignored: tuple[Node, ...]


def parse_lark(source: str) -> LarkGrammar:
    """Read a grammar. Raises LarkError."""
    if len(source) > MAX_GRAMMAR_CHARS:
        raise LarkError(f"the grammar is longer than {MAX_GRAMMAR_CHARS} characters", is_too_big=True)
    grammar = _Reader(source).read()
    if "start" not in grammar.definitions:
        raise LarkError("the grammar has no rule 'start'")
    for name in names_in([*grammar.definitions.values(), *grammar.ignored]):
        if name not in grammar.definitions:
            raise LarkError(f"the grammar uses '{name}', which it does not define")
    return grammar


def names_in(nodes: "Iterable[Node]") -> Iterator[str]:
    """Every name used in `nodes`."""
    waiting = list(nodes)
    while waiting:
        match waiting.pop():
            case Name(name):
                yield name
            case Sequence(parts) | Options(parts):
                waiting += parts
            case Times(part, _):
                waiting.append(part)
            case Text():
                pass


def is_terminal(name: str) -> bool:
    """Upper-case names are terminals, as in Lark."""
    return name.lstrip("_")[:1].isupper()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def _tokens(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, line = 0, 1
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            raise LarkError(f"line {line} of the grammar has something that is not supported")
        kind = found.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind, found[0], line))
        line += found[0].count("\n")
        at = found.end()
    return [*tokens, _Token("newline", "\n", line), _Token("end", "", line)]


class _Reader:
    def __init__(self, source: str) -> None:
        self._tokens = _tokens(source.replace("\r\n", "\n"))
        self._at = 0
        self._depth = 0
        self._definitions: dict[str, Node] = {}
        self._ignored: list[Node] = []

    def read(self) -> LarkGrammar:
        while not self._is("end"):
            if self._take("newline"):
                continue
            if directive := self._take("directive"):
                self._read_directive(directive)
            else:
                self._read_definition()
            self._expect("newline", "a line's end")
        return LarkGrammar(self._definitions, tuple(self._ignored))

    # --- lines ---

    def _read_definition(self) -> None:
        name = self._expect("name", "the name of a rule or terminal").lstrip("!?")
        self._take("priority")
        self._expect("mark", "a colon", ":")
        self._define(name, self._options())

    def _define(self, name: str, node: Node) -> None:
        if name in self._definitions:
            raise LarkError(f"the grammar defines '{name}' twice")
        self._definitions[name] = node

    def _read_directive(self, directive: str) -> None:
        match directive:
            case "%ignore":
                self._ignored.append(self._options())
            case "%import":
                self._read_import()
            case _:
                raise LarkError(f"the grammar uses {directive}, which is not supported")

    def _read_import(self) -> None:
        if self._expect("name", "'common'") != "common":
            raise LarkError("the grammar imports from elsewhere than 'common'")
        if self._take("mark", "."):
            name = self._expect("name", "a name")
            self._import(name, self._expect("name", "a name") if self._take("arrow") else name)
            return
        self._expect("mark", "a list of names", "(")
        while not self._take("mark", ")"):
            name = self._expect("name", "a name")
            self._import(name, name)
            self._take("mark", ",")

    def _import(self, name: str, alias: str) -> None:
        if name not in COMMON_TERMINALS:
            raise LarkError(f"the grammar imports common.{name}, which is not known")
        self._define(alias, Text(parse_pattern(COMMON_TERMINALS[name])))

    # --- expressions ---

    def _options(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise LarkError(f"the grammar nests more than {MAX_DEPTH} parentheses", is_too_big=True)
        options = [self._sequence()]
        while self._take_bar():
            options.append(self._sequence())
        self._depth -= 1
        return options[0] if len(options) == 1 else Options(tuple(options))

    def _take_bar(self) -> bool:
        """A `|` here, or at the start of one of the next lines."""
        ahead = self._at
        while self._tokens[ahead].kind == "newline":
            ahead += 1
        if self._tokens[ahead].text != "|" or self._tokens[ahead].kind != "mark":
            return False
        self._at = ahead + 1
        return True

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while True:
            if self._depth > 1 and self._take("newline"):  # inside parentheses lines do not count
                continue
            atom = self._atom()
            if atom is None:
                break
            parts.append(self._repeated(atom))
        if self._take("arrow"):
            self._expect("name", "a name")
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _atom(self) -> Node | None:
        if text := self._take("string"):
            return self._literal(text)
        if text := self._take("regex"):
            body, _, flags = text[1:].rpartition("/")
            return Text(parse_pattern(body, flags))
        if text := self._take("name"):
            if text[0] in "!?":
                raise self._unexpected()
            return Name(text)
        for opening, closing in ("()", "[]"):
            if self._take("mark", opening):
                node = self._options()
                while self._take("newline"):
                    pass
                self._expect("mark", f"a '{closing}'", closing)
                return node if opening == "(" else Times(node, "?")
        return None

    def _repeated(self, node: Node) -> Node:
        for _ in range(MAX_DEPTH):
            if mark := self._take("mark", "?") or self._take("mark", "*") or self._take("mark", "+"):
                node = Times(node, mark)
            elif counts := self._take("repeat"):
                least, _, most = counts[1:].replace(" ", "").partition("..")
                if most and int(most) < int(least):
                    raise LarkError("the grammar repeats at most fewer times than at least")
                node = Times(node, f"{{{least},{most or least}}}")
            else:
                return node
        raise LarkError(f"the grammar repeats something in {MAX_DEPTH} ways", is_too_big=True)

    def _literal(self, token: str) -> Node:
        text = self._string(token)
        if self._take("range"):
            last = self._string(self._expect("string", "a string"))
            if len(text) != 1 or len(last) != 1 or last < text:
                raise LarkError("the grammar has a range that is none")
            return Text(parse_pattern(f"[\\u{{{ord(text):x}}}-\\u{{{ord(last):x}}}]"))
        if token.endswith("i"):
            return Text(Concat(tuple(character(char, ignore_case=True) for char in text)))
        return Text(Concat(()), text)

    def _string(self, token: str) -> str:
        body = token.removesuffix("i")[1:-1]
        pattern = re.sub(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", _unescaped, body)
        if any(0xD800 <= ord(char) <= 0xDFFF for char in pattern):
            raise LarkError("a string of the grammar holds half a surrogate pair")
        return pattern

    # --- tokens ---

    def _is(self, kind: str) -> bool:
        return self._tokens[self._at].kind == kind

    def _take(self, kind: str, text: str | None = None) -> str:
        token = self._tokens[self._at]
        if token.kind != kind or (text is not None and token.text != text):
            return ""
        self._at += 1
        return token.text

    def _expect(self, kind: str, wanted: str, text: str | None = None) -> str:
        found = self._take(kind, text)
        if not found:
            raise LarkError(f"line {self._tokens[self._at].line} of the grammar: {wanted} is expected")
        return found

    def _unexpected(self) -> LarkError:
        return LarkError(f"line {self._tokens[self._at].line} of the grammar has something that is not supported")


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "b": "\b", "v": "\v", "a": "\a", "0": "\0"}


def _unescaped(found: "re.Match[str]") -> str:
    code = found[1] or found[2] or found[3]
    if code:
        if int(code, 16) > 0x10FFFF:
            raise LarkError("a string of the grammar has an escape that is no character")
        return chr(int(code, 16))
    return _ESCAPES.get(found[4], found[4])
