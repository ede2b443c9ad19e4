"""A call grammar for engines that constrain themselves: a JSON schema, or xgrammar's structural tag.

The structural tag is a tree of formats (`sequence`, `or`, `json_schema`, `any_text`, `token`, …), as xgrammar 0.2 documents
it; vLLM takes it as `structured_outputs.structural_tag`, SGLang as `structural_tag`. It is made from the grammar's text, so
that no family writes its rules twice, and only when an engine asks.

It says what the grammar says, with these differences, which are xgrammar's: JSON may hold blanks anywhere, and a JSON string or
a regular expression may hold the spelling of a control token; shorthands such as `\\d` are ASCII; a string beside other types
may look like one of them (`bases.tags.values`). What it cannot say is
refused by name:

    recursive_grammar      a custom tool's Lark rule leads back to itself
    unsupported_pattern    a regular expression that `ecma_pattern` cannot write
    unsupported_exclusion  text without something that is no plain text
    grammar_too_large      written out, without names, it has more than MAX_PARTS parts
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from hotloop.formats.grammar import grammar_reader as grammar
from hotloop.formats.grammar.ecma_pattern import NotEcma, ecma_pattern
from hotloop.seams.engine import Form, JsonSchema, NotExpressible, StructuralTag

MAX_PARTS = 20_000

_Format = dict[str, object]
_ANY = "(?s:.*)"
_SPELLING = "SPELLING_"  # `grammar_parts.spelling`
_ANY_IN_FRONT = re.compile(r"\(\?s:\.\*\)|\(\?:\(\?s:\.\*\)\)")
_PLAIN_CHARACTER = re.compile(r"\\x\{([0-9a-f]+)\}|(?:\\(?=/))?([0-9A-Za-z<>/]|[^\x00-\x7f])")


class _Refused(Exception):
    """There is no structural tag; the message is the reason."""


@dataclass(frozen=True)
class LazyForm:
    """Implements `seams.engine.PassThrough`: the form is made when first asked for, then kept."""

    grammar: str
    trigger: int | None = None
    once: bool = False

    def form(self) -> Form:
        return self._form

    @cached_property
    def _form(self) -> Form:
        read = grammar.read_grammar(self.grammar)
        if self.trigger is None and (schema := _whole_schema(read)) is not None:
            return JsonSchema(schema)
        try:
            ruled = _Writer(read, self.trigger).write()
        except _Refused as refused:
            return NotExpressible(str(refused))
        if self.trigger is not None:
            ruled = {"type": "token_dispatch", "rules": [[self.trigger, ruled]], "loop": not self.once}
        return StructuralTag({"type": "structural_tag", "format": ruled})


def _whole_schema(read: grammar.Grammar) -> Mapping[str, object] | None:
    """The schema, if the grammar is nothing but one."""
    node: grammar.Node = read.definitions["start"]
    while isinstance(node, grammar.Name):
        node = read.definitions[node.name]
    return _schema(node) if isinstance(node, grammar.JsonValue) else None


def _schema(node: grammar.JsonValue) -> dict[str, object]:
    fields = cast("dict[str, object]", node.schema)  # `json_value` writes objects only
    return {key: value for key, value in fields.items() if key != "x-guidance"}


class _Writer:
    """One grammar written out: names are replaced by what they stand for."""

    def __init__(self, read: grammar.Grammar, trigger: int | None) -> None:
        self._grammar = read
        tokens = {token.id for token in _tokens(read)}
        self._spellings = {
            int(name.removeprefix(_SPELLING)): node.text
            for name, node in read.definitions.items()
            if name.startswith(_SPELLING) and isinstance(node, grammar.Literal)
        }
        self._marks = sorted(tokens if trigger is None else tokens | {trigger})
        self._open: list[tuple[int, str]] = []  # names that are being written out, by grammar
        self._parts = 0

    def write(self) -> _Format:
        return self._finished(self._inner(self._grammar))

    def _inner(self, read: grammar.Grammar) -> list[_Format]:
        return self._row(grammar.Name("start"), read)

    def _row(self, node: grammar.Node, read: grammar.Grammar) -> list[_Format]:
        """What stands for `node`, as parts of a row."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _Refused("grammar_too_large")
        match node:
            case grammar.Literal(text):
                return [{"type": "const_string", "value": text}] if text else []
            case grammar.Regex(source):
                return self._pattern(source)
            case grammar.Token(token, without):
                is_one: _Format = {"type": "token", "token": token}
                return [{"type": "exclude_token", "exclude_tokens": [token]} if without else is_one]
            case grammar.JsonValue():
                return [{"type": "json_schema", "json_schema": _schema(node)}]
            case grammar.Grammar():
                return self._inner(node)
            case grammar.Name(name):
                return self._named(name, read)
            case grammar.Row(parts):
                return _ended([one for part in parts for one in self._row(part, read)], self._spellings)
            case grammar.Options(options):
                return [{"type": "or", "elements": [self._finished(self._row(one, read)) for one in options]}]
            case grammar.Times(grammar.Token(token, True), 0, None):
                return [{"type": "any_tokens", "exclude_tokens": [token]}]
            case grammar.Times(part, least, most):
                return [_repeated(self._finished(self._row(part, read)), least, most)]
            case grammar.Until(part, closing):
                return self._until(part, closing, read)
            case grammar.Lacking(part, source) if not source.startswith(_ANY):
                return self._row(part, read)
            case grammar.Lacking(part, source):
                if part != grammar.Regex(_ANY) or not (source.startswith(_ANY) and source.endswith(_ANY)):
                    raise _Refused("unsupported_exclusion")
                return [{"type": "any_text", "excludes": [_plain(source[len(_ANY) : -len(_ANY)])]}]

    def _named(self, name: str, read: grammar.Grammar) -> list[_Format]:
        here = (id(read), name)
        if here in self._open:
            raise _Refused("recursive_grammar")
        self._open.append(here)
        parts = self._row(read.definitions[name], read)
        self._open.pop()
        return parts

    def _until(self, part: grammar.Node, closing: str, read: grammar.Grammar) -> list[_Format]:
        """The end of a lazy text is at its first chance, which is what a `tag` does for any text."""
        while isinstance(part, grammar.Name | grammar.Lacking):
            part = read.definitions[part.name] if isinstance(part, grammar.Name) else part.part
        if isinstance(part, grammar.Regex) and part.source.startswith(_ANY):
            closing = closing or _plain(part.source[len(_ANY) :])
            return [{"type": "tag", "begin": "", "content": {"type": "any_text"}, "end": closing}]
        return [*self._row(part, read), {"type": "const_string", "value": closing}]

    def _pattern(self, source: str) -> list[_Format]:
        front = _ANY_IN_FRONT.match(source)
        if front is None:
            return [{"type": "regex", "pattern": _regex(source)}]
        rest = source[front.end() :]
        if not rest:
            return [self._any()]
        if _is_plain(rest):
            return [self._any(), {"type": "const_string", "value": _plain(rest)}]
        return [{"type": "regex", "pattern": _regex(source)}]

    def _any(self) -> _Format:
        """Text without control tokens, as far as the grammar knows any."""
        if self._marks:
            return {"type": "any_tokens", "exclude_tokens": list(self._marks)}
        return {"type": "any_text"}

    @staticmethod
    def _finished(parts: list[_Format]) -> _Format:
        if len(parts) == 1:
            return parts[0]
        return {"type": "sequence", "elements": parts or [{"type": "const_string", "value": ""}]}


