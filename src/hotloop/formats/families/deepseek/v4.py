"""DeepSeek V4 and its Flash: V3.2's DSML calls, tool results inside the user's turn.

    <｜User｜>…⏎⏎<tool_result>…</tool_result>⏎⏎… <｜Assistant｜> <think>…</think> text DSML calls <eos>

The model reasons if the request asks for it. Where tools are offered nothing of it is ever left out; without tools, reasoning
goes with the next question. The highest efforts put a text in front of everything: `xhigh` counts as `max`.

Where it differs from the published templates, on purpose:

* Without tools, reasoning goes with the next question even if there are outputs of tools in the history.
* Developer messages, and item types that are carried but not interpreted (as their JSON), are questions.
* Arguments that are no JSON object are one parameter of the name `arguments`.
* Line ends between two parts of a user's turn are tokens of their own where the parts came one after the other; the text is
  the same.
* The spelling of a control token inside any content stays text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from hotloop.formats.bases.answer import THINK, THINK_END
from hotloop.formats.bases.answers.dialect import After, Forgets, MarkIds, Role, Tail
from hotloop.formats.bases.answers.grammar import row_of_calls
from hotloop.formats.bases.answers.parser import CallsReader
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
    EFFORT_ABSOLUTE,
    EFFORT_BEYOND,
    EOS,
    TOOLS_V4_HEAD,
    TOOLS_V4_TAIL,
    USER,
    V4_CALLS,
)
from hotloop.formats.grammar.answer import answer_constraint
from hotloop.formats.parsing.item_stream import ItemStream
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

_EFFORTS = {"xhigh": EFFORT_ABSOLUTE, "max": EFFORT_ABSOLUTE}
_FLASH_EFFORTS = {"high": EFFORT_ABSOLUTE, "xhigh": EFFORT_BEYOND, "max": EFFORT_BEYOND}


@dataclass(frozen=True, slots=True)
class DeepSeekV4(DeepSeekDialect):
    """Implements `bases.answers.dialect.Dialect`. `efforts` are the texts in front, by the effort asked for."""

    name: str = "deepseek-v4"
    efforts: Mapping[str, str] = field(default_factory=lambda: _EFFORTS)
    required: tuple[str, ...] = (EOS, BOS, USER, ASSISTANT)
    stops: tuple[str, ...] = ()
    marks: tuple[str, ...] = (THINK, THINK_END, *dsml_marks(V4_CALLS))
    header_marks: tuple[str, str] = ("", "")
    opens_think: bool = True
    think_lines: bool = False
    separator: str = "\n\n"

    def forgets(self, context: PromptContext) -> Forgets:
        return "never" if shown_tools(context.tools) else "at_questions"

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        writer.mark(BOS)
        writer.text(self.efforts.get(context.reasoning_effort or "", "") + (context.instructions or ""))
        write_dsml_tools(writer, context, TOOLS_V4_HEAD, TOOLS_V4_TAIL)

    def write_message(self, writer: TokenWriter, tail: Tail, role: Role, text: str) -> None:
        self._open_question(writer, tail)
        writer.text(text)

    def write_head(self, writer: TokenWriter, tail: Tail, reasoning: str, *, thinks: bool, shown: bool) -> None:
        writer.mark(ASSISTANT)
        if thinks and shown:
            writer.mark(THINK)
            writer.text(reasoning)
        writer.mark(THINK_END)

    def write_call(self, writer: TokenWriter, tail: Tail, name: str, arguments: str, *, is_first: bool) -> Tail:
        if is_first:
            writer.text("\n\n")
            write_tag(writer, section(V4_CALLS))
            writer.text("\n")
        write_invoke(writer, name, arguments, without_parameters="\n")
        return tail

    def write_calls_end(self, writer: TokenWriter) -> None:
        write_tag(writer, section_end(V4_CALLS))

    def write_output(self, writer: TokenWriter, tail: Tail, text: str) -> Tail:
        self._open_question(writer, tail)
        writer.text(f"<tool_result>{text}</tool_result>")
        return replace(tail, after="outputs")

    def write_prompt(self, writer: TokenWriter, after: After, *, thinks: bool) -> None:
        writer.mark(ASSISTANT)
        writer.mark(THINK if thinks else THINK_END)

    def calls_reader(self, stream: ItemStream) -> CallsReader:
        return DsmlCalls(stream, V4_CALLS)

    def constraint(self, ids: MarkIds, context: PromptContext, rules: CallRules) -> Constraint | None:
        token = ids(DSML)
        think = self.think_block(ids, context)
        calls = dsml_calls(token, V4_CALLS)
        return answer_constraint(
            context, rules, row_of_calls(dsml_opening(token, V4_CALLS), calls), think=think, must_think=True
        )

    def _open_question(self, writer: TokenWriter, tail: Tail) -> None:
        if tail.after in ("question", "outputs"):
            writer.text("\n\n")
        else:
            writer.mark(USER)


V4 = DeepSeekV4()
V4_FLASH = DeepSeekV4("deepseek-v4-flash", _FLASH_EFFORTS)
