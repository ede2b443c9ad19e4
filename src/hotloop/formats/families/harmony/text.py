"""What Harmony looks like: its markers, its fixed text, and how items become messages.

    <|start|>system<|message|> … <|end|>                                       identity, effort, channels
    <|start|>developer<|message|># Instructions … # Tools … <|end|>
    <|start|>user<|message|> … <|end|>
    <|start|>assistant<|channel|>analysis<|message|> … <|end|>                  reasoning
    <|start|>assistant to=functions.x<|channel|>commentary json<|message|> … <|call|>
    <|start|>functions.x to=assistant<|channel|>commentary<|message|>" … "<|end|>
    <|start|>assistant<|channel|>final<|message|> … <|end|>

Every item is a message of its own, so every split into turns gives the same text.
"""

from array import array
from collections.abc import Callable
from typing import assert_never

from hotloop.formats.families.harmony.tool_types import namespace_text
from hotloop.formats.writing.item_text import call_arguments, json_text, reasoning_text
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
from hotloop.protocol.tools import HostedTool
from hotloop.seams.prompt import PromptContext

START = "<|start|>"
END = "<|end|>"
MESSAGE = "<|message|>"
CHANNEL = "<|channel|>"
CONSTRAIN = "<|constrain|>"
RETURN = "<|return|>"
CALL = "<|call|>"
END_OF_TEXT = "<|endoftext|>"
NAMESPACE = "functions"
COMMENTARY = "commentary"  # also the name of the phase
FINAL_PHASE = "final_answer"

_IDENTITY = "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\n"
_CHANNELS = "# Valid channels: analysis, commentary, final. Channel must be included for every message."
_CALLS_GO = "\nCalls to these tools must go to the commentary channel: 'functions'."
# The efforts that the model knows, by the API's names; it cannot be told not to think.
_EFFORTS = {"none": "low", "minimal": "low", "low": "low", "high": "high", "xhigh": "high", "max": "high"}


def write_preamble(writer: TokenWriter, context: PromptContext) -> None:
    """The system message, then instructions and tools as developer message, if there are any."""
    tools = [tool for tool in context.tools if not isinstance(tool, HostedTool)]
    effort = _EFFORTS.get(context.reasoning_effort or "", "medium")
    _open(writer, "system")
    writer.text(f"{_IDENTITY}Reasoning: {effort}\n\n{_CHANNELS}{_CALLS_GO if tools else ''}")
    close(writer, END)
    if not context.instructions and not tools:
        return
    _open(writer, "developer")
    if context.instructions:
        writer.text(f"# Instructions\n\n{context.instructions}\n\n")
    if tools:
        writer.text("# Tools\n\n" + namespace_text(tools))
    close(writer, END)


def close(writer: TokenWriter, mark: str) -> None:
    """Ends the message; a checkpoint."""
    writer.mark(mark)
    writer.checkpoint()


def is_final(item: Item) -> bool:
    """An answer for the user: reasoning in front of it is shown to the model no more."""
    return isinstance(item, Message) and item.role == "assistant" and item.phase != COMMENTARY


class ItemWriter:
    """Writes items as messages.

    Args:
        writer: where the text goes.
        calls: names of the tools whose outputs are still to come, by call id; owned and kept up to date.
        last_call: the tool called last, for outputs of calls that are not known.
        output_head: the tokens of `write_output_head` for a tool.
    """

    def __init__(
        self, writer: TokenWriter, calls: dict[str, str], last_call: str, output_head: "Callable[[str], array[int]]"
    ) -> None:
        self.calls = calls
        self.last_call = last_call
        self.wrote_analysis = False
        self._writer = writer
        self._output_head = output_head

    def write(self, item: Item, *, shows_reasoning: bool) -> None:
        """Write one item as one message."""
        match item:
            case FunctionCallOutput() | CustomToolCallOutput():
                self._output(item.call_id, text_of(item.output))
            case Message(role="assistant"):
                write_head(self._writer, item)
                self._writer.text(text_of(item.content))
                close(self._writer, END)
            case Message():
                self._message(item.role, text_of(item.content))
            case Reasoning():
                self._reasoning(item, shows_reasoning)
            case FunctionCall() | CustomToolCall():
                write_call(self._writer, item)
                self.called(item)
            case OpaqueItem():
                self._message("developer", opaque_text(item))
            case ItemReference():
                raise AssertionError("references are resolved before rendering")
            case _:
                assert_never(item)

    def called(self, call: FunctionCall | CustomToolCall) -> None:
        """Remember whose output comes under this call's id."""
        self.calls[call.call_id] = self.last_call = call.name

    def _message(self, role: str, text: str) -> None:
        _open(self._writer, "user" if role == "user" else "developer")
        self._writer.text(text if role == "user" else f"# Instructions\n\n{text}\n\n")
        close(self._writer, END)

    def _reasoning(self, item: Reasoning, is_shown: bool) -> None:
        text = reasoning_text(item)
        if not text or not is_shown:
            return
        write_head(self._writer, item)
        self._writer.text(text)
        close(self._writer, END)
        self.wrote_analysis = True

    def _output(self, call_id: str, text: str) -> None:
        self._writer.put(self._output_head(self.calls.pop(call_id, self.last_call)))
        self._writer.text(json_text(text))
        close(self._writer, END)


def _open(writer: TokenWriter, author: str) -> None:
    writer.mark(START)
    writer.text(author)
    writer.mark(MESSAGE)


def write_generation_prompt(writer: TokenWriter) -> None:
    """The head of a message from the model, as far as it says nothing yet."""
    writer.mark(START)
    writer.text("assistant")


def write_head(writer: TokenWriter, item: Message | Reasoning) -> None:
    """The head of reasoning or of a message from the model, from its start on."""
    write_generation_prompt(writer)
    write_channel(writer, item)


def write_output_head(writer: TokenWriter, name: str) -> None:
    """The head of an output of the tool called `name`, or of no known tool."""
    writer.mark(START)
    writer.text(f"{NAMESPACE}.{name} to=assistant" if name else f"{NAMESPACE} to=assistant")
    writer.mark(CHANNEL)
    writer.text(COMMENTARY)
    writer.mark(MESSAGE)


def write_channel(writer: TokenWriter, item: Message | Reasoning) -> None:
    """The part of a head that the model writes itself."""
    writer.mark(CHANNEL)
    writer.text("analysis" if isinstance(item, Reasoning) else "final" if is_final(item) else COMMENTARY)
    writer.mark(MESSAGE)


def write_call(writer: TokenWriter, call: FunctionCall | CustomToolCall) -> None:
    """A call from its start on."""
    write_generation_prompt(writer)
    write_call_body(writer, call)


def write_call_body(writer: TokenWriter, call: FunctionCall | CustomToolCall) -> None:
    """The part of a call that the model writes itself; arguments stand verbatim."""
    writer.text(f" to={NAMESPACE}.{call.name}")
    writer.mark(CHANNEL)
    writer.text(f"{COMMENTARY} json")
    writer.mark(MESSAGE)
    writer.text(call_arguments(call))
    close(writer, CALL)
