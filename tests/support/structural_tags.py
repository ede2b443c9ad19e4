"""What a structural tag lets through, by the meaning that xgrammar documents for each of its formats.

A plain matcher over token ids, slow and without regard to lexing: from a place where a format begins, the set of places where
it may end. It stands in for xgrammar, which needs torch.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jsonschema

Format = Mapping[str, Any]
_CODE = re.compile(r"\\u\{([0-9a-f]+)\}")

# Fields of each format beside its type, as far as they are in use here.
FIELDS: Mapping[str, tuple[set[str], ...]] = {
    "const_string": ({"value"},),
    "token": ({"token"},),
    "any_text": (set(), {"excludes"}),
    "any_tokens": ({"exclude_tokens"},),
    "regex": ({"pattern"},),
    "json_schema": ({"json_schema"},),
    "sequence": ({"elements"},),
    "or": ({"elements"},),
    "optional": ({"content"},),
    "star": ({"content"},),
    "plus": ({"content"},),
    "repeat": ({"content", "min", "max"},),
    "tag": ({"begin", "content", "end"},),
    "token_dispatch": ({"rules", "loop"},),
}


class TagMatcher:
    """Matches outputs against one tag.

    Args:
        pieces: bytes of every token.
        specials: tokens that `any_tokens` may take only if they are not excluded; text never becomes them here.
    """

    def __init__(self, tag: Format, pieces: Sequence[bytes], specials: frozenset[int]) -> None:
        assert set(tag) == {"type", "format"} and tag["type"] == "structural_tag"
        json.dumps(tag)  # it travels as JSON
        self._format: Format = tag["format"]
        self._pieces = pieces
        self._specials = specials
        self._units: list[int | str] = []  # the output: characters, and control tokens by id

    def accepts(self, ids: Sequence[int]) -> bool:
        """Exactly `ids` may be written."""
        self._units = list(self._split(ids))
        return len(self._units) in self._ends(self._format, 0)

    def _split(self, ids: Sequence[int]) -> Iterable[int | str]:
        text = b""
        for token in ids:
            if token in self._specials:
                yield from text.decode()
                text = b""
                yield token
            else:
                text += self._pieces[token]
        yield from text.decode()

    def _text_at(self, start: int) -> str:
        """The characters from `start` up to the next control token."""
        end = start
        while end < len(self._units) and isinstance(self._units[end], str):
            end += 1
        return "".join(str(one) for one in self._units[start:end])

    def _ends(self, format: Format, start: int) -> set[int]:
        kind: str = format["type"]
        assert set(format) - {"type"} in FIELDS[kind], f"not as documented: {format}"
        text = self._text_at(start)
        match kind:
            case "const_string":
                return {start + len(format["value"])} if text.startswith(format["value"]) else set()
            case "token":
                return {start + 1} if self._units[start : start + 1] == [format["token"]] else set()
            case "any_text":
                found = [text.find(one) + len(one) for one in format.get("excludes", ()) if one in text]
                return set(range(start, start + min(found, default=len(text) + 1)))
            case "any_tokens":
                end = start
                while end < len(self._units) and self._units[end] not in format["exclude_tokens"]:
                    end += 1
                return set(range(start, end + 1))
            case "regex":
                compiled = re.compile(_CODE.sub(lambda code: re.escape(chr(int(code[1], 16))), format["pattern"]))
                return {start + size for size in range(len(text) + 1) if compiled.fullmatch(text[:size])}
            case "json_schema":
                return self._json_ends(format["json_schema"], text, start)
            case "or":
                return {end for element in format["elements"] for end in self._ends(element, start)}
            case "tag":
                assert format["begin"] == "" and format["content"] == {"type": "any_text"}
                return self._first(format["end"], start)
            case "token_dispatch":
                ((trigger, content),) = format["rules"]
                return self._dispatched(trigger, content, start, loop=format["loop"])
            case _:
                return self._composed(kind, format, start)

    def _composed(self, kind: str, format: Format, start: int) -> set[int]:
        match kind:
            case "sequence":
                ends = {start}
                for element in format["elements"]:
                    ends = {end for one in ends for end in self._ends(element, one)}
                return ends
            case "optional":
                return {start} | self._ends(format["content"], start)
            case "repeat":
                most = format["max"]
                return self._repeated(format["content"], start, format["min"], None if most < 0 else most)
            case _:
                return self._repeated(format["content"], start, 0 if kind == "star" else 1, None)

    def _first(self, end: str, start: int) -> set[int]:
        """Behind the first `end`, in which a control token counts by its spelling."""
        written = ""
        for at, unit in enumerate(self._units[start:], start):
            written += unit if isinstance(unit, str) else self._pieces[unit].decode()
            if written.endswith(end):
                return {at + 1}
        return set()

    def _json_ends(self, schema: dict[str, Any], text: str, start: int) -> set[int]:
        ends: set[int] = set()
        for size in range(1, len(text) + 1):
            try:
                jsonschema.validate(json.loads(text[:size]), schema)
            except (ValueError, jsonschema.ValidationError):
                continue
            ends.add(start + size)
        return ends

    def _repeated(self, content: Format, start: int, least: int, most: int | None) -> set[int]:
        reached, found, count = {start}, {start} if least == 0 else set[int](), 0
        while reached and (most is None or count < most):
            count += 1
            reached = {end for one in reached for end in self._ends(content, one) if end > one} - (
                found if count > least else set()
            )
            found |= reached if count >= least else set()
        return found

    def _dispatched(self, trigger: int, content: Format, start: int, *, loop: bool) -> set[int]:
        if trigger not in self._units[start:]:
            return set(range(start, len(self._units) + 1))
        at = self._units.index(trigger, start)
        ends = self._ends(content, at + 1)
        return {end for one in ends for end in self._dispatched(trigger, content, one, loop=loop)} if loop else ends
