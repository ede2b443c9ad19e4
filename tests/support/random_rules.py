"""Random JSON schemas, Lark grammars and regular expressions, for whoever holds a model to them.

Drawn is what a client may well write. Most texts that fit are short, because a random model ends a text by chance; some
schemas and many grammars leave the length open, and a text of those may never end.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

T = TypeVar("T")
Schema = dict[str, Any]


def collect(draw: Callable[[random.Random], T], count: int) -> list[T]:
    """`count` different ones, the same in every run."""
    found: dict[str, T] = {}

    @settings(
        max_examples=10 * count,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.randoms(use_true_random=True))
    def fill(choose: random.Random) -> None:
        if len(found) < count:
            one = draw(choose)
            found.setdefault(json.dumps(one), one)

    fill()
    assert len(found) == count, f"only {len(found)} different ones"
    return list(found.values())


# --- schemas ---

_NAMES = ("a", "b c", 'd"', "\u00e9", "path", "\\", "$ref", "type")
_VALUES: tuple[Any, ...] = ("x", "\u00e9\n", "", 1, -25, None, True, {"k": [1]}, [], 'q"\\')
_PATTERNS = ("^[a-c]{1,4}$", "^(ab|cd)?$", '^[^\\\\"]{0,3}$', "^\\d{2}-[A-Z]$", "^x+$", "^(\\n|\\t){1,2}$", "^.{0,2}$")
_FORMATS = ("date", "time", "uuid", "ipv4", "email", "date-time")
_DEFINITIONS = ("n0", "n1")


def random_schema(choose: random.Random) -> Schema:
    """As a client asks for strict output: an object at the root, and definitions that may refer to themselves."""
    root = _object(choose, 3)
    if "#/$defs/" not in json.dumps(root):
        return root
    return {**root, "$defs": {name: _definition(choose) for name in _DEFINITIONS}}


def _definition(choose: random.Random) -> Schema:
    """What refers to a definition, perhaps to itself, stands beside what does not: every text can end."""
    schema = _schema(choose, 1)
    if "#/$defs/" not in json.dumps(schema):
        return schema
    inner = {"type": "object", "properties": {"v": schema}, "required": ["v"], "additionalProperties": False}
    return {"anyOf": [{"type": "null"}, {"const": "end"}, inner]}


def _schema(choose: random.Random, depth: int) -> Schema:
    if depth == 0 or choose.random() < 0.4:
        return _leaf(choose)
    return choose.choice([_object, _array, _any_of])(choose, depth - 1)


def _object(choose: random.Random, depth: int) -> Schema:
    names = choose.sample(_NAMES, choose.randint(0, 4))
    share = choose.choice([1.0, 1.0, 0.5])  # of properties that must be there
    return {
        "type": "object",
        "properties": {name: _schema(choose, depth) for name in names},
        "required": [name for name in names if choose.random() < share],
        "additionalProperties": False,
    }


def _array(choose: random.Random, depth: int) -> Schema:
    if choose.random() < 0.3:
        prefix = [_schema(choose, depth) for _ in range(choose.randint(1, 3))]
        return {"type": "array", "prefixItems": prefix, "items": False, "minItems": len(prefix)}
    least = choose.randint(0, 2)
    most = least + choose.randint(0, 2)
    return {"type": "array", "items": _schema(choose, depth), "minItems": least, "maxItems": most}


def _any_of(choose: random.Random, depth: int) -> Schema:
    return {"anyOf": [_schema(choose, depth) for _ in range(choose.randint(1, 3))]}


def _leaf(choose: random.Random) -> Schema:
    least, low = choose.randint(0, 3), choose.randint(-500, 500)
    leaves: list[Schema] = [
        {"type": "string", "minLength": least, "maxLength": least + choose.randint(0, 4)},
        {"type": "string", "maxLength": choose.randint(0, 6)},
        {"type": "string", "pattern": choose.choice(_PATTERNS)},
        {"type": "string", "format": choose.choice(_FORMATS)},
        {"type": "integer", "minimum": low, "maximum": low + choose.randint(0, 3000)},
        {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + choose.randint(2, 50)},
        {"type": "integer", "multipleOf": choose.randint(1, 12), "minimum": 0, "maximum": 900},
        {"type": "number", "minimum": low, "maximum": low + choose.randint(0, 9)},
        {"type": choose.choice(["boolean", "null", "integer", "number", "string"])},
        {"type": choose.choice([["boolean", "null"], ["integer", "null"], ["string", "number"]])},
        {"enum": choose.sample(_VALUES, choose.randint(1, 4))},
        {"const": choose.choice(_VALUES)},
        {"$ref": f"#/$defs/{choose.choice(_DEFINITIONS)}"},
    ]
    return choose.choice(leaves)


# --- Lark ---

_LITERALS = (
    "a",
    "xy",
    '"',
    "\\",
    "\n",
    "\t",
    "\u00e9",
    "{",
    "\x01",
    "/",
    " b",
    "if",
    ">=",
    "\U0001f600",
)
_CLASSES = ("[a-c]", "[^a-z\\n]", "[0-9]+", '[\\n\\t"]', ".", '[^"\\\\]{1,3}', "(?:ab|c)", "[A-Za-z_][a-z0-9]{0,4}")
_COMMON = ("INT", "LETTER", "DIGIT", "CNAME", "WORD", "SIGNED_INT", "ESCAPED_STRING", "HEXDIGIT", "LCASE_LETTER")
_SPACES = (None, None, None, "WS", "WS_INLINE")


def random_lark(choose: random.Random) -> str:
    """Rules, terminals, repetition, imports, recursion, what is ignored, and what only shapes Lark's tree."""
    terminals = [f"T{index}" for index in range(choose.randint(0, 2))]
    rules = ["start", *(f"r{index}" for index in range(choose.randint(0, 3)))]
    imports = choose.sample(_COMMON, choose.randint(0, 2))
    lines: list[str] = []
    for index, rule in enumerate(rules):
        # The first option leads to later rules only: every recursion has an end.
        options = [_sequence(choose, [*rules[index + 1 :], *terminals, *imports])]
        names = [*rules, *terminals, *imports] if choose.random() < 0.4 else [*rules[index + 1 :], *terminals, *imports]
        options += [_sequence(choose, names) for _ in range(choose.randint(0, 2))]
        alias = choose.choice(["", "", " -> said"])
        shape = choose.choice(["", "", "?", "!"]) if rule != "start" else ""
        lines.append(f"{shape}{rule}: " + "\n    | ".join(option + alias for option in options))
    for index, name in enumerate(terminals):
        priority = choose.choice(["", ".2"])
        lines.append(f"{name}{priority}: {_terminal(choose, terminals[index + 1 :])}  // a comment")
    spaces = choose.choice(_SPACES)
    lines += [f"%import common.{name}" for name in [*imports, *([spaces] if spaces else [])]]
    if spaces:
        lines.append(f"%ignore {spaces}")
    return "\n".join(lines)


