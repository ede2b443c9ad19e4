"""The chat template of gpt-oss, told what it cannot express.

The template renders everything it has words for. Where it would fail or drop something, a user message stands in as a
placeholder, and what `formats/families/harmony/format.py` documents is put in its place afterwards. The line with the date
is taken out.
"""

import json
from collections.abc import Sequence

from tests.support.real_templates import TODAY, ChatMessage, RealTemplate, Style, tool_object

from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    text_of,
)
from hotloop.protocol.tools import CustomTool, FunctionTool
from hotloop.seams.prompt import PromptContext

_DATE = f"Current date: {TODAY:%Y-%m-%d}\n"
_NO_DESCRIPTION = "@@no-description@@"
_PROMPT = "<|start|>assistant"


def _tool(tool: FunctionTool | CustomTool) -> ChatMessage:
    described = tool_object(tool)
    described["function"].setdefault("description", _NO_DESCRIPTION)
    return described


_template = RealTemplate("openai-gpt-oss-120b", Style(reasoning="thinking", tool=_tool))


def render(context: PromptContext, items: Sequence[Item], *, generate: bool = False, effort: str = "medium") -> str:
    """The text of a whole conversation."""
    oracle = _Oracle(context, items)
    for index, item in enumerate(items):
        oracle.add(index, item)
    if context.instructions:
        oracle.messages.insert(0, {"role": "system", "content": context.instructions})
    tools = [_tool(tool) for tool in context.tools if isinstance(tool, FunctionTool | CustomTool)]
    messages: Sequence[ChatMessage] = oracle.messages or [{"role": "nobody"}]  # the template looks at the first
    text = _template.render_messages(messages, tools, generate=True, reasoning_effort=effort)
    text = text.replace(_DATE, "", 1).replace(f"// {_NO_DESCRIPTION}\n", "")
    for place, meant in oracle.places:
        assert text.count(place) == 1
        text = text.replace(place, meant)
    return text if generate else text.removesuffix(_PROMPT)


class _Oracle:
    """Items as messages, with placeholders."""

    def __init__(self, context: PromptContext, items: Sequence[Item]) -> None:
        self.messages: list[ChatMessage] = []
        self.places: list[tuple[str, str]] = []
        self._items = items
        self._is_bare = not context.instructions
        self._keeps = context.keep_reasoning
        self._names: dict[str, str] = {}
        self._last = ""  # by our rule
        self._template_last = ""  # by the template's

    def add(self, index: int, item: Item) -> None:
        match item:
            case Reasoning():
                self._reasoning(index, text_of(item.content or item.summary))
            case Message(role="assistant", phase="commentary"):
                self._instead(f"{_PROMPT}<|channel|>commentary<|message|>{text_of(item.content)}<|end|>")
            case Message(role="assistant"):
                self.messages.append({"role": "assistant", "content": text_of(item.content)})
                self._template_last = ""
            case Message(role="user"):
                self.messages.append({"role": "user", "content": text_of(item.content)})
            case Message():
                self._developer(index, text_of(item.content))
            case OpaqueItem():
                self._developer(index, item.raw.decode())
            case FunctionCall() | CustomToolCall():
                self._call(index, item)
            case FunctionCallOutput() | CustomToolCallOutput():
                self._output(item)
            case _:
                raise AssertionError(item)

    def _instead(self, meant: str) -> None:
        word = f"@@{len(self.places)}@@"
        self.messages.append({"role": "user", "content": word})
        self.places.append((f"<|start|>user<|message|>{word}<|end|>", meant))

    def _developer(self, index: int, text: str) -> None:
        if index == 0 and self._is_bare and not isinstance(self._items[0], OpaqueItem):
            self.messages.append({"role": "developer", "content": text})
        else:
            self._instead(f"<|start|>developer<|message|># Instructions\n\n{text}\n\n<|end|>")

    def _reasoning(self, index: int, text: str) -> None:
        follows = self._items[index + 1 : index + 2]
        if not text or (not self._keeps and any(isinstance(item, FunctionCall | CustomToolCall) for item in follows)):
            return  # the call takes it along
        is_dropped = not self._keeps and any(_is_final(item) for item in self._items[index:])
        if not is_dropped:
            self._instead(f"{_PROMPT}<|channel|>analysis<|message|>{text}<|end|>")

    def _call(self, index: int, item: FunctionCall | CustomToolCall) -> None:
        if isinstance(item, CustomToolCall):
            arguments = json.dumps({"input": item.input}, ensure_ascii=False)
        else:
            arguments = item.arguments if item.arguments.strip() else "{}"
        word = f"@@{len(self.places)}@@"
        self.places.append((f'"{word}"', arguments))  # verbatim, where the template would write the object anew
        call: ChatMessage = {"role": "assistant", "content": ""}
        before = self._items[index - 1] if index else None
        if not self._keeps and isinstance(before, Reasoning):
            call["thinking"] = text_of(before.content or before.summary)
        call["tool_calls"] = [{"function": {"name": item.name, "arguments": word}}]
        self.messages.append(call)
        self._names[item.call_id] = self._last = self._template_last = item.name

    def _output(self, item: FunctionCallOutput | CustomToolCallOutput) -> None:
        name = self._names.pop(item.call_id, self._last)
        text = text_of(item.output)
        if name and name == self._template_last:
            self.messages.append({"role": "tool", "content": text})
            return
        author = f"functions.{name}" if name else "functions"
        content = json.dumps(text, ensure_ascii=False)
        self._instead(f"<|start|>{author} to=assistant<|channel|>commentary<|message|>{content}<|end|>")


def _is_final(item: Item) -> bool:
    return isinstance(item, Message) and item.role == "assistant" and item.phase != "commentary"
