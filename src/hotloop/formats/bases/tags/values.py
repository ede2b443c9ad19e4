"""What the value of one argument may be where every value is written as plain text, as expressions of a grammar.

A schema may allow a string beside other types. A text that looks like one of those is read as one (`argument_types`), so the
string may not look so: else a string's `maxLength` would let any number in. The grammar engine tells string and JSON apart
by their first character only, so such a string does not begin with a bracket, nor with a digit where it may be a number.
"""

from typing import Any, cast

from hotloop.formats.bases.tags.text import json_value as as_json_text
from hotloop.formats.bases.tags.text import python_value
from hotloop.formats.grammar.parts import ANY_TEXT, SPACED, json_value, literal, string_text
from hotloop.formats.parsing.argument_types import ANY, resolve, types_of

_MOST_DEPTH = 8  # of nested alternatives and references
_WORDS = {"boolean": ("true", "false"), "null": ("null",)}
_PYTHON_WORDS = {"boolean": ("True", "False"), "null": ("None",)}


class Values:
    """Collects the ways of writing what a schema allows.

    Args:
        root: where its references point into.
        param: path of the schema in the request.
        python: values that are no text are written as Python writes them, but for objects and lists.
    """

    def __init__(self, root: dict[str, object], param: str, *, python: bool) -> None:
        self.texts: list[str] = []  # of strings, as terminals
        self.words: list[str] = []  # of values that are no strings, as terminals
        self.json: list[str] = []
        self.free: set[str] = set()  # types of which every value may be written
        self._root = root
        self._param = param
        self._python = python

    def add(self, schema: object, depth: int = 0) -> None:
        """Every way that `schema` allows. Raises what `json_value` and `string_text` raise."""
        fields = self._resolved(schema)
        stated = [fields["const"]] if "const" in fields else fields.get("enum")
        alternatives = fields.get("anyOf", fields.get("oneOf"))
        if isinstance(stated, list):
            self._add_values(cast("list[object]", stated))
        elif isinstance(alternatives, list) and depth < _MOST_DEPTH:
            self._add_alternatives(fields, cast("list[object]", alternatives), depth)
        else:
            self._add_types(fields)

    def _resolved(self, schema: object) -> dict[str, object]:
        fields = cast("dict[str, object]", schema) if isinstance(schema, dict) else {}
        seen = 0
        while isinstance(reference := fields.get("$ref"), str) and seen < _MOST_DEPTH:
            target = resolve(reference, self._root)
            fields = cast("dict[str, object]", target) if isinstance(target, dict) else {}
            seen += 1
        return fields

    def _add_values(self, values: list[object]) -> None:
        for value in values:
            if isinstance(value, str):
                self.texts.append(literal(value))
            else:
                self.words.append(literal(python_value(value) if self._python else as_json_text(value)))

    def _add_alternatives(self, fields: dict[str, object], alternatives: list[object], depth: int) -> None:
        """One by one, but for those of `oneOf` that are written as JSON: they stay together, so that only one may fit."""
        key = "anyOf" if "anyOf" in fields else "oneOf"
        together: list[object] = []
        for one in alternatives:
            types = types_of(one, self._root)
            if key == "oneOf" and types and not types & {"string", *_WORDS}:
                together.append(one)
            else:
                self.add(one, depth + 1)
        if together:
            self._add_json({key: together})

    def _add_types(self, fields: dict[str, object]) -> None:
        types = types_of(fields, self._root)
        if types == ANY:
            self.texts.append(ANY_TEXT)
            return
        if "string" in types:
            self.texts.append(string_text(cast("dict[str, Any]", fields), self._param))
            if self.texts[-1] == ANY_TEXT:
                self.free.add("string")
        words = _PYTHON_WORDS if self._python else _WORDS
        self.words += [literal(word) for name in sorted(types & words.keys()) for word in words[name]]
        self.free |= types & words.keys()
        if left := types - {"string", *words}:
            self._add_json(fields if left == types else {**fields, "type": sorted(left)})

    def _add_json(self, fields: dict[str, object]) -> None:
        definitions = {key: self._root[key] for key in ("$defs", "definitions") if key in self._root}
        self.json.append(json_value({**fields, **definitions}, SPACED, self._param))


def looks_like(types: frozenset[str]) -> str:
    """A regular expression of the texts that are read as something else than a string, and of what begins like one; or ""."""
    forms = ["|".join((*_WORDS[name], *_PYTHON_WORDS[name])) for name in sorted(types & _WORDS.keys())]
    starts = ("-0-9" if types & {"integer", "number"} else "") + (r"\[{" if types & {"array", "object"} else "")
    if starts:
        forms.append(f"[{starts}](?s:.*)")
    return f"\\s*(?:{'|'.join(forms)})\\s*" if forms else ""
