"""A regular expression as a tool's author writes it, and the same one over JSON-escaped text.

A custom tool's text travels inside a JSON string in most families. To rule it there, the expression is read into a tree and
every character in it becomes what `json.dumps` writes for it: `"` becomes `\\"`, a line break `\\n`. That map is a prefix code,
so the tree's shape stays. Read is the part of the syntax that describes a regular language; it matches the whole text, so
`^` in front and `$` behind add nothing. Look-around, back-references and word boundaries raise `PatternError`.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

MAX_PATTERN_CHARS = 65_536
MAX_DEPTH = 64  # groups inside groups
# `(a{100}){100}` is 10,000. The engine's lexer unfolds those: 35 µs each, in one step.
MAX_NESTED_REPEATS = 4_000

# What json.dumps(ensure_ascii=False) does not write as itself.
ESCAPED = frozenset([*range(0x20), ord('"'), ord("\\")])
_SHORT = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}
_CONTROL_ESCAPES = {"t": 0x09, "n": 0x0A, "r": 0x0D, "f": 0x0C, "v": 0x0B, "a": 0x07}
_WHITE_SPACE = frozenset([0x09, 0x0A, 0x0B, 0x0C, 0x0D])  # of those escaped; `\d` and `\w` hold none of them
_NOT_ESCAPED = r"[\x00-\x1f\x22\x5c]"
_PROPERTY = re.compile(
    r"\{\^?(L|Lu|Ll|Lt|Lm|Lo|M|Mn|Mc|Me|N|Nd|Nl|No|P|Pc|Pd|Ps|Pe|Pi|Pf|Po|S|Sm|Sc|Sk|So|Z|Zs|Zl|Zp|C|Cc|Cf)\}"
)
_COUNTS = re.compile(r"\{(\d*)(,?)(\d*)\}")
_ASCII_ONLY = {  # as ranges; the grammar engine's own hold the digits and letters of every script
    "d": "0-9",
    "w": r"0-9A-Z\x{5f}a-z",
    "D": r"\x{0}-\x{2f}\x{3a}-\x{10ffff}",
    "W": r"\x{0}-\x{2f}\x{3a}-\x{40}\x{5b}-\x{5e}\x{60}\x{7b}-\x{10ffff}",
}

Writing = Literal["raw", "json"]


class PatternError(ValueError):
    """The expression cannot be ruled. The message says why and never quotes it. `is_too_big`: only its size is wrong."""

    def __init__(self, message: str, *, is_too_big: bool = False) -> None:
        super().__init__(message)
        self.is_too_big = is_too_big


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of a set. `source` is the set as a class or escape; `escaped` are those of ESCAPED in it."""

    source: str
    escaped: frozenset[int]
    has_plain: bool = True  # it also holds characters that are not in ESCAPED
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class Concat:
    """One after the other."""

    parts: "tuple[Pattern, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them."""

    options: "tuple[Pattern, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` times; None is without end."""

    part: "Pattern"
    least: int
    most: int | None


Pattern = Chars | Concat | Choice | Repeat


def parse_pattern(source: str, flags: str = "", *, is_ecma: bool = False) -> Pattern:
    """Read an expression; `flags` as Lark writes them behind it. Raises PatternError.

    Args:
        is_ecma: `\\d` and `\\w` are of ASCII only, as in JSON schemas.
    """
    if len(source) > MAX_PATTERN_CHARS:
        raise PatternError(f"the regular expression is longer than {MAX_PATTERN_CHARS} characters", is_too_big=True)
    pattern = _Reader(source, is_ecma=is_ecma).read(flags)
    if _repeats(pattern)[1] > MAX_NESTED_REPEATS:
        raise PatternError("the regular expression multiplies its repetitions", is_too_big=True)
    return pattern


def _repeats(pattern: Pattern) -> tuple[int, int]:
    """The largest product of counted repetitions along one path, and the largest of those that nest."""
    match pattern:
        case Chars():
            return 1, 1
        case Concat(parts) | Choice(parts):
            found = [_repeats(part) for part in parts]
            return max((most for most, _ in found), default=1), max((nested for _, nested in found), default=1)
        case Repeat(part, least, most):
            inner, nested = _repeats(part)
            times = max(least, most or 1, 1)
            return inner * times, max(nested, inner * times if inner > 1 and times > 1 else 1)


def character(char: str, *, ignore_case: bool = False) -> Chars:
    """Exactly this character."""
    return _char(ord(char), ignore_case)


def write_pattern(pattern: Pattern, writing: Writing) -> str:
    """The expression in the syntax of the grammar engine, over plain or over JSON-escaped text."""
    match pattern:
        case Chars():
            return _write_chars(pattern) if writing == "raw" else _write_json_chars(pattern)
        case Concat(parts):
            return "".join(_grouped(part, writing, Choice) for part in parts)
        case Choice(options):
            return "|".join(write_pattern(option, writing) or "(?:)" for option in options)
        case Repeat(part, least, most):
            counts = f"{{{least},{'' if most is None else most}}}"
            return _grouped(part, writing, Choice, Concat, Repeat) + {"{0,}": "*", "{1,}": "+", "{0,1}": "?"}.get(
                counts, counts
            )


