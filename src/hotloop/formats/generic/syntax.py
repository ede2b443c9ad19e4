"""How a template writes tool calls, learned from what it writes for calls that nobody made.

    <tool_call>\n{"name": "│shell│", "arguments": │{"a": 1}│}\n</tool_call>\n<tool_call>\n{"name": "│ls│…
    └────── first ──────┘ name └────── middle ────┘ JSON    └──────────── between ────────────────┘

Every syntax that writes name and then JSON arguments has this shape, whatever stands around them: Hermes' tags, arrays of
objects, `<function=NAME>{…}</function>`, `[TOOL_CALLS]NAME[ARGS]{…}`. A syntax that writes arguments as anything but JSON is
not recognised.
"""

import json
import re
from dataclasses import dataclass

NAMES = ("hlnameone", "hlnametwo")
IDS = ("hlidone00", "hlidtwo00")
ARGUMENTS = ({"hlkeyone": "hlvalueone"}, {"hlkeytwo": "hlvaluetwo"})

NEVER = -1
PARTLY = -2

_PUNCTUATION = "{}[]:,"
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_MARKER = re.compile(r"\S{1,64}")


class Literal:
    """Fixed text of a syntax. White space around JSON punctuation may differ; ids and numbers may be any."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _parts(text)

    def match(self, text: str) -> int:
        """Where the literal ends in `text`; PARTLY if `text` ends before it does; NEVER if it is another text."""
        at = 0
        for part in self._parts:
            if part == "\0":
                stop = at
                while stop < len(text) and text[stop] in _ID_CHARACTERS:
                    stop += 1
                if stop == len(text):
                    return PARTLY
                at = stop
            elif part == " ":
                while at < len(text) and text[at] in " \t\r\n":
                    at += 1
            elif text.startswith(part, at):
                at += len(part)
            else:
                return PARTLY if part.startswith(text[at:]) else NEVER
        return at

    def without_closers(self) -> "Literal":
        """What is left of it when the JSON before it was closed too early."""
        return Literal(self.text.lstrip("}] \n"))


def _parts(text: str) -> list[str]:
    """Pieces to match in turn: text, " " for any white space, "\\0" for an id or a number."""
    parts: list[str] = []
    for piece in re.split(r"(\s+|[{}\[\]:,]|\0)", text):
        if not piece:
            continue
        if piece.isspace():
            parts.append(" ")
        elif piece in _PUNCTUATION:
            parts += [" ", piece, " "]
        else:
            parts.append(piece)
    return [part for index, part in enumerate(parts) if part != " " or index == 0 or parts[index - 1] != " "]


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """See the module. `lead` is the white space that stands between a message's text and the first call.

    `trigger` begins a call; empty where calls are bare JSON, which only counts at the start of the output.
    """

    first: Literal
    middle: Literal
    between: Literal | None  # None: one call per message
    last: Literal
    lead: str
    trigger: str


def find_syntax(one: str, two: str | None, lead: str) -> CallSyntax | None:
    """The syntax of calls from the text of an assistant message with one call, and with two (None: refused).

    Both texts begin behind the generation prompt and end in front of the stop token.
    """
    spans = _spans(one, 0)
    if spans is None:
        return None
    name, arguments = spans
    if arguments[0] < name[1]:
        return None
    between: Literal | None = None
    if two is not None and (first := _spans(two, 0)) is not None and (second := _spans(two, 1)) is not None:
        between = Literal(_with_holes(two[first[1][1] : second[0][0]]))
    first_text = _with_holes(one[: name[0]])
    opening = first_text.lstrip()
    marker = _MARKER.match(opening.split("\0")[0])
    is_bare = marker is None or opening[0] in "{"
    return CallSyntax(
        Literal(opening),
        Literal(_with_holes(one[name[1] : arguments[0]])),
        between,
        Literal(_with_holes(one[arguments[1] :])),
        lead,
        "" if is_bare or marker is None else _trigger(marker.group()),
    )


def _trigger(word: str) -> str:
    """The part of the first word that tells a call from text: up to JSON, if a marker stands in front of it."""
    cut = re.search(r'[{"]|(?<=.)\[(?=\{)', word)
    return word[: cut.start()] if cut is not None and cut.start() > 0 else word


def _spans(text: str, index: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Where name and arguments of a probe call stand."""
    ((key, value),) = ARGUMENTS[index].items()
    found = re.search(rf'\{{\s*"{key}"\s*:\s*"{value}"\s*\}}', text)
    at = text.find(NAMES[index])
    if found is None or at < 0:
        return None
    return (at, at + len(NAMES[index])), found.span()


def _with_holes(text: str) -> str:
    """The text with ids and the numbers of calls made any."""
    for one in IDS:
        text = text.replace(one, "\0")
    return re.sub(r"\d+", "\0", text) if json.dumps("0") in text or '"1"' in text else text
