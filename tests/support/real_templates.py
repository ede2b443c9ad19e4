"""Real chat templates, rendered the way transformers renders them, from items of ours.

    text = RealTemplate("Qwen-Qwen3-0.6B", Style(reasoning="reasoning_content")).render(context, items, generate=True)

The environment is the one of `transformers.utils.chat_template_utils`: sandboxed, trimmed and left-stripped blocks, loop
controls, a `tojson` that is plain `json.dumps` without escaping, `raise_exception` and `strftime_now`. Today is always
`TODAY`. What varies from family to family in how items become chat messages is a `Style`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

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

ASSETS = Path(__file__).parents[2] / ".assets"
TODAY = datetime(2026, 7, 26)

ChatMessage = dict[str, Any]
Kind = Literal["reasoning", "text", "call"]


def asset(path: str) -> Path:
    """A file under `.assets`, which `make` fetches before the tests."""
    found = ASSETS / path
    assert found.exists(), f"{path} is missing: run `make test`, or tools/assets/fetch.py .assets"
    return found


def template_names() -> list[str]:
    """Every real template there is."""
    return sorted(path.stem for path in asset("templates").glob("*.jinja"))


@cache
def template_source(name: str) -> str:
    """The Jinja text of `.assets/templates/NAME.jinja`."""
    return asset(f"templates/{name}.jinja").read_text()


# An assistant message takes an item if what it holds last is listed here for that item.
CHAT_JOINS: Mapping[Kind, frozenset[Kind]] = {
    "reasoning": frozenset(),
    "text": frozenset({"reasoning"}),
    "call": frozenset({"reasoning", "text", "call"}),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one family's template wants its messages.

    `reasoning` is the key of an assistant message's reasoning (None: reasoning is left out). `arguments` of a call are given
    as the object they mean or as their text. `no_text` is the content of an assistant message without any. `variables` are
    passed to the template beside the messages (`bos_token`, `enable_thinking`, …). `instructions` and developer messages
    have the role `system`/`developer`. `finish` may change the messages at the end.
    """

    reasoning: str | None = "reasoning_content"
    arguments: Literal["object", "text"] = "object"
    no_text: str | None = ""
    system: str = "system"
    developer: str = "system"
    joins: Mapping[Kind, frozenset[Kind]] = field(default_factory=lambda: CHAT_JOINS)
    variables: Mapping[str, object] = field(default_factory=dict[str, object])
    tool: Callable[[FunctionTool | CustomTool], ChatMessage] = field(default=lambda tool: tool_object(tool))  # noqa: PLW0108 - it is defined below
    finish: Callable[[list[ChatMessage]], list[ChatMessage]] = lambda messages: messages


Edit = tuple[str, str]


class RealTemplate:
    """One real template and the style its messages are written in.

    `edits` replace pieces of the template's source, wherever they stand: what a format writes otherwise, on purpose.
    """

    def __init__(self, name: str, style: Style | None = None, edits: Sequence[Edit] = ()) -> None:
        self.name = name
        self.style = style or Style()
        self._source = template_source(name)
        for old, new in edits:
            assert old in self._source, f"{name} has no {old!r}"
            self._source = self._source.replace(old, new)

    def render(
        self, context: PromptContext, items: Sequence[Item], *, generate: bool = False, **variables: object
    ) -> str:
        """The whole conversation; `variables` go before those of the style."""
        tools = [self.style.tool(tool) for tool in context.tools if not isinstance(tool, HostedTool)]
        messages = messages_of(items, self.style)
        if context.instructions:
            messages.insert(0, {"role": self.style.system, "content": context.instructions})
        return self.render_messages(messages, tools, generate=generate, **variables)

    def render_messages(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ChatMessage] = (),
        *,
        generate: bool = False,
        **variables: object,
    ) -> str:
        """Chat messages as they are."""
        given: dict[str, object] = {**self.style.variables, **variables}
        return compiled(self._source).render(
            messages=self.style.finish(list(messages)),
            tools=list(tools) or None,
            documents=None,
            add_generation_prompt=generate,
            **given,
        )


def messages_of(items: Sequence[Item], style: Style) -> list[ChatMessage]:
    """Items as chat messages. Items of one answer share an assistant message as far as `style.joins` lets them."""
    messages: list[ChatMessage] = []
    last: Kind | None = None  # what the assistant message under construction holds last
    names: dict[str, str] = {}

    def assistant(kind: Kind) -> ChatMessage:
        nonlocal last
        if last is None or last not in style.joins[kind]:
            messages.append({"role": "assistant", "content": style.no_text})
        last = kind
        return messages[-1]

    for item in items:
        match item:
            case Reasoning():
                text = text_of(item.content or item.summary)
                if style.reasoning is not None and text:
                    assistant("reasoning")[style.reasoning] = text
            case Message(role="assistant"):
                if text := text_of(item.content):
                    assistant("text")["content"] = text
            case FunctionCall() | CustomToolCall():
                names[item.call_id] = item.name
                call = {"id": item.call_id, "type": "function", "function": _function(item, style)}
                assistant("call").setdefault("tool_calls", []).append(call)
            case FunctionCallOutput() | CustomToolCallOutput():
                output: ChatMessage = {"role": "tool", "tool_call_id": item.call_id, "content": text_of(item.output)}
                messages.append({**output, "name": names[item.call_id]} if item.call_id in names else output)
                last = None
            case Message():
                role = "user" if item.role == "user" else style.developer
                messages.append({"role": role, "content": text_of(item.content)})
                last = None
            case OpaqueItem():
                messages.append({"role": style.developer, "content": item.raw.decode()})
                last = None
            case _:
                raise AssertionError(item)
    return messages


def _function(call: FunctionCall | CustomToolCall, style: Style) -> ChatMessage:
    """A custom tool's text is the argument `input`."""
    if isinstance(call, CustomToolCall):
        arguments = json.dumps({"input": call.input}, ensure_ascii=False)
    else:
        arguments = call.arguments if call.arguments.strip() else "{}"
    return {"name": call.name, "arguments": json.loads(arguments) if style.arguments == "object" else arguments}


def tool_object(tool: FunctionTool | CustomTool) -> ChatMessage:
    """A tool as chat templates expect it. A custom tool is a function with the one argument `input`."""
    function: ChatMessage = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if isinstance(tool, CustomTool):
        function["parameters"] = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    elif tool.parameters is not None:
        function["parameters"] = json.loads(bytes(tool.parameters))
    return {"type": "function", "function": function}


# --- transformers' environment ---


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's part for training; it writes what is inside."""

    tags: ClassVar[set[str]] = {"generation"}  # type: ignore[misc]  # jinja2 declares it on the instance

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return TODAY.strftime(format)


@cache
def compiled(source: str) -> jinja2.Template:
    """The template as transformers compiles it."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.filters["from_json"] = json.loads  # llama.cpp's; transformers' templates are given objects
    functions: dict[str, object] = {"raise_exception": _raise, "strftime_now": _strftime_now}
    return environment.from_string(source, globals=functions)
