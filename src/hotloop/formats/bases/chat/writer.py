"""Writes items as the messages of a dialect."""

from typing import Literal, assert_never

from hotloop.formats.bases.answer import Phase, joins
from hotloop.formats.bases.chat.dialect import Dialect, answer_text, reasoning_text
from hotloop.formats.writing.item_text import call_arguments
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    Reasoning,
    opaque_text,
    text_of,
)


class MessageWriter:
    """One stretch of messages.

    Args:
        dialect: how everything is spelled.
        writer: where the text goes.
        phase: what the message that is still open holds; "" to start with a new one.
        off: thinking is switched off.
    """

    def __init__(self, dialect: Dialect, writer: TokenWriter, phase: Phase, *, off: bool) -> None:
        self.phase: Phase = phase
        self.wrote_rewritten = False  # something that a later question makes the template write otherwise
        self._dialect = dialect
        self._writer = writer
        self._off = off
        self._behind_block = phase == "thought"

    def write(self, item: Item, *, shows_reasoning: bool) -> None:
        """Write one item, starting a new message where it does not join the open one."""
        if not joins(self.phase, item):
            self.end()
        match item:
            case Message(role="assistant"):
                if self.phase == "":
                    self._open_assistant("", shows_reasoning)
                text = answer_text(item, strips=self._dialect.strips)
                self._dialect.write_text(self._writer, text, behind_block=self._behind_block)
                self.phase = "text"
            case Message():
                self._message("user" if item.role == "user" else "system", text_of(item.content))
            case Reasoning():
                self._open_assistant(reasoning_text(item, strips=self._dialect.strips), shows_reasoning)
                self.phase = "thought"
            case FunctionCall() | CustomToolCall():
                self._call(item.name, call_arguments(item), shows_reasoning)
            case FunctionCallOutput() | CustomToolCallOutput():
                self._dialect.write_output(self._writer, text_of(item.output), self.phase)
                self.phase = "outputs"
            case OpaqueItem():
                self._message("system", opaque_text(item))
            case ItemReference():
                raise AssertionError("references are resolved before rendering")
            case _:
                assert_never(item)

    def end(self) -> None:
        """Close the open message, if there is one; a checkpoint."""
        if self.phase:
            self._dialect.write_end(self._writer)
            self._writer.checkpoint()
            self.phase = ""

    def _message(self, role: Literal["user", "system"], text: str) -> None:
        self._dialect.write_message(self._writer, role, text, off=self._off)
        self._dialect.write_end(self._writer)
        self._writer.checkpoint()

    def _open_assistant(self, reasoning: str, shown: bool) -> None:
        self._behind_block = self._dialect.write_assistant(self._writer, reasoning, shown=shown, off=self._off)
        if shown and self._dialect.is_rewritten(off=self._off, thought=bool(reasoning)):
            self.wrote_rewritten = True

    def _call(self, name: str, arguments: str, shows_reasoning: bool) -> None:
        if self.phase == "":
            self._open_assistant("", shows_reasoning)
        self._dialect.write_call(self._writer, name, arguments, self.phase)
        self.phase = "calls"
