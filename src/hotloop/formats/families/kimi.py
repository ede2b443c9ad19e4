"""Kimi K2: Instruct, as first published and since, and Thinking.

    <|im_system|>tool_declare<|im_middle|>[…]<|im_end|>
    <|im_system|>system<|im_middle|>…<|im_end|>
    <|im_user|>user<|im_middle|>…<|im_end|>
    <|im_assistant|>assistant<|im_middle|> <think>…</think> text
        <|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:N<|tool_call_argument_begin|>{…}<|tool_call_end|> …
        <|tool_calls_section_end|><|im_end|>
    <|im_system|>tool<|im_middle|>## Return of functions.NAME:N⏎…<|im_end|>

A call's id is its name and its number in the conversation; the first template numbers anew in every answer. Outputs are
matched to calls by their order. Thinking leaves reasoning out of all that stands before and in an answer without calls: before
the last one, or, in the template that finds the first one, before that and never again.

Where it differs from the published templates, on purpose:

* The output of a tool names the call as the model wrote it, even if the model counted wrong, or if the first template would
  show the client's id.
* Thinking keeps reasoning until a question follows the answer, where the template drops it at once.
* Without instructions the default system message also stands before a developer message that comes first, and before nothing.
* The message of a tool's output is headed `tool`: where a client of the chat API names the tool, the template heads it so.
* Developer messages, and item types that are carried but not interpreted (as their JSON), are system messages.
* Arguments stand as the model wrote them.
* The spelling of a control token inside any content stays text.
* Two answers with no input between them stay two messages in the chain.

No vocabulary of the family can be had for tests: it is proven on text and control tokens.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from hotloop.formats.bases.answer import THINK, THINK_END
from hotloop.formats.bases.answers.dialect import After, Forgets, MarkIds, Role, Tail
from hotloop.formats.bases.answers.grammar import Opening, row_of_calls, section_calls
from hotloop.formats.bases.answers.parser import CallsReader
from hotloop.formats.bases.answers.section_calls import CallMarks, SectionCalls
from hotloop.formats.grammar.answer import answer_constraint
from hotloop.formats.grammar.parts import literal, mark, think_block
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools, tool_object
from hotloop.protocol.items import CustomToolCall, FunctionCall, Item, Message
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

IM_END = "<|im_end|>"
MIDDLE = "<|im_middle|>"
ASSISTANT = "<|im_assistant|>"
HEADS = {"user": "<|im_user|>", "system": "<|im_system|>"}
CALLS = CallMarks(
    section="<|tool_calls_section_begin|>",
    section_end="<|tool_calls_section_end|>",
    call="<|tool_call_begin|>",
    separator="<|tool_call_argument_begin|>",
    call_end="<|tool_call_end|>",
)
_CALL_ID = re.compile(r"(?:functions\.)?(.*?)(?::\d+)?", re.DOTALL)
_NUMBERED_ID = re.compile(r"functions\..+:(\d{1,6})", re.DOTALL)
_NUMBER = "/[0-9]{1,6}/"


@dataclass(frozen=True, slots=True)
class KimiK2:
    """Implements `bases.answers.dialect.Dialect`.

    Args:
        name: of the family.
        default_system: what the system message says without instructions.
        after_default: what stands behind a default system message.
        numbers_answers: calls are numbered anew in every answer.
        line_end: behind the line that names a tool's output.
        reasons: the model thinks in think blocks.
        leaves_out: when reasoning is left out.
    """

    name: str = "kimi-k2"
    default_system: str = "You are Kimi, an AI assistant created by Moonshot AI."
    after_default: str = ""
    numbers_answers: bool = False
    line_end: str = "\n"
    reasons: bool = False
    leaves_out: Forgets = "never"
    required: tuple[str, ...] = (IM_END, *HEADS.values(), ASSISTANT, MIDDLE)
    stops: tuple[str, ...] = ("[EOS]",)
    header_marks: tuple[str, str] = (CALLS.call, CALLS.separator)
    opens_think: bool = False
    think_lines: bool = False
    separator: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        return (THINK, THINK_END, *CALLS.all) if self.reasons else CALLS.all

    def forgets(self, context: PromptContext) -> Forgets:
        return self.leaves_out

    def is_question(self, item: Item) -> bool:
        return isinstance(item, Message) and item.role == "user"

    def thinks(self, context: PromptContext) -> bool:
        return self.reasons

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        tools = [tool_object(tool) for tool in shown_tools(context.tools)]
        if tools:
            self._write(writer, HEADS["system"], "tool_declare", json.dumps(tools, ensure_ascii=False))
        self._write(writer, HEADS["system"], "system", context.instructions or self.default_system)
        if not context.instructions:
            writer.text(self.after_default)

    def write_message(self, writer: TokenWriter, tail: Tail, role: Role, text: str) -> None:
        self._write(writer, HEADS[role], role, text)

    def write_head(self, writer: TokenWriter, tail: Tail, reasoning: str, *, thinks: bool, shown: bool) -> None:
        self._open(writer)
        if thinks:
            self.write_thought(writer, reasoning if shown else "")

    def write_call(self, writer: TokenWriter, tail: Tail, name: str, arguments: str, *, is_first: bool) -> Tail:
        if is_first:
            writer.mark(CALLS.section)
            tail = self._numbered(tail)
        call_id = f"functions.{name}:{tail.calls}"
        writer.mark(CALLS.call)
        writer.text(call_id)
        writer.mark(CALLS.separator)
        writer.text(arguments)
        writer.mark(CALLS.call_end)
        return replace(tail, calls=tail.calls + 1, waiting=(*tail.waiting, call_id))

    def write_calls_end(self, writer: TokenWriter) -> None:
        writer.mark(CALLS.section_end)

    def write_end(self, writer: TokenWriter) -> None:
        writer.mark(IM_END)

    def write_output(self, writer: TokenWriter, tail: Tail, text: str) -> Tail:
        call_id = tail.waiting[0] if tail.waiting else f"functions.unknown:{tail.calls}"
        self._write(writer, HEADS["system"], "tool", f"## Return of {call_id}{self.line_end}{text}")
        return replace(tail, waiting=tail.waiting[1:])

    def write_outputs_end(self, writer: TokenWriter) -> None:
        return None

    def write_prompt(self, writer: TokenWriter, after: After, *, thinks: bool) -> None:
        self._open(writer)

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        writer.mark(THINK)
        writer.text(reasoning)
        writer.mark(THINK_END)

    def write_thought_end(self, writer: TokenWriter) -> None:
        writer.mark(THINK_END)

    def encoding_tail(self, items: Sequence[Item]) -> Tail:
        for item in items:
            if isinstance(item, FunctionCall | CustomToolCall):
                number = _NUMBERED_ID.fullmatch(item.call_id)
                return Tail(calls=int(number.group(1)) if number is not None else 0)
        return Tail()

    def sampled_calls(self, tail: Tail, names: Sequence[str], headers: Sequence[str]) -> Tail:
        tail = self._numbered(tail)
        call_ids = [header.strip() for header in headers]
        if len(call_ids) != len(names):
            call_ids = [f"functions.{name}:{tail.calls + index}" for index, name in enumerate(names)]
        return replace(tail, calls=tail.calls + len(names), waiting=(*tail.waiting, *call_ids))

    def calls_reader(self, stream: ItemStream) -> CallsReader:
        return SectionCalls(stream, CALLS, _tool_name, fenced=False)

    def constraint(self, ids: MarkIds, context: PromptContext, rules: CallRules) -> Constraint | None:
        calls = section_calls(ids, CALLS, _frame)
        think = think_block(mark(ids(THINK), THINK), ids(THINK_END), THINK_END) if self.reasons else None
        opening = Opening(ids(CALLS.section), CALLS.section)
        return answer_constraint(context, rules, row_of_calls(opening, calls), think=think, must_think=False)

    def _numbered(self, tail: Tail) -> Tail:
        return replace(tail, calls=0, waiting=()) if self.numbers_answers else tail

    def _open(self, writer: TokenWriter) -> None:
        writer.mark(ASSISTANT)
        writer.text("assistant")
        writer.mark(MIDDLE)

    def _write(self, writer: TokenWriter, head: str, name: str, text: str) -> None:
        writer.mark(head)
        writer.text(name)
        writer.mark(MIDDLE)
        writer.text(text)
        writer.mark(IM_END)


def _tool_name(header: str) -> str:
    """`functions.NAME:N`, with less strict models without one or the other."""
    found = _CALL_ID.fullmatch(header.strip())
    assert found is not None, "the pattern matches any text"
    return found.group(1)


def _frame(name: str) -> tuple[str, str, str]:
    return f"{literal(f'functions.{name}:')} {_NUMBER}", "", ""


INSTRUCT = KimiK2(after_default="\n")
# With the template it was first published with, which spells the line end as a backslash and an n.
INSTRUCT_FIRST = KimiK2("kimi-k2-first", "You are a helpful assistant", numbers_answers=True, line_end="\\n")
THINKING = KimiK2("kimi-k2-thinking", reasons=True, leaves_out="at_answers")
THINKING_ONCE = KimiK2("kimi-k2-thinking-once", reasons=True, leaves_out="at_first_answer")
