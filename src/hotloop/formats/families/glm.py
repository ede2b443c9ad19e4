"""GLM-4.x and 5: messages without an end marker, calls in tags.

    [gMASK]<sop><|system|> tools <|system|> instructions <|user|> question
    <|assistant|> <think>…</think> text <tool_call>name <arg_key>k</arg_key> <arg_value>v</arg_value> </tool_call>
    <|observation|> <tool_response>…</tool_response> <|assistant|> …

    glm-4.6   line ends stand between the pieces; `/nothink` behind the user's text and an empty think block switch thinking
              off; an answer without reasoning has an empty block
    glm-4.7   nothing stands between the pieces; the generation prompt opens the block, or ends it at once to switch thinking
              off; an answer without reasoning has the end marker alone

Other versions are known by a template that has the marks of one of the two (`/nothink`, `clear_thinking`). No tokenizer of the
family is published where the tests could get it: what is proven is the text and where its special tokens stand.

Both drop the reasoning of earlier loops at the next question (`reasoning_dropped`). With `reasoning.context: all_turns` nothing
is ever written again; for glm-4.7 that is the template's `clear_thinking: false`, for glm-4.6 the template has no such choice.

Where it differs from the published templates, on purpose, beside what `bases/chat/format.py` lists:
* An answer of glm-4.7 that ended its open block at once keeps the empty block until the next question; the template writes
  the end marker alone.
* Arguments that are no JSON object, which the templates refuse, stand between the tags as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hotloop.formats.bases.answer import THINK, THINK_END, Phase
from hotloop.formats.bases.chat.dialect import RESPONSE, RESPONSE_END
from hotloop.formats.bases.tags.grammar import TagGrammar, build_constraint
from hotloop.formats.bases.tags.reader import TagSyntax
from hotloop.formats.bases.tags.text import write_arguments
from hotloop.formats.grammar.parts import literal, mark, think_block
from hotloop.formats.parsing.call_syntax import CALL, CALL_END, CallSyntax
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools, tool_json
from hotloop.protocol.items import CustomToolCall, FunctionCall, Item, Message
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

PREFIX = ("[gMASK]", "<sop>")
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
OBSERVATION = "<|observation|>"
END_OF_TEXT = "<|endoftext|>"
NO_THINK = "/nothink"
_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")

_CALLS = TagSyntax(
    name_start="",
    name_end="",
    key_start="<arg_key>",
    key_end="</arg_key>",
    value_start="<arg_value>",
    value_end="</arg_value>",
    call_end="",
    pads_values=False,
    python=False,
    marks=_TAGS,
)
_HEAD = (
    "\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_TAIL = (
    "</tools>\n\nFor each function call, output the function name and arguments within the following XML format:\n"
    "<tool_call>{function-name}"
)


@dataclass(frozen=True, slots=True)
class Glm:
    """Implements `dialect.Dialect`.

    Args:
        name: family name.
        gap: what stands between the pieces of a message.
        opens_think: the generation prompt opens the think block.
    """

    name: str
    gap: str
    opens_think: bool

    required = (ASSISTANT, USER, OBSERVATION)
    stops = (USER, OBSERVATION, END_OF_TEXT)
    thinks = True
    strips = True
    trims = False
    calls: CallSyntax = _CALLS

    def constraint(
        self, context: PromptContext, rules: CallRules, marks: Mapping[str, int], *, off: bool
    ) -> Constraint | None:
        """See `bases/tags/grammar.py`."""
        gap = self.gap
        grammar = TagGrammar(
            before_name="",
            behind_name=gap,
            before_key="<arg_key>",
            before_value=f"</arg_key>{gap}<arg_value>",
            after_value=f"</arg_value>{gap}",
            after_arguments="",
            between_calls=gap,
            python=False,
            before_answer=gap,
        )
        opening = "" if self.opens_think else f"{literal(gap)} {mark(marks.get(THINK), THINK)}"
        think = None if off else think_block(opening, marks.get(THINK_END), THINK_END)
        return build_constraint(context, rules, grammar, marks, think=think)

    def is_verbatim(self, *, off: bool) -> bool:
        """See `Dialect`."""
        return self.opens_think or not off

    def is_query(self, item: Item) -> bool:
        """See `Dialect`."""
        return isinstance(item, Message) and item.role == "user"

    def is_rewritten(self, *, off: bool, thought: bool) -> bool:
        """See `Dialect`."""
        return thought

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        """See `Dialect`."""
        for mark_ in PREFIX:
            writer.mark(mark_)
        tools = shown_tools(context.tools)
        if tools:
            writer.mark(SYSTEM)
            writer.text(_HEAD)
            for tool in tools:
                writer.text(tool_json(tool) + "\n")
            arguments = (f"<arg_key>{{arg-key-{n}}}</arg_key>{self.gap}<arg_value>{{arg-value-{n}}}</arg_value>{self.gap}"
                         for n in (1, 2))  # fmt: skip
            tail = f"{_TAIL}{self.gap}{''.join(arguments)}...{self.gap}</tool_call>"
            writer.template(tail, (CALL, CALL_END, *_TAGS))
        if context.instructions:
            self.write_message(writer, "system", context.instructions, off=False)

    def write_message(self, writer: TokenWriter, role: Literal["user", "system"], text: str, *, off: bool) -> None:
        """See `Dialect`."""
        writer.mark(USER if role == "user" else SYSTEM)
        if role == "user" and off and not self.opens_think:
            writer.text(self.gap + text.removesuffix(NO_THINK))
            writer.mark(NO_THINK)
        else:
            writer.text(self.gap + text)

    def write_assistant(self, writer: TokenWriter, reasoning: str, *, shown: bool, off: bool) -> bool:
        """See `Dialect`."""
        writer.mark(ASSISTANT)
        writer.text(self.gap)
        if (shown and reasoning) or not self.opens_think:
            writer.mark(THINK)
            writer.text(reasoning if shown else "")
        writer.mark(THINK_END)
        return True

    def write_text(self, writer: TokenWriter, text: str, *, behind_block: bool) -> None:
        """See `Dialect`."""
        writer.text(self.gap + text)

    def write_call(self, writer: TokenWriter, name: str, arguments: str, after: Phase) -> None:
        """See `Dialect`."""
        writer.text(self.gap)
        writer.mark(CALL)
        writer.text(name + self.gap)
        before_value = ("<arg_key>", f"</arg_key>{self.gap}<arg_value>")
        write_arguments(writer, arguments, before_value, f"</arg_value>{self.gap}", python=False)
        writer.mark(CALL_END)

    def write_output(self, writer: TokenWriter, text: str, after: Phase) -> None:
        """See `Dialect`."""
        if after == "":
            writer.mark(OBSERVATION)
        writer.text(self.gap)
        writer.mark(RESPONSE)
        writer.text(f"{self.gap}{text}{self.gap}")
        writer.mark(RESPONSE_END)

    def write_end(self, writer: TokenWriter) -> None:
        """See `Dialect`: the next message's marker ends this one."""

    def write_prompt(self, writer: TokenWriter, *, off: bool) -> None:
        """See `Dialect`."""
        writer.mark(ASSISTANT)
        if self.opens_think:
            writer.mark(THINK_END if off else THINK)
        elif off:
            writer.text(self.gap)
            writer.mark(THINK)
            writer.mark(THINK_END)

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        """See `Dialect`."""
        if not self.opens_think:
            writer.text(self.gap)
            writer.mark(THINK)
        writer.text(reasoning)
        writer.mark(THINK_END)

    def write_thought_end(self, writer: TokenWriter) -> None:
        """See `Dialect`."""
        writer.mark(THINK_END)

    def stop_after(self, items: Sequence[Item]) -> str:
        """See `Dialect`."""
        calls = items and isinstance(items[-1], FunctionCall | CustomToolCall)
        return OBSERVATION if calls else USER


GLM_46 = Glm("glm-4.6", gap="\n", opens_think=False)
GLM_47 = Glm("glm-4.7", gap="", opens_think=True)
