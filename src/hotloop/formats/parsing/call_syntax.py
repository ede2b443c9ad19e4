"""How a family spells calls: what the parser reads between the markers of a call."""

from typing import Protocol

from hotloop.formats.parsing.argument_types import ArgumentTypes

CALL = "<tool_call>"
CALL_END = "</tool_call>"


class ArgumentsReader(Protocol):
    """Reads one call while it is being written. After each `feed`, `name` and `take_arguments` say what is known.

    `is_broken`: what follows fits no call; nothing is read from there on. `rest` is what was fed but not read.
    """

    name: str | None
    is_broken: bool
    is_over: bool  # the call is whole
    rest: str

    @property
    def has_arguments(self) -> bool:
        """Something was said about arguments."""
        ...

    @property
    def arguments_are_whole(self) -> bool:
        """The arguments have been read to their end."""
        ...

    def awaits(self, rest: str) -> bool:
        """`rest` may be the beginning of what this call goes on with."""
        ...

    def feed(self, text: str) -> None:
        """Read on. Stops early where a call's end marker may begin, or at what does not fit."""
        ...

    def feed_mark(self, held: str, mark: str) -> None:
        """Read a marker that was one control token, behind `held` that was not read yet."""
        ...

    def take_arguments(self) -> str:
        """JSON text of arguments read since the last call of this."""
        ...

    def force_arguments(self, text: str) -> None:
        """Count `text` as arguments as it stands; nothing more is read."""
        ...

    def end(self, held: str, *, ended: bool) -> str:
        """No more of the call comes; `held` was not read yet. Returns what of it fits no call.

        `ended` is False if the output was cut off, and not the call ended.
        """
        ...


class CallSyntax(Protocol):
    """What differs between families that mark calls with `<tool_call>` and `</tool_call>`."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Markers inside a call that a vocabulary may have as control tokens."""
        ...

    @property
    def is_loose(self) -> bool:
        """Almost any text behind the opening marker makes a call."""
        ...

    def reader(self, types: ArgumentTypes, marks: frozenset[str]) -> ArgumentsReader:
        """A reader for one call; `marks` are those that the vocabulary does have."""
        ...
