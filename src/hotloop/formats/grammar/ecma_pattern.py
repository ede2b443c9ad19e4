"""A regular expression as `regex_text` writes it, in the syntax that ECMAScript, and with it xgrammar, reads.

The syntaxes differ in flags of a group, in `\\x{…}` and in differences of classes, which `regex_text` writes where a text
stands inside JSON. `\\d`, `\\w` and `\\s` hold ASCII there only, which rules more, not less.
"""

import re

from hotloop.formats.grammar.regex_text import ESCAPED

_DOT_ALL = re.compile(r"\(\?s:\.([^()]*)\)")
_DIFFERENCE = re.compile(r"\[(\[\^?[^\[\]]*\]|\\[dwsDWS])--\[\\x00-\\x1f\\x22\\x5c\]\]")
_LESS = r"\x00-\x1f\x22\x5c"  # ESCAPED, as a part of a class
_CODE = r"\\x\{([0-9a-f]+)\}|([^\\-])"
_ITEM = re.compile(rf"(?:{_CODE})(?:-(?:{_CODE}))?|(\\[dws])")
_FOREIGN = re.compile(r"\(\?i:|--\[|\\[pP]\{")
_WHITE_SPACE = r" \u{85}\u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}"  # outside of ESCAPED


class NotEcma(ValueError):
    """The expression needs case folding, a Unicode property or a difference of classes that has no other form."""


def ecma_pattern(source: str) -> str:
    """The same language, but for ASCII shorthands. Raises NotEcma."""
    source = _DIFFERENCE.sub(lambda found: _difference(found[1]), _DOT_ALL.sub(r"[\\s\\S]\1", source))
    if _FOREIGN.search(source):
        raise NotEcma
    return source.replace(r"\x{", r"\u{")


def _difference(items: str) -> str:
    """The class without the characters in ESCAPED."""
    if items in (r"\D", r"\W", r"\S"):
        return rf"[^{items.lower()}{_LESS}]"
    if items.startswith("[^"):
        return f"{items[:-1]}{_LESS}]"
    inside = items[1:-1] if items.startswith("[") else items
    if inside == r"\s\S":
        return f"[^{_LESS}]"
    out, at = "", 0
    while at < len(inside):
        found = _ITEM.match(inside, at)
        if found is None:
            raise NotEcma
        at = found.end()
        out += _plain_part(found)
    return f"[{out}]"


def _plain_part(found: "re.Match[str]") -> str:
    """What an item of a class holds outside of ESCAPED."""
    if shorthand := found[5]:
        return _WHITE_SPACE if shorthand == r"\s" else shorthand
    first = int(found[1], 16) if found[1] else ord(found[2])
    last = int(found[3], 16) if found[3] else ord(found[4]) if found[4] else first
    out, start = "", first
    for code in [*sorted(one for one in ESCAPED if first <= one <= last), last + 1]:
        if start < code:
            out += _code(start) if start == code - 1 else f"{_code(start)}-{_code(code - 1)}"
        start = code + 1
    return out


def _code(code: int) -> str:
    return rf"\u{{{code:x}}}"
