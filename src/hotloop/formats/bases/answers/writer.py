"""Writes items as the messages of a dialect."""

from typing import assert_never

from msgspec.structs import replace

from hotloop.formats.bases.answer import Phase, joins
from hotloop.formats.bases.answers.dialect import Dialect, Role, Tail, reasoning_text
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


class AnswerWriter:
    """One stretch of messages.

    Args:
        dialect: how everything is spelled.
        writer: where the text goes.
        tail: what stands in front; with a `phase`, that message is open again.
        thinks: the model reasons.
    """

    def __init__(self, dialect: Dialect, writer: TokenWriter, tail: Tail, *, thinks: bool) -> None:
        self.tail = tail
        self.wrote_think = False
        self._dialect = dialect
        self._writer = writer
        self._thinks = thinks

    def write(self, item: Item, *, shown: bool) -> None:
        """Write one item, starting a new message where it does not join the open one. `shown`: with its reasoning."""
        if not joins(self.tail.phase, item):
            self.end()
        match item:
            case FunctionCallOutput() | CustomToolCallOutput():
                self.tail = self._dialect.write_output(self._writer, self.tail, text_of(item.output))
                self._phase("outputs")
            case Message(role="assistant"):
                self._head("", shown)
                self._writer.text(text_of(item.content))
                self._phase("text")
            case Message():
                self._message("user" if item.role == "user" else "system", text_of(item.content))
            case Reasoning():
                self._head(reasoning_text(item, lines=self._dialect.think_lines), shown)
                self._phase("thought")
            case FunctionCall() | CustomToolCall():
                self._call(item.name, call_arguments(item), shown)
            case OpaqueItem():
                self._message("system", opaque_text(item))
            case ItemReference():
                raise AssertionError("references are resolved before rendering")
            case _:
                assert_never(item)

    def end(self) -> None:
        """Close the open message, if there is one; a checkpoint."""
        phase = self.tail.phase
        if phase and not self.tail.closing:
            before = len(self._writer.tokens())
            if phase == "outputs":
                self._dialect.write_outputs_end(self._writer)
            else:
                if phase == "calls":
                    self._dialect.write_calls_end(self._writer)
                self._dialect.write_end(self._writer)
            closing = len(self._writer.tokens()) - before
            self.tail = replace(
                self.tail,
                phase=phase if closing else "",
                closing=closing,
                after="outputs" if phase == "outputs" else "answer",
            )
            self._writer.checkpoint()

    def _phase(self, phase: Phase) -> None:
        self.tail = replace(self.tail, phase=phase, closing=0)

    def _message(self, role: Role, text: str) -> None:
        self._dialect.write_message(self._writer, self.tail, role, text)
        self.tail = replace(self.tail, phase="", closing=0, after="question")
        self._writer.checkpoint()

    def _head(self, reasoning: str, shown: bool) -> None:
        if not self._is_open():
            self._dialect.write_head(self._writer, self.tail, reasoning, thinks=self._thinks, shown=shown)
            thought = shown and self._thinks and (bool(reasoning) or self._dialect.opens_think)
            self.wrote_think = self.wrote_think or thought

    def _is_open(self) -> bool:
        return self.tail.phase in ("thought", "text", "calls") and not self.tail.closing

    def _call(self, name: str, arguments: str, shown: bool) -> None:
        self._head("", shown)
        is_first = not (self.tail.phase == "calls" and self._is_open())
        self.tail = self._dialect.write_call(self._writer, self.tail, name, arguments, is_first=is_first)
        self._phase("calls")
