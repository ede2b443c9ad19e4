"""Items as the chat messages that a Hugging Face template takes, in the dialect that this template understands.

One assistant message holds reasoning, text and calls of one answer, in that order. Content is masked (`content_mask`) before
it is put into a message, so that what a template writes can be told from what it was given.

What a template cannot take is written as follows:
* no system message: the instructions stand in front of the first user message, an empty line between them;
* no system message in the middle, or an item that is carried but not interpreted: a user message;
* roles that must alternate: messages of the same role in a row are one, an empty line between them;
* no reasoning: it is left out;
* calls are dropped although the template offers tools in Hermes' way: they stand in the content, as `<tool_call>` blocks;
* no defaults for a tool's description and parameters: every tool has both, empty ones if need be;
* no tools at all: tools, calls and outputs are refused (`UnsupportedValue`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never, cast

from hotloop.errors import UnsupportedValue
from hotloop.formats.bases.answer import Phase, joins, phase_after
from hotloop.formats.generic.content_mask import ContentMask
from hotloop.formats.writing.item_text import call_arguments, reasoning_text
from hotloop.formats.writing.tool_text import tool_json
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
from hotloop.protocol.tools import CustomTool, FunctionTool, HostedTool, Tool

HERMES_CALL = '<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one template takes.

    `calls`: written by the template, put into the content by us, or not at all. `arguments` as the object they mean or as
    text. `reasoning` is the key of an assistant message that the template reads its reasoning from.
    """

    takes_system: bool = True
    takes_developer: bool = True
    must_alternate: bool = False
    takes_tools: bool = True
    calls: Literal["template", "content", "none"] = "template"
    arguments: Literal["object", "text"] = "object"
    reasoning: str | None = "reasoning_content"


