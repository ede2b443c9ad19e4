"""What ChatML with Qwen's tool calls looks like: its markers, its fixed text, and how items become messages.

    <|im_start|>system … # Tools … <|im_end|>
    <|im_start|>user … <|im_end|>
    <|im_start|>assistant <think> … </think> text <tool_call>{"name": …, "arguments": …}</tool_call> … <|im_end|>
    <|im_start|>user <tool_response> … </tool_response> <tool_response> … </tool_response> <|im_end|>

One message may hold several items: an assistant message is reasoning, text and calls in that order, at most one of the
first two; consecutive tool outputs are one user message. Items are grouped by that rule alone, so every split into turns
gives the same messages.
"""

import json
from collections.abc import Sequence
from typing import Literal, assert_never

from hotloop.errors import UnsupportedValue
from hotloop.formats.token_writer import TokenWriter
from hotloop.protocol.items import (
    ContentPart,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputAudio,
    InputFile,
    InputImage,
    InputVideo,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    Reasoning,
    ResultPart,
    text_of,
)
from hotloop.protocol.tools import CustomTool, FunctionTool, GrammarFormat, HostedTool, Tool
from hotloop.seams.prompt import PromptContext

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
THINK = "<think>"
THINK_END = "</think>"
CALL = "<tool_call>"
CALL_END = "</tool_call>"
RESPONSE = "<tool_response>"
RESPONSE_END = "</tool_response>"

_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)

# What the message under construction holds so far; "" between messages.
Phase = Literal["", "outputs", "thought", "text", "calls"]


def write_preamble(writer: TokenWriter, context: PromptContext, default_system: str | None) -> None:
    """The system message: instructions, then the tools. Nothing if there is neither."""
    system = context.instructions or default_system
    tools = [tool for tool in context.tools if not isinstance(tool, HostedTool)]
    if not system and not tools:
        return
    writer.mark(IM_START)
    writer.text("system\n")
    if system:
        writer.text(system)
    if tools:
        writer.text("\n\n" + _TOOLS_HEAD if system else _TOOLS_HEAD)
        for tool in tools:
            writer.text("\n" + tool_json(tool))
        writer.template(_TOOLS_TAIL, (CALL, CALL_END))
    end_message(writer)


def end_message(writer: TokenWriter) -> None:
    """Closes the message; a checkpoint."""
    writer.mark(IM_END)
    writer.text("\n")
    writer.checkpoint()


def tool_json(tool: FunctionTool | CustomTool) -> str:
    """A tool as the template shows it: `json.dumps` of an OpenAI function tool, key order as given."""
    function: dict[str, object] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    parameters = tool_parameters(tool)
    if parameters is not None:
        function["parameters"] = parameters
    return json.dumps({"type": "function", "function": function}, ensure_ascii=False)


def custom_arguments(text: str) -> str:
    """The arguments that stand for a custom tool's free text."""
    return json.dumps({"input": text}, ensure_ascii=False)


def custom_names(tools: Sequence[Tool]) -> frozenset[str]:
    """Names of the tools that take free text."""
    return frozenset(tool.name for tool in tools if isinstance(tool, CustomTool))


def tool_parameters(tool: FunctionTool | CustomTool) -> object:
    """A tool's JSON schema, if it has one; a custom tool is shown as a function of one text, `input`."""
    if isinstance(tool, FunctionTool):
        return None if tool.parameters is None else json.loads(bytes(tool.parameters))
    text: dict[str, str] = {"type": "string"}
    if isinstance(tool.format, GrammarFormat):
        text["description"] = f"Text that this {tool.format.syntax} grammar accepts:\n{tool.format.definition}"
    return {"type": "object", "properties": {"input": text}, "required": ["input"]}


def is_rendered(item: Item, *, thinks: bool) -> bool:
    """The item leaves something in the text: sealed reasoning and empty assistant messages do not."""
    match item:
        case Reasoning():
            return thinks and bool(reasoning_text(item))
        case Message(role="assistant"):
            return bool(text_of(item.content))
        case _:
            return True


def is_query(item: Item) -> bool:
    """The user asks something new. A text in tool response tags is a tool's answer, as in Qwen's own template."""
    if not (isinstance(item, Message) and item.role == "user"):
        return False
    text = text_of(item.content)
    return not (text.startswith(RESPONSE) and text.endswith(RESPONSE_END))


def reasoning_text(item: Reasoning) -> str:
    """The raw reasoning, or its summary where only that is left."""
    return text_of(item.content or item.summary).strip("\n")


