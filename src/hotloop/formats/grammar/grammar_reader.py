"""A format's own call grammar, read back into a tree.

Read is what `parts` and the families write, no more: rules and terminals, literals, regular expressions, control
tokens, `%json`, nested `%lark`, `( ) | ? * +`, counts, and text up to or without a spelled marker. What a custom tool's author
wrote has become part of that by then.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)
      | (?P<line>\n)
      | (?P<literal>"(?:[^"\\]|\\.)*")
      | (?P<regex>/(?:[^/\\]|\\.)+/)
      | (?P<token><\[(?P<without>\^?)(?P<id>\d+)\]>)
      | (?P<json>%json\ )
      | (?P<lark>%lark\ \{\n)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<lazy>\[lazy\])
      | (?P<suffix>\[suffix=(?P<closing>"(?:[^"\\]|\\.)*")\])
      | (?P<counts>[?*+]|\{\d+(?:,\d*)?\})
      | (?P<end>\})
      | (?P<mark>[:|()&~])""",
    re.VERBOSE,
)
_JSON = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Literal:
    """Exactly this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Regex:
    """A text that fits `source`; as Rust's `regex` writes it, without the slashes."""

    source: str


@dataclass(frozen=True, slots=True)
class Lacking:
    """A text of `part` that does not fit `source`."""

    part: "Node"
    source: str


@dataclass(frozen=True, slots=True)
class Token:
    """The control token `id`; `without`: any token but this."""

    id: int
    without: bool


@dataclass(frozen=True, slots=True)
class JsonValue:
    """JSON that fits `schema`."""

    schema: object


@dataclass(frozen=True, slots=True)
class Name:
    """A rule or terminal."""

    name: str


@dataclass(frozen=True, slots=True)
class Row:
    """One after the other."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Options:
    """One of them."""

    options: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Times:
    """`part` from `least` to `most` times; None is without end."""

    part: "Node"
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Until:
    """The shortest text that ends a match of `part`: with `closing` behind it, where it is not empty."""

    part: "Node"
    closing: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """Definitions by name; `start` is where it begins. Names of an inner grammar are its own."""

    definitions: "Mapping[str, Node]"


Node = Literal | Regex | Lacking | Token | JsonValue | Name | Row | Options | Times | Until | Grammar


class NotOurs(ValueError):
    """The grammar holds something that no format writes."""


def read_grammar(text: str) -> Grammar:
    """Read a grammar. Raises NotOurs."""
    reader = _Reader(text)
    grammar = Grammar(reader.definitions())
    if reader.kind:
        raise NotOurs(f"{reader.kind} stands at {reader.at}")
    return grammar


class _Reader:
    """One grammar from left to right; `kind` is the token at `at`, empty behind the last one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0
        self.kind = ""
        self._found: re.Match[str] | None = None
        self._look()

    def definitions(self) -> dict[str, Node]:
        out: dict[str, Node] = {}
        while self.kind in ("name", "line"):
            if self.kind == "line":
                self._next()
                continue
            name = self._next()
            closing = self._closing()
            self._expect(":")
            node = self._choice()
            out[name] = node if closing is None else Until(node, closing)
        return out

    def _choice(self) -> Node:
        options = [self._row()]
        while self._is("|"):
            self._next()
            options.append(self._row())
        return options[0] if len(options) == 1 else Options(tuple(options))

    def _row(self) -> Node:
        parts: list[Node] = []
        while self.kind and self.kind not in ("line", "end") and not (self._is("|") or self._is(")")):
            part = self._atom()
            while self.kind == "counts":
                part = Times(part, *_counts(self._next()))
            if self._is("&"):
                self._next()
                self._expect("~")
                part = Lacking(part, self._next()[1:-1])
            parts.append(part)
        return parts[0] if len(parts) == 1 else Row(tuple(parts))

    def _atom(self) -> Node:
        kind, found = self.kind, self._found
        assert found is not None
        match kind:
            case "literal":
                return Literal(json.loads(self._next()))
            case "regex":
                return Regex(self._next()[1:-1])
            case "token":
                self._next()
                return Token(int(found["id"]), bool(found["without"]))
            case "json":
                schema, self.at = _JSON.raw_decode(self._text, found.end())
                self._look()
                return JsonValue(schema)
            case "lark":
                self._next()
                inner = Grammar(self.definitions())
                self._expect("}")
                return inner
            case "name":
                return Name(self._next())
            case _:
                self._expect("(")
                node = self._choice()
                self._expect(")")
                return node

    # --- tokens ---

    def _closing(self) -> str | None:
        """What ends the shortest text of the definition, empty if that is in the pattern; None: not the shortest."""
        found = self._found
        if found is None or self.kind not in ("lazy", "suffix"):
            return None
        self._next()
        return str(json.loads(found["closing"])) if found["closing"] else ""

    def _is(self, mark: str) -> bool:
        return self.kind == "mark" and self._found is not None and self._found[0] == mark

    def _expect(self, text: str) -> None:
        if self._next() != text:
            raise NotOurs(f"no {text!r} before {self.at}")

    def _next(self) -> str:
        if self._found is None:
            raise NotOurs("the grammar ends too early")
        text = self._found[0]
        self.at = self._found.end()
        self._look()
        return text

    def _look(self) -> None:
        while (found := _TOKEN.match(self._text, self.at)) is not None and found.lastgroup is not None:
            kind = next(name for name in _KINDS if found[name] is not None)
            if kind != "space":
                self.kind, self._found = kind, found
                return
            self.at = found.end()
        if self.at < len(self._text):
            raise NotOurs(f"unknown text at {self.at}")
        self.kind, self._found = "", None


_KINDS = (
    "space",
    "line",
    "literal",
    "regex",
    "token",
    "json",
    "lark",
    "name",
    "lazy",
    "suffix",
    "counts",
    "end",
    "mark",
)


def _counts(text: str) -> tuple[int, int | None]:
    known: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
    if text in known:
        return known[text]
    least, comma, most = text[1:-1].partition(",")
    return int(least), int(most) if most else None if comma else int(least)