def _symbol(choose: random.Random, names: Sequence[str]) -> str:
    if names and choose.random() < 0.6:
        return choose.choice(names)
    literal = json.dumps(choose.choice(_LITERALS), ensure_ascii=False).replace("\\u00", "\\x")
    return choose.choice([literal, literal, f"/{choose.choice(_CLASSES)}/", '"a".."f"', '"key"i'])


def _sequence(choose: random.Random, names: Sequence[str]) -> str:
    return " ".join(_repeated(choose, names) for _ in range(choose.randint(1, 3)))


def _repeated(choose: random.Random, names: Sequence[str]) -> str:
    one, other = _symbol(choose, names), _symbol(choose, names)
    forms = [f"[{one}]", f"({one} | {other})", f"({one} {other})~{choose.randint(0, 2)}..{choose.randint(2, 3)}"]
    forms += [one + choose.choice("?*+"), f"{one}~{choose.randint(1, 3)}"]
    return choose.choice(forms) if choose.random() < 0.4 else one


def _terminal(choose: random.Random, names: Sequence[str]) -> str:
    """Never empty: Lark's own parser has no empty terminals."""
    options: list[str] = []
    for _ in range(choose.randint(1, 2)):
        first, *others = (_symbol(choose, names) for _ in range(choose.randint(1, 3)))
        options.append(" ".join([first, *(other + choose.choice(["", "?"]) for other in others)]))
    return " | ".join(options)


# --- regular expressions ---


def random_regex(choose: random.Random, depth: int = 3) -> str:
    """One that Python's `re` reads too."""
    if depth == 0 or choose.random() < 0.3:
        if choose.random() < 0.5:
            return re.escape(choose.choice(_LITERALS))
        return choose.choice([*_CLASSES, "[\\s\\\\]", "(?i:k)", "[^\\x00-\\x1f]"])
    parts = [random_regex(choose, depth - 1) for _ in range(choose.randint(1, 3))]
    least = choose.randint(0, 2)
    most = max(1, least + choose.randint(0, 2))
    forms = ["".join(parts), f"(?:{'|'.join(parts)})"]
    forms += [f"(?:{parts[0]}){{{least},{most}}}", f"(?:{parts[0]}){choose.choice('?*+')}"]
    return choose.choice(forms)
