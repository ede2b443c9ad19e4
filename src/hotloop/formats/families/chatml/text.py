"""What ChatML with Qwen's tool calls in JSON looks like: its markers and its fixed text.

<|im_start|>system … # Tools … <|im_end|>
<|im_start|>user … <|im_end|>
<|im_start|>assistant <think> … </think> text <tool_call>{"name": …, "arguments": …}</tool_call> … <|im_end|>
<|im_start|>user <tool_response> … </tool_response> <tool_response> … </tool_response> <|im_end|>
"""

from hotloop.formats.bases.answer import THINK, THINK_END
from hotloop.formats.parsing.call_syntax import CALL, CALL_END
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools, tool_json
from hotloop.seams.prompt import PromptContext

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"

_TOOLS_HEAD = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def write_preamble(
    writer: TokenWriter, context: PromptContext, default_system: str | None, *, always_separates: bool
) -> None:
    """The system message: instructions, then the tools. Nothing if there is neither.

    `always_separates`: the empty line in front of the tools stands there even without instructions.
    """
    system = context.instructions or default_system
    tools = shown_tools(context.tools)
    if not system and not tools:
        return
    writer.mark(IM_START)
    writer.text("system\n")
    if system:
        writer.text(system)
    if tools:
        writer.text("\n\n" + _TOOLS_HEAD if system or always_separates else _TOOLS_HEAD)
        for tool in tools:
            writer.text("\n" + tool_json(tool))
        writer.template(_TOOLS_TAIL, (CALL, CALL_END))
    write_end(writer)


def write_end(writer: TokenWriter) -> None:
    """Closes a message."""
    writer.mark(IM_END)
    writer.text("\n")


def write_head(writer: TokenWriter, role: str) -> None:
    """Opens a message."""
    writer.mark(IM_START)
    writer.text(f"{role}\n")


def write_think(writer: TokenWriter, reasoning: str) -> None:
    """A think block and the empty line behind it."""
    writer.mark(THINK)
    writer.text("\n" + reasoning)
    write_think_end(writer)


def write_think_end(writer: TokenWriter) -> None:
    """Closes a think block behind its text."""
    writer.text("\n")
    writer.mark(THINK_END)
    writer.text("\n\n")


def write_call(writer: TokenWriter, name: str, arguments: str) -> None:
    """One call; the arguments stand verbatim."""
    writer.mark(CALL)
    writer.text(f'\n{{"name": "{name}", "arguments": {arguments}}}\n')
    writer.mark(CALL_END)