def _grouped(pattern: Pattern, writing: Writing, *kinds: type[Pattern]) -> str:
    text = write_pattern(pattern, writing)
    return f"(?:{text})" if isinstance(pattern, kinds) else text


def _write_chars(chars: Chars) -> str:
    return f"(?i:{chars.source})" if chars.ignore_case else chars.source


def _write_json_chars(chars: Chars) -> str:
    options: list[str] = []
    if chars.has_plain:
        source = f"[{chars.source}--{_NOT_ESCAPED}]" if chars.escaped else chars.source
        options.append(f"(?i:{source})" if chars.ignore_case else source)
    short = "".join(f"\\x{ord(_SHORT[code]):02x}" for code in sorted(chars.escaped & _SHORT.keys()))
    if short:
        options.append(rf"\x5c[{short}]")
    long = "|".join(f"{code:02x}" for code in sorted(chars.escaped - _SHORT.keys()))
    if long:
        options.append(rf"\x5cu00(?:{long})")
    return options[0] if len(options) == 1 and chars.has_plain else f"(?:{'|'.join(options)})"


def _char(code: int, ignore_case: bool) -> Chars:
    escaped = frozenset([code]) & ESCAPED
    return Chars(_code(code), escaped, has_plain=not escaped, ignore_case=ignore_case and chr(code).isalpha())


