"""The grammar that keeps ChatML calls and JSON answers well-formed, as llguidance Lark.

    auto              text is free until `<tool_call>`; from there one call of an allowed tool
    required, named   (think block) then calls of allowed tools: several for `required` with parallel calls, else one
    none              anything but `<tool_call>`
    text schema       (think block) then JSON; with `auto` and tools: either calls or JSON

JSON is written the way `json.dumps` writes it, as in the training data: `{"a": 1, "b": 2}`. The arguments of a strict tool
fit its schema, those of any other function tool are some JSON object. A custom tool's text is the string `input`: a regex
format is enforced inside it; a Lark format is not, because the text is JSON-escaped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from hotloop.errors import InvalidRequest
from hotloop.protocol.tools import CustomTool, FunctionTool, GrammarFormat, HostedTool, Tool
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules

_STYLE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


@dataclass(frozen=True, slots=True)
class Markers:
    """Ids of the family's inner markers; None where the vocabulary spells them as text."""

    think: int | None
    think_end: int | None
    call: int | None
    call_end: int | None


def build_constraint(tools: Sequence[Tool], rules: CallRules, markers: Markers, *, thinks: bool) -> Constraint | None:
    """The grammar for `rules`. `thinks`: a think block may come first. Raises InvalidRequest where nothing is allowed."""
    allowed = [
        tool
        for tool in tools
        if not isinstance(tool, HostedTool) and (rules.allowed is None or tool.name in rules.allowed)
    ]
    if rules.choice in ("required", "named"):
        if not allowed:
            raise InvalidRequest("A tool call is required, but no callable tool is allowed.", param="tool_choice")
        several = rules.choice == "required" and rules.parallel
        return _ruled(["calls"], _calls(allowed, markers, several=several), markers, thinks=thinks)
    callable_now = allowed if rules.choice == "auto" else []
    if rules.text_schema is not None:
        lines = [f"json: %json {_schema(json.loads(rules.text_schema))}"]
        if not callable_now:
            return _ruled(["json"], lines, markers, thinks=thinks)
        lines += _calls(callable_now, markers, several=rules.parallel)
        return _ruled(["calls", "json"], lines, markers, thinks=thinks)
    if callable_now:
        return _after_trigger(callable_now, markers, once=not rules.parallel)
    if any(not isinstance(tool, HostedTool) for tool in tools) and markers.call is not None:
        return Constraint(f"start: <[^{markers.call}]>*")
    return None


def _after_trigger(tools: Sequence[FunctionTool | CustomTool], markers: Markers, *, once: bool) -> Constraint | None:
    if markers.call is None:
        return None  # without a token to wait for, free text cannot be told from a call
    lines = ["start: call", *_call_rules(tools, markers)]
    return Constraint("\n".join(lines), trigger=markers.call, once=once)


def _ruled(starts: Sequence[str], lines: Sequence[str], markers: Markers, *, thinks: bool) -> Constraint:
    answer = " | ".join(starts)
    if not thinks or markers.think is None or markers.think_end is None:
        return Constraint("\n".join([f"start: {answer}", *lines]))
    think = f'think: <[{markers.think}]> /(?s:.*)/ <[{markers.think_end}]> "\\n\\n"'
    return Constraint("\n".join([f"start: think? answer\nanswer: {answer}", think, *lines]))


def _calls(tools: Sequence[FunctionTool | CustomTool], markers: Markers, *, several: bool) -> list[str]:
    opening = _mark(markers.call, "<tool_call>")
    more = f' ("\\n" {opening} call)*' if several else ""
    return [f"calls: {opening} call{more}", *_call_rules(tools, markers)]


def _call_rules(tools: Sequence[FunctionTool | CustomTool], markers: Markers) -> list[str]:
    closing = _mark(markers.call_end, "</tool_call>")
    choices: list[str] = []
    lines: list[str] = []
    for index, tool in enumerate(tools):
        head = json.dumps(f'\n{{"name": "{tool.name}", "arguments": ')
        choices.append(f'{head} arguments_{index} "}}\\n" {closing}')
        lines.append(f"arguments_{index}: %json {_schema(_arguments_schema(tool))}")
    return ["call: " + " | ".join(choices), *lines]


def _arguments_schema(tool: FunctionTool | CustomTool) -> object:
    if isinstance(tool, FunctionTool):
        if tool.strict and tool.parameters is not None:
            return json.loads(bytes(tool.parameters))
        return {"type": "object"}
    text: dict[str, object] = {"type": "string"}
    if isinstance(tool.format, GrammarFormat) and tool.format.syntax == "regex":
        text["pattern"] = f"^(?:{tool.format.definition})$"
    return {"type": "object", "properties": {"input": text}, "required": ["input"], "additionalProperties": False}


def _schema(schema: object) -> str:
    if schema is True or schema == {}:
        schema = {"type": "object"}
    if not isinstance(schema, dict):
        raise InvalidRequest("A JSON schema must be an object.", param="text.format.schema")
    return json.dumps({"x-guidance": _STYLE, **schema})


def _mark(token: int | None, spelling: str) -> str:
    return json.dumps(spelling) if token is None else f"<[{token}]>"
