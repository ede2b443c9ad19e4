"""ChatML with calls in XML, as Qwen3-Coder and Qwen3.5 write it.

    <|im_start|>assistant <think> … </think> text <tool_call>
    <function=edit>
    <parameter=path>
    a.py
    </parameter>
    </function>
    </tool_call><|im_end|>

    qwen3-coder   no thinking; its tools are described in XML too
    qwen3.5       thinks; the generation prompt opens the think block; every answer behind the last question has a block, be it
                  empty, and none before it: an answer is written again at the next question (`reasoning_dropped`). With
                  `reasoning.context: all_turns` every answer keeps its block, and nothing is ever written again.

Where it differs from the published templates, on purpose, beside what `bases/chat/format.py` lists:
* Qwen3-Coder's template trims the text of an answer only if calls follow it; here it always is.
* Qwen3.5's template refuses conversations without a question, and system messages behind the first item; here they are
  written as any other.
* Arguments that are no JSON object, for which the templates fail, stand between the tags as they are.
* Tool outputs that begin a conversation open a message of the user, as all others do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from hotloop.formats.bases.answer import THINK, THINK_END, Phase
from hotloop.formats.bases.chat.dialect import RESPONSE, RESPONSE_END, is_question
from hotloop.formats.bases.tags.grammar import TagGrammar, build_constraint
from hotloop.formats.bases.tags.reader import TagSyntax
from hotloop.formats.bases.tags.text import python_value, write_arguments
from hotloop.formats.families.chatml.text import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    write_end,
    write_head,
    write_think,
    write_think_end,
)
from hotloop.formats.grammar.parts import think_block
from hotloop.formats.parsing.call_syntax import CALL, CALL_END, CallSyntax
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools, tool_json, tool_parameters
from hotloop.protocol.items import Item
from hotloop.protocol.tools import CustomTool, FunctionTool
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

CODER_SYSTEM = "You are Qwen, a helpful AI assistant that can interact with a computer to solve tasks."

_CALLS = TagSyntax(
    name_start="<function=",
    name_end=">",
    key_start="<parameter=",
    key_end=">",
    value_start="",
    value_end="</parameter>",
    call_end="</function>",
    pads_values=True,
    python=True,
)
_GRAMMAR = TagGrammar(
    before_name="\n<function=",
    behind_name=">\n",
    before_key="<parameter=",
    before_value=">\n",
    after_value="\n</parameter>\n",
    after_arguments="</function>\n",
    between_calls="\n",
    python=True,
)
_EXAMPLE = "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
_CODER_TAIL = (
    "\n</tools>\n\nIf you choose to call a tool ONLY reply in the following format with NO suffix:\n\n"
    + _EXAMPLE
    + "<parameter=example_parameter_2>\nvalue_2\n</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: the tool calling block MUST begin with an opening <tool_call> tag "
    "and end with a closing </tool_call> tag.\n- Required parameters MUST be specified\n"
)
_TAIL = (
    "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    + _EXAMPLE
    + "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls MUST follow the specified format: "
    "an inner <function=...></function> block must be nested within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
)
_REMINDER = (
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, but NOT after\n"
    "- If there is no function call available, answer the question like normal with your current knowledge and do not tell "
    "the user about function calls\n</IMPORTANT>"
)


@dataclass(frozen=True, slots=True)
class QwenXml:
    """Implements `dialect.Dialect`.

    Args:
        name: family name.
        is_coder: Qwen3-Coder; otherwise Qwen3.5.
    """

    name: str
    is_coder: bool

    required = (IM_END, IM_START)
    stops = (IM_END, END_OF_TEXT)
    strips = True
    calls: CallSyntax = _CALLS

    @property
    def thinks(self) -> bool:
        """See `Dialect`."""
        return not self.is_coder

    @property
    def trims(self) -> bool:
        """See `Dialect`."""
        return not self.is_coder

    @property
    def opens_think(self) -> bool:
        """See `Dialect`."""
        return not self.is_coder

    def constraint(
        self, context: PromptContext, rules: CallRules, marks: Mapping[str, int], *, off: bool
    ) -> Constraint | None:
        """See `bases/tags/grammar.py`."""
        think = think_block("", marks.get(THINK_END), THINK_END, "\n\n") if self.thinks and not off else None
        return build_constraint(context, rules, _GRAMMAR, marks, think=think)

    def is_verbatim(self, *, off: bool) -> bool:
        """See `Dialect`."""
        return True

    def is_query(self, item: Item) -> bool:
        """See `Dialect`."""
        return is_question(item, strips=not self.is_coder)

    def is_rewritten(self, *, off: bool, thought: bool) -> bool:
        """See `Dialect`."""
        return not self.is_coder

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        """See `Dialect`."""
        tools = shown_tools(context.tools)
        system = context.instructions or (CODER_SYSTEM if tools and self.is_coder else "")
        if not system and not tools:
            return
        write_head(writer, "system")
        if self.is_coder:
            _write_coder_system(writer, system, tools)
        else:
            _write_system(writer, system.strip(), tools)
        write_end(writer)

    def write_message(self, writer: TokenWriter, role: Literal["user", "system"], text: str, *, off: bool) -> None:
        """See `Dialect`."""
        write_head(writer, role)
        writer.text(text if self.is_coder else text.strip())

    def write_assistant(self, writer: TokenWriter, reasoning: str, *, shown: bool, off: bool) -> bool:
        """See `Dialect`."""
        write_head(writer, "assistant")
        if shown:
            write_think(writer, reasoning)
        return shown

    def write_text(self, writer: TokenWriter, text: str, *, behind_block: bool) -> None:
        """See `Dialect`."""
        writer.text(text)

    def write_call(self, writer: TokenWriter, name: str, arguments: str, after: Phase) -> None:
        """See `Dialect`."""
        if after == "text":
            writer.text("\n\n")
        elif after == "calls":
            writer.text("\n")
        writer.mark(CALL)
        writer.text(f"\n<function={name}>\n")
        write_arguments(writer, arguments, ("<parameter=", ">\n"), "\n</parameter>\n", python=True)
        writer.text("</function>\n")
        writer.mark(CALL_END)

    def write_output(self, writer: TokenWriter, text: str, after: Phase) -> None:
        """See `Dialect`."""
        if after == "":
            writer.mark(IM_START)
            writer.text("user\n" if self.is_coder else "user")
        if not self.is_coder:
            writer.text("\n")
            text = text.strip()
        writer.mark(RESPONSE)
        writer.text(f"\n{text}\n")
        writer.mark(RESPONSE_END)
        if self.is_coder:
            writer.text("\n")

    def write_end(self, writer: TokenWriter) -> None:
        """See `Dialect`."""
        write_end(writer)

    def write_prompt(self, writer: TokenWriter, *, off: bool) -> None:
        """See `Dialect`."""
        write_head(writer, "assistant")
        if off:
            write_think(writer, "")
        elif self.opens_think:
            writer.mark(THINK)
            writer.text("\n")

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        """See `Dialect`."""
        writer.text(reasoning)
        write_think_end(writer)

    def write_thought_end(self, writer: TokenWriter) -> None:
        """See `Dialect`."""
        write_think_end(writer)

    def stop_after(self, items: Sequence[Item]) -> str:
        """See `Dialect`."""
        return IM_END


QWEN3_CODER = QwenXml("qwen3-coder", is_coder=True)
QWEN35 = QwenXml("qwen3.5", is_coder=False)


def _write_system(writer: TokenWriter, system: str, tools: Sequence[FunctionTool | CustomTool]) -> None:
    if tools:
        writer.text("# Tools\n\nYou have access to the following functions:\n\n<tools>")
        for tool in tools:
            writer.text("\n" + tool_json(tool))
        writer.template(_TAIL + _REMINDER, (CALL, CALL_END))
        if system:
            writer.text("\n\n")
    writer.text(system)


def _write_coder_system(writer: TokenWriter, system: str, tools: Sequence[FunctionTool | CustomTool]) -> None:
    writer.text(system)
    if tools:
        writer.text("\n\n# Tools\n\nYou have access to the following tools:\n\n<tools>")
        for tool in tools:
            writer.text(_tool_xml(tool))
        writer.template(_CODER_TAIL + _REMINDER, (CALL, CALL_END))


def _tool_xml(tool: FunctionTool | CustomTool) -> str:
    parts = [f"\n<function>\n<name>{tool.name}</name>"]
    if tool.description is not None:
        parts.append(f"\n<description>{tool.description.strip()}</description>")
    parts.append("\n<parameters>")
    schema = tool_parameters(tool)
    if isinstance(schema, dict):
        fields = cast("dict[str, object]", schema)  # JSON keys are strings
        properties = fields.get("properties")
        if isinstance(properties, dict):
            parts += [_parameter_xml(name, one) for name, one in cast("dict[str, object]", properties).items()]
        parts.append(_other_keys(fields, ("type", "properties")))
    parts.append("\n</parameters>\n</function>")
    return "".join(parts)


def _parameter_xml(name: str, schema: object) -> str:
    parts = [f"\n<parameter>\n<name>{name}</name>"]
    if isinstance(schema, dict):
        fields = cast("dict[str, object]", schema)
        if "type" in fields:
            parts.append(f"\n<type>{fields['type']}</type>")
        if "description" in fields:
            parts.append(f"\n<description>{str(fields['description']).strip()}</description>")
        parts.append(_other_keys(fields, ("name", "type", "description")))
    parts.append("\n</parameter>")
    return "".join(parts)


def _other_keys(fields: Mapping[str, object], handled: tuple[str, ...]) -> str:
    shown = ((key, python_value(value)) for key, value in fields.items() if key not in handled)
    return "".join(f"\n<{key}>{value}</{key}>" for key, value in shown)
