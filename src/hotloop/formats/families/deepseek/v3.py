"""DeepSeek R1 (and V3 with its template), V3.1 and V3.2.

    R1    <｜User｜>…<eos><｜Assistant｜><think>⏎…⏎</think>⏎⏎ text ▁calls▁ <eos> ▁outputs▁ <eos> <｜Assistant｜>…
    V3.1  <｜User｜>…<｜Assistant｜><think>…</think> text ▁calls▁ <eos> ▁output▁ text <eos>
    V3.2  <｜User｜>…<｜Assistant｜><think>…</think> text DSML calls <eos> results ⏎⏎<think>…</think> text <eos>

R1 always reasons. V3.1 and V3.2 reason if the request asks for it; V3.1 only where no tools are offered, as its model card
says. Where it differs from the published templates, on purpose:

* Reasoning stays until the next question, where R1's and V3.1's templates drop it at once. Until then R1 shows an empty
  think block for an answer without reasoning, since its generation prompt has opened one.
* An answer may hold text and calls; R1's template would lose the calls.
* V3.1's tools are described in the system prompt the way its model card does; the template leaves them out.
* V3.1, reasoning, reads a tool's output behind an opened think block; the template writes nothing there.
* V3.2 without reasoning begins an answer with `</think>`, as its template writes every earlier answer: the template's own
  generation prompt `<think></think>` would be rewritten at the next question.
* V3.2's line ends between tool results and the answer are tokens of their own, since the results were there first; the text
  is the same.
* V3.1 and V3.2 begin an answer with `<｜Assistant｜>` also where there is no question before it.
* Developer messages, and item types that are carried but not interpreted (as their JSON), are questions: the family has no
  place for a system message behind the first.
* Arguments stand as the model wrote them (R1, V3.1). In V3.2, arguments that are no JSON object are one parameter of the name
  `arguments`.
* The spelling of a control token inside any content stays text.
* Two answers with no input between them stay two messages in the chain.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from hotloop.formats.bases.answer import THINK, THINK_END
from hotloop.formats.bases.answers.dialect import After, MarkIds, Role, Tail
from hotloop.formats.bases.answers.grammar import Opening, row_of_calls, section_calls
from hotloop.formats.bases.answers.parser import CallsReader
from hotloop.formats.bases.answers.section_calls import SectionCalls
from hotloop.formats.families.deepseek.dialect import DeepSeekDialect, write_dsml_tools
from hotloop.formats.families.deepseek.dsml import (
    DSML,
    DsmlCalls,
    dsml_marks,
    section,
    section_end,
    write_invoke,
    write_tag,
)
from hotloop.formats.families.deepseek.dsml_grammar import dsml_calls, dsml_opening
from hotloop.formats.families.deepseek.text import (
    ASSISTANT,
    BOS,
    CALLS,
    EOS,
    OUTPUT,
    OUTPUT_END,
    OUTPUTS,
    OUTPUTS_END,
    TEMPLATE_MARKS,
    TOOLS_R1_HEAD,
    TOOLS_R1_TAIL,
    TOOLS_V31_HEAD,
    TOOLS_V31_TAIL,
    TOOLS_V32_HEAD,
    TOOLS_V32_TAIL,
    USER,
    function_object,
    tools_v31,
)
from hotloop.formats.grammar.answer import answer_constraint
from hotloop.formats.grammar.parts import literal, think_block
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

_THINK_MARKS = (THINK, THINK_END)


@dataclass(frozen=True, slots=True)
class DeepSeekR1(DeepSeekDialect):
    """Implements `bases.answers.dialect.Dialect`."""

    name: str = "deepseek-r1"
    required: tuple[str, ...] = (EOS, BOS, USER, ASSISTANT)
    stops: tuple[str, ...] = ()
    marks: tuple[str, ...] = (*_THINK_MARKS, *CALLS.all)
    header_marks: tuple[str, str] = (CALLS.separator, CALLS.call_end)
    opens_think: bool = True
    think_lines: bool = True
    separator: str = ""

    def thinks(self, context: PromptContext) -> bool:
        return True

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        writer.mark(BOS)
        tools = [function_object(tool) for tool in shown_tools(context.tools)]
        if tools:
            writer.text(TOOLS_R1_HEAD + json.dumps(tools, ensure_ascii=False, indent=2))
            writer.template(TOOLS_R1_TAIL, TEMPLATE_MARKS)
        writer.text(context.instructions or "")

    def write_message(self, writer: TokenWriter, tail: Tail, role: Role, text: str) -> None:
        writer.mark(USER)
        writer.text(text)
        writer.mark(EOS)

    def write_head(self, writer: TokenWriter, tail: Tail, reasoning: str, *, thinks: bool, shown: bool) -> None:
        writer.mark(ASSISTANT)
        if shown:
            self._open_think(writer)
            self.write_thought(writer, reasoning)

    def write_call(self, writer: TokenWriter, tail: Tail, name: str, arguments: str, *, is_first: bool) -> Tail:
        if is_first:
            writer.mark(CALLS.section)
        else:
            writer.text("\n")
        writer.mark(CALLS.call)
        writer.text("function")
        writer.mark(CALLS.separator)
        writer.text(f"{name}\n```json\n{arguments}\n```")
        writer.mark(CALLS.call_end)
        return tail

    def write_calls_end(self, writer: TokenWriter) -> None:
        writer.mark(CALLS.section_end)

    def write_output(self, writer: TokenWriter, tail: Tail, text: str) -> Tail:
        if not tail.outputs_begun:  # the template opens outputs once in a conversation
            writer.mark(OUTPUTS)
        writer.text("\n")
        _write_output(writer, text)
        return replace(tail, outputs_begun=True)

    def write_outputs_end(self, writer: TokenWriter) -> None:
        writer.mark(OUTPUTS_END)
        writer.mark(EOS)

    def write_prompt(self, writer: TokenWriter, after: After, *, thinks: bool) -> None:
        writer.mark(ASSISTANT)
        self._open_think(writer)

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        writer.text(f"{reasoning}\n" if reasoning else "")
        writer.mark(THINK_END)
        writer.text("\n\n")

    def write_thought_end(self, writer: TokenWriter) -> None:
        writer.text("\n")
        writer.mark(THINK_END)
        writer.text("\n\n")

    def calls_reader(self, stream: ItemStream) -> CallsReader:
        return SectionCalls(stream, CALLS, str.strip, fenced=True)

    def constraint(self, ids: MarkIds, context: PromptContext, rules: CallRules) -> Constraint | None:
        calls = section_calls(ids, CALLS, _r1_frame, between="\n")
        think = think_block("", ids(THINK_END), THINK_END, "\n\n")
        return answer_constraint(context, rules, row_of_calls(_opening(ids), calls), think=think, must_think=True)

    def _open_think(self, writer: TokenWriter) -> None:
        writer.mark(THINK)
        writer.text("\n")


@dataclass(frozen=True, slots=True)
class DeepSeekV31(DeepSeekDialect):
    """Implements `bases.answers.dialect.Dialect`."""

    name: str = "deepseek-v3.1"
    required: tuple[str, ...] = (EOS, BOS, USER, ASSISTANT)
    stops: tuple[str, ...] = ()
    marks: tuple[str, ...] = (*_THINK_MARKS, *CALLS.all)
    header_marks: tuple[str, str] = (CALLS.call, CALLS.separator)
    opens_think: bool = True
    think_lines: bool = False
    separator: str = ""

    def thinks(self, context: PromptContext) -> bool:
        return DeepSeekDialect.thinks(self, context) and not shown_tools(context.tools)

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        writer.mark(BOS)
        writer.text(context.instructions or "")
        if shown_tools(context.tools):
            writer.text(("\n\n" if context.instructions else "") + TOOLS_V31_HEAD + tools_v31(context))
            writer.template(TOOLS_V31_TAIL, TEMPLATE_MARKS)

    def write_message(self, writer: TokenWriter, tail: Tail, role: Role, text: str) -> None:
        writer.mark(USER)
        writer.text(text)

    def write_head(self, writer: TokenWriter, tail: Tail, reasoning: str, *, thinks: bool, shown: bool) -> None:
        if tail.after in ("start", "question"):
            writer.mark(ASSISTANT)
        elif not (thinks and shown and (reasoning or tail.after == "outputs")):
            return
        writer.mark(THINK)
        self.write_thought(writer, reasoning if shown else "")

    def write_call(self, writer: TokenWriter, tail: Tail, name: str, arguments: str, *, is_first: bool) -> Tail:
        if is_first:
            writer.mark(CALLS.section)
        writer.mark(CALLS.call)
        writer.text(name)
        writer.mark(CALLS.separator)
        writer.text(arguments)
        writer.mark(CALLS.call_end)
        return tail

    def write_calls_end(self, writer: TokenWriter) -> None:
        writer.mark(CALLS.section_end)

    def write_output(self, writer: TokenWriter, tail: Tail, text: str) -> Tail:
        _write_output(writer, text)
        return tail

    def write_prompt(self, writer: TokenWriter, after: After, *, thinks: bool) -> None:
        if after != "outputs":
            writer.mark(ASSISTANT)
        elif not thinks:
            return
        writer.mark(THINK)
        if not thinks:
            writer.mark(THINK_END)

    def calls_reader(self, stream: ItemStream) -> CallsReader:
        return SectionCalls(stream, CALLS, str.strip, fenced=False)

    def constraint(self, ids: MarkIds, context: PromptContext, rules: CallRules) -> Constraint | None:
        calls = section_calls(ids, CALLS, _v31_frame)
        think = self.think_block(ids, context)
        return answer_constraint(context, rules, row_of_calls(_opening(ids), calls), think=think, must_think=True)


@dataclass(frozen=True, slots=True)
class DeepSeekV32(DeepSeekDialect):
    """Implements `bases.answers.dialect.Dialect`."""

    name: str = "deepseek-v3.2"
    required: tuple[str, ...] = (EOS, BOS, USER, ASSISTANT)
    stops: tuple[str, ...] = ()
    marks: tuple[str, ...] = (*_THINK_MARKS, *dsml_marks("function_calls"))
    header_marks: tuple[str, str] = ("", "")
    opens_think: bool = True
    think_lines: bool = False
    separator: str = "\n\n"

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        writer.mark(BOS)
        writer.text(context.instructions or "")
        write_dsml_tools(writer, context, TOOLS_V32_HEAD, TOOLS_V32_TAIL)

    def write_message(self, writer: TokenWriter, tail: Tail, role: Role, text: str) -> None:
        writer.mark(USER)
        writer.text(text)

    def write_head(self, writer: TokenWriter, tail: Tail, reasoning: str, *, thinks: bool, shown: bool) -> None:
        if tail.after == "answer":
            return
        self._open(writer, tail.after)
        if thinks and shown:
            writer.mark(THINK)
            writer.text(reasoning)
        writer.mark(THINK_END)

    def write_call(self, writer: TokenWriter, tail: Tail, name: str, arguments: str, *, is_first: bool) -> Tail:
        if is_first:
            writer.text("\n\n")
            write_tag(writer, section("function_calls"))
            writer.text("\n")
            tail = replace(tail, waiting=(), outputs_begun=False)
        write_invoke(writer, name, arguments)
        return replace(tail, waiting=(*tail.waiting, name))

    def write_calls_end(self, writer: TokenWriter) -> None:
        write_tag(writer, section_end("function_calls"))

    def write_output(self, writer: TokenWriter, tail: Tail, text: str) -> Tail:
        if not tail.outputs_begun:
            writer.text("\n\n<function_results>")
        writer.text(f"\n<result>{text}</result>")
        waiting = tail.waiting[1:]
        if not waiting:  # the template counts: as many results as there were calls
            writer.text("\n</function_results>")
        return replace(tail, waiting=waiting, outputs_begun=bool(waiting))

    def write_prompt(self, writer: TokenWriter, after: After, *, thinks: bool) -> None:
        self._open(writer, after)
        writer.mark(THINK if thinks else THINK_END)

    def sampled_calls(self, tail: Tail, names: Sequence[str], headers: Sequence[str]) -> Tail:
        return replace(tail, waiting=tuple(names), outputs_begun=False)

    def calls_reader(self, stream: ItemStream) -> CallsReader:
        return DsmlCalls(stream, "function_calls")

    def constraint(self, ids: MarkIds, context: PromptContext, rules: CallRules) -> Constraint | None:
        token = ids(DSML)
        opening, calls = dsml_opening(token, "function_calls"), dsml_calls(token, "function_calls")
        think = self.think_block(ids, context)
        return answer_constraint(context, rules, row_of_calls(opening, calls), think=think, must_think=True)

    def _open(self, writer: TokenWriter, after: After) -> None:
        if after == "outputs":
            writer.text("\n\n")
        else:
            writer.mark(ASSISTANT)


def _opening(ids: MarkIds) -> Opening:
    return Opening(ids(CALLS.section), CALLS.section)


def _r1_frame(name: str) -> tuple[str, str, str]:
    return literal("function"), literal(f"{name}\n```json\n"), literal("\n```")


def _v31_frame(name: str) -> tuple[str, str, str]:
    return literal(name), "", ""


def _write_output(writer: TokenWriter, text: str) -> None:
    writer.mark(OUTPUT)
    writer.text(text)
    writer.mark(OUTPUT_END)


R1 = DeepSeekR1()  # also V3 with its template
V31 = DeepSeekV31()
V32 = DeepSeekV32()
