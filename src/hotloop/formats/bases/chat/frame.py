"""What stands around texts that a message holds as they are: worked out once, so that each text is one run to tokenize."""

from array import array
from collections.abc import Callable, Sequence

import msgspec

from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.seams.tokenizer import Tokenizer

_TEXT = "\uffff text \uffff"
_PLACE = 2**32 - 1  # stands for a run with a text; no vocabulary has as many tokens


class Joint(msgspec.Struct, frozen=True):
    """What stands between two texts of one message: the end of a run, tokens, the start of a run; without tokens, one run."""

    behind: str
    tokens: "array[int]"
    before: str


class Frame(msgspec.Struct, frozen=True):
    """Tokens of a message in front of the run that holds its text, the run around the text, tokens behind it.

    With a `joint` the message may hold several texts.
    """

    head: "array[int]"
    before: str
    behind: str
    tail: "array[int]"
    joint: Joint | None = None


def written_in_frames(
    messages: Sequence[tuple[Frame, Sequence[str]]], length: int, encode: "Callable[[str], array[int]]"
) -> "tuple[array[int], tuple[int, ...]]":
    """The messages, each the texts in one frame, behind `length` tokens; and the lengths at which they end."""
    tokens = array("I")
    ends: tuple[int, ...] = ()
    for frame, texts in messages:
        tokens += frame.head
        run = frame.before + texts[0]
        joint = frame.joint
        if joint is not None and len(texts) > 1:
            for text in texts[1:]:
                run += joint.behind
                if joint.tokens:
                    tokens += encode(run)
                    tokens += joint.tokens
                    run = joint.before
                run += text
        tokens += encode(run + frame.behind)
        tokens += frame.tail
        ends += (length + len(tokens),)
    return tokens, ends


def frame_of(tokenizer: Tokenizer, write: Callable[[TokenWriter, Sequence[str]], None], *, joins: bool) -> Frame:
    """The frame of what `write` writes around texts: each once, as it is. `joins`: a message holds any number of them."""
    tokens, ((before, behind),) = _probed(tokenizer, write, 1)
    at = tokens.index(_PLACE)
    frame = Frame(tokens[:at], before, behind, tokens[at + 1 :])
    if not joins:
        return frame
    tokens, runs = _probed(tokenizer, write, 2)
    match runs:
        case [(_, between, _)]:
            joint = Joint(between, array("I"), "")
        case [(_, end), (start, _)]:
            first = tokens.index(_PLACE)
            joint = Joint(end, tokens[first + 1 : tokens.index(_PLACE, first + 1)], start)
        case _:
            raise AssertionError("two texts are in one run or in two")
    return msgspec.structs.replace(frame, joint=joint)


def _probed(
    tokenizer: Tokenizer, write: Callable[[TokenWriter, Sequence[str]], None], texts: int
) -> tuple["array[int]", list[list[str]]]:
    """What is written around so many texts: tokens with places for the runs that hold them, and those runs without them."""
    probe = _Probe(tokenizer)
    writer = TokenWriter(probe)
    write(writer, [_TEXT] * texts)
    return writer.tokens(), probe.runs


class _Probe:
    """A tokenizer that leaves a place open for each run that holds a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocabulary_size = tokenizer.vocabulary_size
        self.runs: list[list[str]] = []  # what stands around the texts of each

    def encode(self, text: str) -> "array[int]":
        """See `Tokenizer.encode`."""
        if _TEXT not in text:
            return self._tokenizer.encode(text)
        self.runs.append(text.split(_TEXT))
        return array("I", [_PLACE])

    def special(self, text: str) -> int | None:
        """See `Tokenizer.special`."""
        return self._tokenizer.special(text)

    def piece(self, token: int) -> bytes:
        """See `Tokenizer.piece`."""
        return self._tokenizer.piece(token)