def refuse_unsupported(items: Sequence[Item]) -> None:
    """Raises UnsupportedValue for the first content part that is no text."""
    for index, item in enumerate(items):
        match item:
            case Message():
                _refuse_parts(item.content, f"input[{index}].content")
            case FunctionCallOutput() | CustomToolCallOutput():
                _refuse_parts(item.output, f"input[{index}].output")
            case _:
                pass


def _refuse_parts(content: str | list[ContentPart] | list[ResultPart], param: str) -> None:
    if isinstance(content, str):
        return
    for index, part in enumerate(content):
        if isinstance(part, InputImage | InputFile | InputAudio | InputVideo):
            raise UnsupportedValue("This model takes text only.", param=f"{param}[{index}]")


def joins(phase: Phase, item: Item) -> bool:
    """The item continues the message that is at `phase`."""
    match item:
        case FunctionCallOutput() | CustomToolCallOutput():
            return phase == "outputs"
        case FunctionCall() | CustomToolCall():
            return phase in ("thought", "text", "calls")
        case Message(role="assistant"):
            return phase == "thought"
        case _:
            return False


class ItemWriter:
    """Writes items as messages.

    Args:
        writer: where the text goes.
        phase: what the message that is still open holds; "" to start with a new one.
        empty_think: an assistant message without reasoning gets an empty think block, as thinking switched off writes it.
    """

    def __init__(self, writer: TokenWriter, phase: Phase, *, empty_think: bool) -> None:
        self.phase: Phase = phase
        self.wrote_think = False
        self._writer = writer
        self._empty_think = empty_think

    def write(self, item: Item, *, shows_reasoning: bool) -> None:
        """Write one item, starting a new message where it does not join the open one."""
        if not joins(self.phase, item):
            self.end()
        match item:
            case Message(role="assistant"):
                self._text(text_of(item.content), shows_reasoning)
            case Message():
                self._message("user" if item.role == "user" else "system", text_of(item.content))
            case Reasoning():
                self._open_assistant(reasoning_text(item) if shows_reasoning else None)
                self.phase = "thought"
            case FunctionCall():
                self._call(item.name, item.arguments if item.arguments.strip() else "{}", shows_reasoning)
            case CustomToolCall():
                self._call(item.name, custom_arguments(item.input), shows_reasoning)
            case FunctionCallOutput() | CustomToolCallOutput():
                self._output(text_of(item.output))
            case OpaqueItem():
                self._message("system", item.raw.decode("utf-8", "replace"))
            case ItemReference():
                raise AssertionError("references are resolved before rendering")
            case _:
                assert_never(item)

    def end(self) -> None:
        """Close the open message, if there is one."""
        if self.phase:
            end_message(self._writer)
            self.phase = ""

    def _message(self, role: str, text: str) -> None:
        self._writer.mark(IM_START)
        self._writer.text(f"{role}\n{text}")
        end_message(self._writer)

    def _open_assistant(self, reasoning: str | None) -> None:
        self._writer.mark(IM_START)
        self._writer.text("assistant\n")
        if reasoning is not None:
            write_think(self._writer, reasoning)
            self.wrote_think = True

    def _text(self, text: str, shows_reasoning: bool) -> None:
        if self.phase == "":
            self._open_assistant("" if self._empty_think and shows_reasoning else None)
        # The template strips what follows a think block, and only that.
        follows_think = shows_reasoning and (self._empty_think or self.phase == "thought")
        self._writer.text(text.lstrip("\n") if follows_think else text)
        self.phase = "text"

    def _call(self, name: str, arguments: str, shows_reasoning: bool) -> None:
        if self.phase == "":
            self._open_assistant("" if self._empty_think and shows_reasoning else None)
        elif self.phase != "thought":
            self._writer.text("\n")
        write_call(self._writer, name, arguments)
        self.phase = "calls"

    def _output(self, text: str) -> None:
        if self.phase == "":
            self._writer.mark(IM_START)
            self._writer.text("user")
        self._writer.text("\n")
        self._writer.mark(RESPONSE)
        self._writer.text(f"\n{text}\n")
        self._writer.mark(RESPONSE_END)
        self.phase = "outputs"


def write_think(writer: TokenWriter, reasoning: str) -> None:
    """A think block and the empty line behind it."""
    writer.mark(THINK)
    writer.text(f"\n{reasoning}\n")
    writer.mark(THINK_END)
    writer.text("\n\n")


def write_call(writer: TokenWriter, name: str, arguments: str) -> None:
    """One call; the arguments stand verbatim."""
    writer.mark(CALL)
    writer.text(f'\n{{"name": "{name}", "arguments": {arguments}}}\n')
    writer.mark(CALL_END)
