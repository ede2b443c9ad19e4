"""The grammar of DSML calls.

A strict tool's parameters stand in the order of its schema, required ones always; each value fits its part of the schema: a
string that is not one of a fixed set is any text. Other functions take any parameters, a custom tool its one text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from hotloop.formats.bases.answers.grammar import Opening
from hotloop.formats.families.deepseek.dsml import DSML, section, section_end
from hotloop.formats.grammar.answer import WriteRules
from hotloop.formats.grammar.parts import (
    ANY_TEXT,
    SPACED,
    AllowedTool,
    argument_schema,
    choices,
    json_value,
    literal,
    mark,
    raw_input,
    raw_input_until,
    spelling,
)
from hotloop.protocol.tools import GrammarFormat

_KEY = r"/[^\x00-\x1f\x22>]+/"
_HEAD = 'parameter name="'
_STRING = '" string="true">'
_OTHER = '" string="false">'
_NO_STRING = {"type": ["number", "boolean", "null", "array", "object"]}
_PARAMETER_END = "parameter>\n"


def dsml_opening(token: int | None, name: str) -> Opening:
    """How calls begin in a section of this name."""
    if token is None:
        return Opening(None, section(name), before="\n\n", behind="\n")
    return Opening(token, DSML, before="\n\n<", behind=f"{name}>\n")


def dsml_calls(token: int | None, name: str) -> WriteRules:
    """Calls in a section of this name; `token` is that of DSML."""

    def write(tools: Sequence[AllowedTool], several: bool) -> list[str]:
        tags = _Tags(token)
        start, _, rest = section_end(name).partition(DSML)
        lines = [f"row: invoke{'+' if several else ''} {tags.tag(start, rest)}", *tags.loose_rules()]
        invokes: list[str] = []
        for index, allowed in enumerate(tools):
            head = tags.tag("<", f'invoke name="{allowed.name}">\n')
            invokes.append(f"{head} parameters_{index} {tags.tag('</', 'invoke>' + chr(10))}")
            lines += _parameters(index, allowed, tags)
        return [*lines, choices("invoke", invokes)]

    return write


class _Tags:
    """Expressions of tags, with DSML as a token or spelled."""

    def __init__(self, token: int | None) -> None:
        self._token = token

    def tag(self, start: str, rest: str) -> str:
        """A tag around DSML."""
        return f"{literal(start)} {mark(self._token, DSML)} {literal(rest)}"

    def text(self, key: str, allowed: AllowedTool | None = None) -> str:
        """A parameter that is any text, or the text of a custom tool."""
        return f"{self.tag('<', f'{_HEAD}{key}{_STRING}')} {self.text_and_end(allowed)}"

    def text_and_end(self, allowed: AllowedTool | None = None) -> str:
        """Text up to the first closing tag, and that tag."""
        spelled = f"</{DSML}{_PARAMETER_END}"
        if self._token is None:
            if allowed is not None:
                return raw_input_until(allowed, spelled)
            return f"%lark {{\nstart: text\ntext[suffix={literal(spelled)}]: {ANY_TEXT}\n}}"
        end = f"<[{self._token}]> {literal(_PARAMETER_END)}"
        inner = ANY_TEXT if allowed is None else raw_input(allowed)
        if allowed is not None and _is_lark(allowed):
            return f"{inner} {literal('</')} {end}"
        return f"/(?:{inner[1:-1]})<\\// {end}"  # only the token ends the text: it may hold `</` itself

    def json(self, key: str, schema: object, param: str) -> str:
        """A parameter that is JSON."""
        head = self.tag("<", f"{_HEAD}{key}{_OTHER}")
        return f"{head} {json_value(schema, SPACED, param)} {self.tag('</', _PARAMETER_END)}"

    def fixed(self, key: str, value: object) -> str:
        """A parameter of exactly this value."""
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        head = f"{_HEAD}{key}{_STRING if isinstance(value, str) else _OTHER}{text}</"
        start, end = self.tag("<", head), self.tag("", _PARAMETER_END)
        return f"{start} {end.removeprefix(literal('') + ' ')}"

    def loose_rules(self) -> list[str]:
        """Any parameter."""
        text = f"{self.tag('<', _HEAD)} {_KEY} {literal(_STRING)} {self.text_and_end()}"
        value = f"{self.tag('<', _HEAD)} {_KEY} {literal(_OTHER)} any_value {self.tag('</', _PARAMETER_END)}"
        rules = [f"any_parameter: {text} | {value}", f"any_value: {json_value(_NO_STRING, SPACED, 'tools')}"]
        return rules if self._token is None else [*rules, spelling(self._token, DSML)]


def _is_lark(allowed: AllowedTool) -> bool:
    format = getattr(allowed.tool, "format", None)
    return isinstance(format, GrammarFormat) and format.syntax == "lark"


def _parameters(index: int, allowed: AllowedTool, tags: _Tags) -> list[str]:
    if allowed.is_custom:
        return [f"parameters_{index}: {tags.text('input', allowed)}"]
    schema = argument_schema(allowed)
    properties: object = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return [f"parameters_{index}: any_parameter*"]
    required: object = schema.get("required", [])
    needed = cast("list[str]", required) if isinstance(required, list) else []
    shared: dict[str, object] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    parts: list[str] = []
    lines: list[str] = []
    for place, (key, value) in enumerate(cast("dict[str, Any]", properties).items()):
        rule = f"parameter_{index}_{place}"
        parts.append(rule if key in needed else f"{rule}?")
        lines.append(choices(rule, _ways(key, value, shared, f"{allowed.param}.parameters", tags)))
    return [f"parameters_{index}: {' '.join(parts)}", *lines]


def _ways(key: str, schema: object, shared: Mapping[str, object], param: str, tags: _Tags) -> list[str]:
    """How one property may be written: as text where it is a string, else as JSON."""
    fields = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}
    values: object = [fields["const"]] if "const" in fields else fields.get("enum")
    if isinstance(values, list):
        return [tags.fixed(key, value) for value in cast("list[object]", values)]
    kinds: object = fields.get("type")
    if kinds == "string":
        return [tags.text(key)]
    if isinstance(kinds, list) and "string" in kinds:
        others = [kind for kind in cast("list[object]", kinds) if kind != "string"]
        return [tags.text(key), *([tags.json(key, {**shared, **fields, "type": others}, param)] if others else [])]
    if kinds is None and not any(name in fields for name in ("$ref", "anyOf", "oneOf", "allOf")):
        return [tags.text(key), tags.json(key, {**shared, **fields, **_NO_STRING}, param)]
    return [tags.json(key, {**shared, **fields}, param)]