def _code(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise PatternError("the regular expression holds half a surrogate pair")
    return chr(code) if chr(code).isalnum() else f"\\x{{{code:x}}}"


class _Reader:
    """One expression, read from left to right."""

    def __init__(self, source: str, *, is_ecma: bool) -> None:
        self._source = source
        self._is_ecma = is_ecma
        self._at = 0
        self._ignore_case = False
        self._dot_all = False
        self._depth = 0

    def read(self, flags: str) -> Pattern:
        self._set_flags(flags)
        pattern = self._choice(is_top=True)
        if self._at < len(self._source):
            raise PatternError("the regular expression closes a group it did not open")
        return pattern

    # --- structure ---

    def _peek(self, text: str) -> bool:
        return self._source.startswith(text, self._at)

    def _take(self, text: str) -> bool:
        if not self._peek(text):
            return False
        self._at += len(text)
        return True

    def _next(self) -> str:
        if self._at >= len(self._source):
            raise PatternError("the regular expression ends too early")
        self._at += 1
        return self._source[self._at - 1]

    def _choice(self, *, is_top: bool) -> Pattern:
        options = [self._concat(is_top=is_top)]
        while self._take("|"):
            options.append(self._concat(is_top=is_top))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _concat(self, *, is_top: bool) -> Pattern:
        parts: list[Pattern] = []
        while is_top and (self._take("^") or self._take(r"\A")):
            pass
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            if self._anchor():
                if not is_top or (self._at < len(self._source) and self._source[self._at] != "|"):
                    raise PatternError("the regular expression has an anchor in its middle")
                continue
            parts.append(self._repeated(self._atom()))
        return parts[0] if len(parts) == 1 else Concat(tuple(parts))

    def _anchor(self) -> bool:
        return self._take("$") or self._take(r"\Z") or self._take(r"\z")

    def _repeated(self, pattern: Pattern) -> Pattern:
        for _ in range(MAX_DEPTH):
            counts = self._counts()
            if counts is None:
                return pattern
            if self._take("+"):
                raise PatternError("the regular expression has a possessive quantifier")
            self._take("?")  # lazy or greedy: the same language
            pattern = Repeat(pattern, *counts)
        raise PatternError(f"the regular expression repeats something in {MAX_DEPTH} ways", is_too_big=True)

    def _counts(self) -> "tuple[int, int | None] | None":
        for mark, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(mark):
                return counts
        found = _COUNTS.match(self._source, self._at)
        if found is None or not (found[1] or found[3]) or len(found[0]) > 16:
            return None
        self._at = found.end()
        least = int(found[1] or 0)
        most = least if not found[2] else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise PatternError("the regular expression repeats at most fewer times than at least")
        return least, most

    def _atom(self) -> Pattern:
        char = self._next()
        match char:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case ".":
                if self._dot_all:
                    return Chars(r"[\s\S]", ESCAPED)
                return Chars(r"[^\n]", ESCAPED - {0x0A})
            case "\\":
                return self._escape(in_class=False)
            case "*" | "+" | "?":
                raise PatternError("the regular expression repeats nothing")
            case "^":
                raise PatternError("the regular expression has an anchor in its middle")
            case _:
                return _char(ord(char), self._ignore_case)

    def _group(self) -> Pattern:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise PatternError(f"the regular expression nests more than {MAX_DEPTH} groups", is_too_big=True)
        before = self._ignore_case, self._dot_all
        if self._take("?"):
            if self._take("P<") or (
                self._peek("<") and not self._peek("<=") and not self._peek("<!") and self._take("<")
            ):
                while self._next() != ">":
                    pass
            elif not self._take(":") and self._group_flags():
                self._depth -= 1
                return Concat(())  # `(?i)`: from here to the end of the group around it
        pattern = self._choice(is_top=False)
        if not self._take(")"):
            raise PatternError("the regular expression leaves a group open")
        self._ignore_case, self._dot_all = before
        self._depth -= 1
        return pattern

    def _group_flags(self) -> bool:
        """`(?i)` or `(?i:`; True for the first."""
        flags = ""
        while (char := self._next()) not in ":)":
            flags += char
        self._set_flags(flags)
        return char == ")"

    def _set_flags(self, flags: str) -> None:
        on, _, off = flags.partition("-")
        if not set(on + off) <= set("ismu"):  # m is about anchors only, u is how text is read anyway
            raise PatternError("the regular expression has a group or a flag that is not supported")
        self._ignore_case = (self._ignore_case or "i" in on) and "i" not in off
        self._dot_all = (self._dot_all or "s" in on) and "s" not in off

    # --- single characters ---

    def _class(self) -> Chars:
        is_negated = self._take("^")
        source, escaped, has_plain = "", frozenset[int](), False
        is_first = True
        while is_first or not self._peek("]"):
            is_first = False
            if self._peek("[") or self._peek("&&") or self._peek("--") or self._peek("~~"):
                raise PatternError("the regular expression has a class inside a class")
            item = self._range()
            source += item.source
            escaped |= item.escaped
            has_plain = has_plain or item.has_plain
        self._at += 1
        if is_negated:
            escaped, has_plain = ESCAPED - escaped, True
        return Chars(f"[{'^' if is_negated else ''}{source}]", escaped, has_plain, self._ignore_case)

    def _range(self) -> Chars:
        first = self._class_char()
        if isinstance(first, Chars):
            return first
        if not self._peek("-") or self._peek("-]") or self._peek("--"):
            return _char(first, False)
        self._at += 1
        last = self._class_char()
        if isinstance(last, Chars) or last < first:
            raise PatternError("the regular expression has a range that is none")
        escaped = frozenset(code for code in ESCAPED if first <= code <= last)
        return Chars(f"{_code(first)}-{_code(last)}", escaped, has_plain=last - first + 1 > len(escaped))

    def _class_char(self) -> int | Chars:
        char = self._next()
        if char != "\\":
            return ord(char)
        item = self._escape(in_class=True)
        found = re.fullmatch(r"\\x\{([0-9a-f]+)\}", item.source)
        if found:
            return int(found[1], 16)
        return ord(item.source) if len(item.source) == 1 else item

    def _escape(self, *, in_class: bool) -> Chars:
        char = self._next()
        match char:
            case "d" | "w" | "D" | "W":
                shorthand = _ASCII_ONLY[char] if self._is_ecma else f"\\{char}"
                is_bare = in_class or not self._is_ecma
                return Chars(shorthand if is_bare else f"[{shorthand}]", frozenset() if char.islower() else ESCAPED)
            case "s":
                return Chars(r"\s", _WHITE_SPACE)
            case "S":
                return Chars(r"\S", ESCAPED - _WHITE_SPACE)
            case "p" | "P":
                return self._property(char)
            case "x" | "u" | "U":
                return _char(self._hex({"x": 2, "u": 4, "U": 8}[char]), self._ignore_case)
            case "b" if in_class:
                return _char(0x08, False)
            case _ if char in _CONTROL_ESCAPES:
                return _char(_CONTROL_ESCAPES[char], False)
            case _ if char.isalnum():
                raise PatternError(f"the regular expression has the escape '\\{char}', which is not supported")
            case _:
                return _char(ord(char), self._ignore_case)

    def _hex(self, digits: int) -> int:
        found = re.compile(rf"\{{([0-9A-Fa-f]{{1,8}})\}}|([0-9A-Fa-f]{{{digits}}})").match(self._source, self._at)
        code = int(found[1] or found[2], 16) if found else -1
        if found is None or not 0 <= code <= 0x10FFFF:
            raise PatternError("the regular expression has an escape that is no character")
        self._at = found.end()
        return code

    def _property(self, letter: str) -> Chars:
        found = _PROPERTY.match(self._source, self._at)
        if found is None:
            raise PatternError("the regular expression has a Unicode property that is not supported")
        self._at = found.end()
        inside = frozenset(code for code in ESCAPED if unicodedata.category(chr(code)).startswith(found[1]))
        is_negated = (letter == "P") != ("^" in found[0])
        return Chars(f"\\{'P' if is_negated else 'p'}{{{found[1]}}}", ESCAPED - inside if is_negated else inside)
