"""The chat templates of Qwen2.5 and Qwen3 as Jinja, to compare renderings with.

Same logic as the published templates, in our wording, with the differences that `formats/families/chatml/dialect.py` lists
as its own: the system text is given apart from the messages, an empty think block stays until the next question, and a
history without questions keeps its reasoning.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

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
from hotloop.protocol.tools import CustomTool, FunctionTool, HostedTool
from hotloop.seams.prompt import PromptContext

_TEMPLATE = r"""
{%- macro open(role) -%}{{ "<|im_start|>" + role + "\n" }}{%- endmacro -%}
{%- set close = "<|im_end|>\n" -%}
{%- if tools -%}
  {{- open("system") }}
  {%- if system %}{{- system + "\n\n" }}{% endif %}
  {{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n" }}
  {{- "You are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
  {%- for tool in tools %}{{- "\n" + dumps(tool) }}{% endfor %}
  {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within " }}
  {{- "<tool_call></tool_call> XML tags:\n<tool_call>\n" }}
  {{- '{"name": <function-name>, "arguments": <args-json-object>}' + "\n</tool_call>" + close }}
{%- elif system -%}
  {{- open("system") + system + close }}
{%- endif -%}
{%- set last = namespace(query=-1) -%}
{%- for message in messages -%}
  {%- set text = message.content -%}
  {%- if message.role == "user" and not (text.startswith("<tool_response>") and text.endswith("</tool_response>")) -%}
    {%- set last.query = loop.index0 -%}
  {%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
  {%- if message.role in ("user", "system") -%}
    {{- open(message.role) + message.content + close }}
  {%- elif message.role == "assistant" -%}
    {{- open("assistant") }}
    {%- set shown = thinking and (keep or loop.index0 > last.query) -%}
    {%- if shown and (message.reasoning or off) -%}
      {{- "<think>\n" + message.reasoning.strip("\n") + "\n</think>\n\n" + message.content.lstrip("\n") }}
    {%- else -%}
      {{- message.content }}
    {%- endif -%}
    {%- for call in message.calls -%}
      {%- if message.content or not loop.first %}{{- "\n" }}{% endif -%}
      {{- '<tool_call>\n{"name": "' + call.name + '", "arguments": ' + call.arguments + "}\n</tool_call>" }}
    {%- endfor -%}
    {{- close }}
  {%- else -%}
    {%- if loop.first or loop.previtem.role != "tool" %}{{- "<|im_start|>user" }}{% endif -%}
    {{- "\n<tool_response>\n" + message.content + "\n</tool_response>" }}
    {%- if loop.last or loop.nextitem.role != "tool" %}{{- close }}{% endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if generate -%}
  {{- open("assistant") }}
  {%- if thinking and off %}{{- "<think>\n\n</think>\n\n" }}{% endif -%}
{%- endif -%}
"""


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


_compiled = jinja2.Environment(keep_trailing_newline=True).from_string(_TEMPLATE.strip("\n"))


@dataclass(frozen=True)
class Family:
    """What the template of one family varies in."""

    thinking: bool
    default_system: str | None = None


def render(family: Family, context: PromptContext, items: Sequence[Item], *, generate: bool = False) -> str:
    """The text of a whole conversation."""
    return _compiled.render(
        system=context.instructions or family.default_system,
        tools=[tool_object(tool) for tool in context.tools if not isinstance(tool, HostedTool)],
        messages=messages_of(items, thinking=family.thinking),
        thinking=family.thinking,
        keep=context.keep_reasoning,
        off=context.reasoning_effort == "none",
        generate=generate,
        dumps=_dumps,
    )


def tool_object(tool: FunctionTool | CustomTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if isinstance(tool, CustomTool):
        function["parameters"] = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    elif tool.parameters is not None:
        function["parameters"] = json.loads(bytes(tool.parameters))
    return {"type": "function", "function": function}


def messages_of(items: Sequence[Item], *, thinking: bool) -> list[dict[str, Any]]:
    """Items as chat messages: reasoning, text and calls of one answer make one assistant message."""
    messages: list[dict[str, Any]] = []
    joinable = ""  # what the last message may still take
    for item in items:
        match item:
            case Reasoning():
                text = text_of(item.content or item.summary)
                if thinking and text.strip("\n"):
                    messages.append(_assistant(reasoning=text))
                    joinable = "text calls"
            case Message(role="assistant"):
                text = text_of(item.content)
                if not text:
                    continue
                if "text" not in joinable:
                    messages.append(_assistant())
                messages[-1]["content"] = text
                joinable = "calls"
            case FunctionCall() | CustomToolCall():
                if "calls" not in joinable:
                    messages.append(_assistant())
                messages[-1]["calls"].append({"name": item.name, "arguments": _arguments(item)})
                joinable = "calls"
            case FunctionCallOutput() | CustomToolCallOutput():
                messages.append({"role": "tool", "content": text_of(item.output)})
                joinable = ""
            case Message():
                role = "user" if item.role == "user" else "system"
                messages.append({"role": role, "content": text_of(item.content)})
                joinable = ""
            case OpaqueItem():
                messages.append({"role": "system", "content": item.raw.decode()})
                joinable = ""
            case _:
                raise AssertionError(item)
    return messages


def _assistant(reasoning: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": "", "reasoning": reasoning, "calls": []}


def _arguments(call: FunctionCall | CustomToolCall) -> str:
    if isinstance(call, CustomToolCall):
        return _dumps({"input": call.input})
    return call.arguments if call.arguments.strip() else "{}"