def _tokens(node: grammar.Node) -> Iterator[grammar.Token]:
    waiting: list[grammar.Node] = [node]
    while waiting:
        match waiting.pop():
            case grammar.Token() as token:
                yield token
            case grammar.Grammar(definitions):
                waiting += definitions.values()
            case grammar.Row(parts) | grammar.Options(parts):
                waiting += parts
            case grammar.Times(part) | grammar.Until(part) | grammar.Lacking(part):
                waiting.append(part)
            case _:
                pass


def _ended(row: list[_Format], spellings: Mapping[int, str]) -> list[_Format]:
    """The same row, where any text that ends with some text and a marker of known spelling ends at the first of both.

    `any_tokens` takes whole tokens: it could not end where the text in front of the marker is a part of a token.
    """
    out: list[_Format] = []
    for part in row:
        token = part.get("token")
        if (
            isinstance(token, int)
            and token in spellings
            and [one["type"] for one in out[-2:]] == ["any_tokens", "const_string"]
        ):
            end = f"{out[-1]['value']}{spellings[token]}"
            out[-2:] = [{"type": "tag", "begin": "", "content": {"type": "any_text"}, "end": end}]
        else:
            out.append(part)
    return out


def _repeated(content: _Format, least: int, most: int | None) -> _Format:
    match least, most:
        case 0, 1:
            return {"type": "optional", "content": content}
        case 0, None:
            return {"type": "star", "content": content}
        case 1, None:
            return {"type": "plus", "content": content}
        case _:
            return {"type": "repeat", "min": least, "max": -1 if most is None else most, "content": content}


def _is_plain(source: str) -> bool:
    return _PLAIN_CHARACTER.sub("", source) == ""


def _plain(source: str) -> str:
    """The text that is the only one to fit `source`."""
    if not source or not _is_plain(source):
        raise _Refused("unsupported_exclusion")
    return _PLAIN_CHARACTER.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], source)


def _regex(source: str) -> str:
    try:
        return ecma_pattern(source)
    except NotEcma:
        raise _Refused("unsupported_pattern") from None
