"""What Mistral's instruct models read: markers, versions, and how items become text.

    v3         <s>[AVAILABLE_TOOLS][…][/AVAILABLE_TOOLS][INST]instructions, question[/INST]
               [TOOL_CALLS][{"name": …, "arguments": …, "id": …}]</s>[TOOL_RESULTS]{"content": …, "call_id": …}[/TOOL_RESULTS]
    v11        <s>[SYSTEM_PROMPT]…[/SYSTEM_PROMPT][AVAILABLE_TOOLS]…[/AVAILABLE_TOOLS][INST]question[/INST]
               text[TOOL_CALLS]name[CALL_ID]id[ARGS]…</s>[TOOL_RESULTS]id[TOOL_CONTENT]…[/TOOL_RESULTS]
    v13        <s>[SYSTEM_PROMPT]…[/SYSTEM_PROMPT][AVAILABLE_TOOLS]…[/AVAILABLE_TOOLS][INST]question[/INST]
               [THINK]…[/THINK]text[TOOL_CALLS]name[ARGS]…</s>[TOOL_RESULTS]…[/TOOL_RESULTS]

Up to v11 the tools (and in v3 the instructions) stand with the last question and move on with the next one; v13 has them at
the start. An assistant message is reasoning, text and calls in that order, at most one of the first two.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import msgspec

from hotloop.formats.bases.answer import Phase, joins
from hotloop.formats.writing.item_text import call_arguments, reasoning_text
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools, tool_json, tool_parameters
from hotloop.protocol.items import (
    CallItem,
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
from hotloop.protocol.tools import CustomTool, FunctionTool
from hotloop.seams.prompt import PromptContext

BOS = "<s>"
EOS = "</s>"
INST = "[INST]"
INST_END = "[/INST]"
SYSTEM = "[SYSTEM_PROMPT]"
SYSTEM_END = "[/SYSTEM_PROMPT]"
TOOLS = "[AVAILABLE_TOOLS]"
TOOLS_END = "[/AVAILABLE_TOOLS]"
CALLS = "[TOOL_CALLS]"
CALL_ID = "[CALL_ID]"
ARGS = "[ARGS]"
RESULTS = "[TOOL_RESULTS]"
RESULTS_END = "[/TOOL_RESULTS]"
CONTENT = "[TOOL_CONTENT]"
THINK = "[THINK]"
THINK_END = "[/THINK]"

_NINE = re.compile(r"[A-Za-z0-9]{9}")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Version:
    """What the versions of the tokenizer's instruct format differ in, by Mistral's own numbers."""

    name: str
    marks: tuple[str, ...]  # that it cannot do without
    moves_tools: bool = False  # tools stand with the last question
    has_system: bool = True  # a system prompt of its own; else instructions stand in the last question
    lists_calls: bool = False  # one JSON list of all calls
    shows_ids: bool = False
    thinks: bool = False

    def moves_preamble(self, context: PromptContext) -> bool:
        """Something stands with the last question."""
        return (self.moves_tools and bool(shown_tools(context.tools))) or (
            not self.has_system and context.instructions is not None
        )


_ALWAYS = (BOS, EOS, INST, INST_END, TOOLS, TOOLS_END, CALLS, RESULTS, RESULTS_END)
_SYSTEM = (*_ALWAYS, SYSTEM, SYSTEM_END, ARGS)
V3 = Version("mistral-v3", _ALWAYS, moves_tools=True, has_system=False, lists_calls=True, shows_ids=True)
V11 = Version("mistral-v11", (*_SYSTEM, CALL_ID, CONTENT), moves_tools=True, shows_ids=True)
V13 = Version("mistral-v13", _SYSTEM)
V13_THINKING = Version("mistral-v13-thinking", (*_SYSTEM, THINK, THINK_END), thinks=True)


def nine(call_id: str) -> str:
    """The call id as Mistral's models know them, nine letters or digits: itself, or always the same nine for it."""
    if _NINE.fullmatch(call_id):
        return call_id
    number = int.from_bytes(hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    digits: list[str] = []
    for _ in range(9):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def write_start(writer: TokenWriter, version: Version, context: PromptContext, default_system: str | None) -> None:
    """What stands in front of all items, wherever the questions are."""
    writer.mark(BOS)
    if version.has_system and context.instructions is not None:
        _enclosed(writer, SYSTEM, context.instructions, SYSTEM_END)
    elif version.has_system and default_system is not None:
        writer.mark(SYSTEM)
        writer.template(default_system, (THINK, THINK_END))  # the model's own text, not a user's
        writer.mark(SYSTEM_END)
    if not version.moves_tools:
        _write_tools(writer, version, context)
    writer.checkpoint()


def _write_tools(writer: TokenWriter, version: Version, context: PromptContext) -> None:
    written = [_plain_tool(tool) if version.lists_calls else tool_json(tool) for tool in shown_tools(context.tools)]
    if written:
        _enclosed(writer, TOOLS, f"[{', '.join(written)}]", TOOLS_END)


def _plain_tool(tool: FunctionTool | CustomTool) -> str:
    """As the template of v3 writes it: the description between quotes, nothing in it escaped."""
    fields = [f'"name": "{tool.name}"']
    if tool.description is not None:
        fields.append(f'"description": "{tool.description}"')
    parameters = tool_parameters(tool)
    if parameters is not None:
        fields.append(f'"parameters": {json.dumps(parameters, ensure_ascii=False)}')
    return f'{{"type": "function", "function": {{{", ".join(fields)}}}}}'


def _enclosed(writer: TokenWriter, mark: str, text: str, end: str) -> None:
    writer.mark(mark)
    writer.text(text)
    writer.mark(end)


def is_rendered(item: Item, version: Version) -> bool:
    """The item leaves something in the text."""
    match item:
        case Reasoning():
            return version.thinks and bool(reasoning_text(item))
        case Message(role="assistant"):
            return bool(text_of(item.content))
        case _:
            return True


class CallList(msgspec.Struct, frozen=True):
    """The list of calls that ends the chain, in the version that writes one: where it starts, and the calls in it."""

    start: int
    calls: tuple[CallItem, ...] = ()


class ItemWriter:
    """Writes items as messages.

    Args:
        writer: where the text goes, behind `base` tokens of the chain.
        version: how.
        phase: what the assistant message that is still open holds; "" to start with a new message.
        sampled_ids: ids that the model gave to calls whose outputs are still to come, by call id; owned and kept up to date.
    """

    def __init__(
        self, writer: TokenWriter, base: int, version: Version, phase: Phase, sampled_ids: dict[str, str]
    ) -> None:
        self.phase: Phase = phase
        self.list = CallList(0)
        self.sampled_ids = sampled_ids
        self._writer = writer
        self._base = base
        self._version = version

    def write(self, item: Item, moving: PromptContext | None) -> None:
        """Write one item, starting a new message where it does not join the open one.

        `moving`: the item is the last question; what moves with that is taken from here.
        """
        if not joins(self.phase, item):
            self.end()
        match item:
            case FunctionCallOutput() | CustomToolCallOutput():
                self._output(item.call_id, text_of(item.output))
            case Message(role="assistant"):
                self._writer.text(text_of(item.content))
                self.phase = "text"
            case Message(role="user"):
                self._question(text_of(item.content), moving)
            case Message():
                self._system(text_of(item.content))
            case Reasoning():
                write_think(self._writer, reasoning_text(item))
                self.phase = "thought"
            case FunctionCall() | CustomToolCall():
                self._call(item)
            case OpaqueItem():
                self._system(opaque_text(item))
            case ItemReference():
                raise AssertionError("references are resolved before rendering")
            case _:
                assert_never(item)

    def end(self) -> None:
        """Close the open message, if there is one."""
        if self.phase:
            if self.phase == "calls" and self._version.lists_calls:
                self._writer.text("]")
            self._writer.mark(EOS)
            self._writer.checkpoint()
            self.phase = ""

    def _question(self, text: str, moving: PromptContext | None) -> None:
        if moving is not None:
            _write_tools(self._writer, self._version, moving)
            if moving.instructions is not None and not self._version.has_system:
                text = f"{moving.instructions}\n\n{text}"
        _enclosed(self._writer, INST, text, INST_END)
        self._writer.checkpoint()

    def _system(self, text: str) -> None:
        if self._version.has_system:
            _enclosed(self._writer, SYSTEM, text, SYSTEM_END)
        else:
            _enclosed(self._writer, INST, text, INST_END)
        self._writer.checkpoint()

    def _call(self, call: CallItem) -> None:
        if not self._version.lists_calls:
            write_call(self._writer, call, self._version)
        elif self.phase == "calls":
            self._writer.text(", " + _listed(call))
            self.list = CallList(self.list.start, (*self.list.calls, call))
        else:
            self.list = CallList(self._base + len(self._writer.tokens()), (call,))
            self._writer.mark(CALLS)
            self._writer.text("[" + _listed(call))
        self.phase = "calls"

    def _output(self, call_id: str, text: str) -> None:
        self._writer.mark(RESULTS)
        if self._version.shows_ids:
            shown_id = self.sampled_ids.pop(call_id, None) or nine(call_id)
            if self._version.lists_calls:
                text = f'{{"content": {text}, "call_id": "{shown_id}"}}'
            else:
                self._writer.text(shown_id)
                self._writer.mark(CONTENT)
        self._writer.text(text)
        self._writer.mark(RESULTS_END)
        self._writer.checkpoint()


def write_think(writer: TokenWriter, reasoning: str) -> None:
    """A think block."""
    _enclosed(writer, THINK, reasoning, THINK_END)


def write_call(writer: TokenWriter, call: CallItem, version: Version) -> None:
    """One call in a version that marks each."""
    writer.mark(CALLS)
    writer.text(call.name)
    if version.shows_ids:
        writer.mark(CALL_ID)
        writer.text(nine(call.call_id))
    writer.mark(ARGS)
    writer.text(call_arguments(call))


def write_list(writer: TokenWriter, calls: Sequence[CallItem]) -> None:
    """All calls of a message in the version that lists them."""
    writer.mark(CALLS)
    writer.text(f"[{', '.join(_listed(call) for call in calls)}]")


def _listed(call: CallItem) -> str:
    return f'{{"name": "{call.name}", "arguments": {call_arguments(call)}, "id": "{nine(call.call_id)}"}}'