class MessageLog:
    """The messages of a chain. Immutable to its users; a longer log shares the entries of the one it extends."""

    __slots__ = ("_count", "_dialect", "_entries", "_lead", "_mask", "_names", "_phase")

    def __init__(self, dialect: Dialect, mask: ContentMask, instructions: str | None) -> None:
        self._dialect = dialect
        self._mask = mask
        self._entries: list[dict[str, Any]] = []
        self._lead = ""  # instructions that wait for a user message
        self._phase: Phase = ""  # of the last message
        self._names: dict[str, str] = {}
        if instructions and dialect.takes_system:
            self._entries.append({"role": "system", "content": mask.mask(instructions)})
        elif instructions:
            self._lead = mask.mask(instructions) + "\n\n"
        self._count = len(self._entries)

    def __len__(self) -> int:
        return self._count

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The messages, for rendering."""
        return self._entries[: self._count]

    def extended(self, items: Sequence[Item]) -> "MessageLog":
        """This log with `items` behind it. Raises UnsupportedValue for what the template has no place for."""
        log = object.__new__(MessageLog)
        log._dialect, log._mask, log._lead, log._phase = self._dialect, self._mask, self._lead, self._phase
        # Appending in place leaves shorter logs alone: they know their own length.
        is_tip = len(self._entries) == self._count
        log._entries = self._entries if is_tip else self.entries
        log._names = self._names if is_tip else dict(self._names)
        log._count = self._count
        for index, item in enumerate(items):
            log._add(item, index)
        return log

    def _add(self, item: Item, index: int) -> None:
        match item:
            case Reasoning():
                text = reasoning_text(item).strip("\n")
                if self._dialect.reasoning is not None and text:
                    self._assistant(item, {self._dialect.reasoning: self._mask.mask(text)})
            case Message(role="assistant"):
                text = text_of(item.content)
                if text:
                    self._assistant(item, {"content": self._mask.mask(text)})
            case Message():
                self._said(item.role, text_of(item.content))
            case OpaqueItem():
                self._said("developer", opaque_text(item))
            case FunctionCall() | CustomToolCall():
                self._call(item, index)
            case FunctionCallOutput() | CustomToolCallOutput():
                self._output(item.call_id, text_of(item.output), index)
            case ItemReference():
                raise AssertionError("references are resolved before rendering")
            case _:
                assert_never(item)

    def _said(self, role: str, text: str) -> None:
        role = "user" if role == "user" or not self._dialect.takes_developer else "system"
        content = self._mask.mask(text)
        if role == "user" and self._lead:
            content, self._lead = self._lead + content, ""
        last = self._last()
        self._phase = ""
        if self._dialect.must_alternate and last is not None and last["role"] == role:
            self._replace({**last, "content": f"{last['content']}\n\n{content}"})
        else:
            self._append({"role": role, "content": content})

    def _assistant(self, item: Item, fields: dict[str, object]) -> None:
        last, phase = self._last(), phase_after(item)
        if last is not None and joins(self._phase, item):
            self._replace({**last, **fields})
        elif self._dialect.must_alternate and last is not None and last["role"] == "assistant" and phase == "text":
            self._replace({**last, "content": f"{last['content']}\n\n{fields['content']}".lstrip("\n")})
        else:
            self._append({"role": "assistant", "content": "", **fields})
        self._phase = phase

    def _call(self, call: CallItem, index: int) -> None:
        self._refuse_tools(index)
        self._names[call.call_id] = call.name
        arguments = call_arguments(call)
        joined = self._last() if joins(self._phase, call) else None
        if self._dialect.calls == "content":
            before = f"{joined['content']}\n" if joined is not None and joined["content"] else ""
            text = HERMES_CALL.format(name=self._mask.mask(call.name), arguments=self._mask.mask(arguments))
            self._assistant(call, {"content": before + text})
            return
        call_object = {
            "id": self._mask.mask(call.call_id),
            "type": "function",
            "function": {"name": self._mask.mask(call.name), "arguments": self._arguments(arguments)},
        }
        earlier = cast("list[object]", joined.get("tool_calls", [])) if joined is not None else []
        self._assistant(call, {"tool_calls": [*earlier, call_object]})

    def _output(self, call_id: str, text: str, index: int) -> None:
        self._refuse_tools(index)
        output = {"role": "tool", "tool_call_id": self._mask.mask(call_id), "content": self._mask.mask(text)}
        name = self._names.get(call_id)
        self._phase = ""
        self._append({**output, "name": self._mask.mask(name)} if name is not None else output)

    def _arguments(self, arguments: str) -> object:
        if self._dialect.arguments == "object":
            try:
                value: object = json.loads(arguments)
            except ValueError:
                value = arguments
            if isinstance(value, dict):
                return self._mask.mask_value(cast("dict[str, object]", value))
        return self._mask.mask(arguments)

    def _refuse_tools(self, index: int) -> None:
        if self._dialect.calls == "none":
            raise UnsupportedValue("This model's chat template has no place for tool calls.", param=f"input[{index}]")

    def _last(self) -> dict[str, Any] | None:
        return self._entries[self._count - 1] if self._count else None

    def _append(self, message: dict[str, Any]) -> None:
        entries = self._entries
        if len(entries) == self._count:
            entries.append(message)
        if entries[self._count] is not message:  # another chain, perhaps on another thread, went on from here first
            self._entries = [*entries[: self._count], message]
        self._count += 1

    def _replace(self, message: dict[str, Any]) -> None:
        # Never in place: a shorter log may hold the same entry.
        self._entries = [*self._entries[: self._count - 1], message]


def tool_objects(tools: Sequence[Tool], mask: ContentMask) -> list[object]:
    """Tools as templates take them, masked. A custom tool is a function with the one argument `input`.

    Templates take description and parameters for granted: a tool without gets empty ones.
    """
    return [mask.mask_value(_tool_object(tool)) for tool in tools if not isinstance(tool, HostedTool)]


def _tool_object(tool: FunctionTool | CustomTool) -> object:
    wrapped: dict[str, dict[str, object]] = json.loads(tool_json(tool))
    given = wrapped["function"]
    function: dict[str, object] = {"name": given["name"], "description": given.get("description", "")}
    function["parameters"] = given.get("parameters", {"type": "object", "properties": {}})
    return {**wrapped, "function": function}
