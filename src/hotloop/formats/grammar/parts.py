"""What every family's call grammar is built from: which tools, their arguments, the frame around them.

A family asks `plan` what may be written this turn, writes its calls around `arguments` or `raw_input`, and wraps the result
with `ruled` or `after_trigger`. Expressions are symbols of an llguidance Lark rule. A stop token never stands in a grammar: it
may follow where the grammar may end. What cannot be ruled is refused, naming the request's field, never left unenforced.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from hotloop.errors import ApiError, InvalidRequest, SchemaTooComplex, UnsupportedValue
from hotloop.formats.grammar.lark_reader import parse_lark
from hotloop.formats.grammar.lark_writer import write_lark
from hotloop.formats.grammar.regex_text import Concat, PatternError, Writing, character, parse_pattern, write_pattern
from hotloop.formats.grammar.structural_tag import LazyForm
from hotloop.formats.grammar.text_formats import TEXT_FORMATS
from hotloop.protocol.tools import CustomTool, FunctionTool, GrammarFormat, HostedTool
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext

Json = dict[str, "Json"] | list["Json"] | str | float | bool | None

MAX_SCHEMA_BYTES = 262_144
ANY_TEXT = "/(?s:.*)/"
_QUOTED_TEXT = r"/(?:[^\x00-\x1f\x22\x5c]|\x5c[\x22\x5cbfnrt]|\x5cu00[01][0-9a-f])*/"


@dataclass(frozen=True, slots=True)
class JsonStyle:
    """How a family's training data writes JSON: nothing else is allowed, so that what is sampled renders back the same."""

    item_separator: str
    key_separator: str


SPACED = JsonStyle(", ", ": ")  # json.dumps, and `tojson` in a template
COMPACT = JsonStyle(",", ":")


@dataclass(frozen=True, slots=True)
class AllowedTool:
    """A tool that may be called, and the path of its field in the request."""

    tool: FunctionTool | CustomTool
    param: str

    @property
    def name(self) -> str:
        """As offered."""
        return self.tool.name

    @property
    def is_custom(self) -> bool:
        """Its argument is text."""
        return isinstance(self.tool, CustomTool)


# --- what may be written this turn ---


@dataclass(frozen=True, slots=True)
class Anything:
    """No tool was offered and no schema asked for."""


@dataclass(frozen=True, slots=True)
class NoCalls:
    """Tools were offered, none may be called."""


@dataclass(frozen=True, slots=True)
class FreeText:
    """Text, and calls of `tools` where the model begins one. `several`: more than one in this turn."""

    tools: tuple[AllowedTool, ...]
    several: bool


@dataclass(frozen=True, slots=True)
class Forced:
    """Calls of `tools`, or, where `schema` is set, either those or text that fits it. Without tools only the text."""

    tools: tuple[AllowedTool, ...]
    several: bool
    schema: str | None = None  # the expression


Plan = Anything | NoCalls | FreeText | Forced


def plan(context: PromptContext, rules: CallRules, style: JsonStyle) -> Plan:
    """What `rules` allow. Raises InvalidRequest where a call is required and none is possible."""
    allowed = allowed_tools(context, rules)
    if rules.choice in ("required", "named"):
        if not allowed:
            raise InvalidRequest("A tool call is required, but no callable tool is allowed.", param="tool_choice")
        return Forced(allowed, several=rules.choice == "required" and rules.parallel)
    callable_now = allowed if rules.choice == "auto" else ()
    if rules.text_schema is not None:
        schema = json_value(_loaded(rules.text_schema, "text.format.schema"), style, "text.format.schema")
        return Forced(callable_now, several=rules.parallel, schema=schema)
    if callable_now:
        return FreeText(callable_now, several=rules.parallel)
    if any(not isinstance(tool, HostedTool) for tool in context.tools):
        return NoCalls()
    return Anything()


def allowed_tools(context: PromptContext, rules: CallRules) -> tuple[AllowedTool, ...]:
    """The callable tools among those offered."""
    return tuple(
        AllowedTool(tool, context.place_of_tool(index))
        for index, tool in enumerate(context.tools)
        if not isinstance(tool, HostedTool) and (rules.allowed is None or tool.name in rules.allowed)
    )


# --- values ---


def arguments(allowed: AllowedTool, style: JsonStyle) -> str:
    """The arguments of a call as JSON: of a strict tool its schema, of another function some object, of a custom tool the
    object `{"input": TEXT}` with the text ruled inside the string."""
    tool = allowed.tool
    if isinstance(tool, CustomTool):
        opening = literal(f'{{"input"{style.key_separator}"')
        return f"{opening} {quoted_input(allowed)} {literal(chr(34) + '}')}"
    schema: Any = {"type": "object"}
    if tool.strict and tool.parameters is not None:
        schema = _loaded(bytes(tool.parameters), f"{allowed.param}.parameters")
    return json_value(schema, style, f"{allowed.param}.parameters")


def argument_schema(allowed: AllowedTool) -> "dict[str, Any]":
    """The JSON schema of a function tool's arguments as decoded, for families that write them key by key."""
    tool = allowed.tool
    assert isinstance(tool, FunctionTool)
    if not tool.strict or tool.parameters is None:
        return {"type": "object"}
    schema: dict[str, Any] = _loaded(
        bytes(tool.parameters), f"{allowed.param}.parameters"
    )  # tools are objects: decode_tools
    return schema


def json_value(schema: Any, style: JsonStyle, param: str) -> str:
    """JSON that fits `schema`, written in `style`. The empty schema is any object."""
    if schema is True or schema == {}:
        schema = {"type": "object"}
    if not isinstance(schema, dict):
        raise InvalidRequest("A JSON schema must be an object.", param=param)
    _check_patterns(schema, param)
    options = {
        "item_separator": style.item_separator,
        "key_separator": style.key_separator,
        "whitespace_flexible": False,
    }
    return f"%json {json.dumps({**schema, 'x-guidance': options})}"


def _check_patterns(schema: Any, param: str) -> None:
    """Raise SchemaTooComplex for a `pattern` that only has to be written to be expensive; the compiler judges the rest."""
    waiting: list[Json] = [cast("Json", schema)]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            by_name = found.get("patternProperties")
            for source in [found.get("pattern"), *(by_name if isinstance(by_name, dict) else ())]:
                if isinstance(source, str):
                    _check_pattern(source, param)
            waiting += found.values()
        elif isinstance(found, list):
            waiting += found


def _check_pattern(source: str, param: str) -> None:
    try:
        parse_pattern(source)
    except PatternError as error:
        if error.is_too_big:
            raise SchemaTooComplex(f"A pattern of the JSON schema cannot be used: {error}.", param=param) from error


def string_text(schema: "dict[str, Any]", param: str) -> str:
    """A string of a JSON schema without quotation marks, ruled by its `pattern`, found anywhere, or length, or `format`."""
    pattern = schema.get("pattern")
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if isinstance(pattern, str):
        front = "" if pattern.startswith("^") else "(?s:.*)"
        behind = "" if pattern.endswith("$") and not pattern.endswith("\\$") else "(?s:.*)"
        try:
            return f"/{front}(?:{write_pattern(parse_pattern(pattern, is_ecma=True), 'raw')}){behind}/"
        except PatternError as error:
            raise _refusal(error, param) from error
    if isinstance(least, int) and (least or isinstance(most, int)):
        return f"/(?s:.{{{least},{most if isinstance(most, int) else ''}}})/"
    form = TEXT_FORMATS.get(str(schema.get("format")))
    return ANY_TEXT if form is None else f"/{form}/"


def raw_input(allowed: AllowedTool) -> str:
    """A custom tool's text as it is, for families that end it with a control token."""
    return _input(allowed, "raw")


def raw_input_until(allowed: AllowedTool, closing: str) -> str:
    """A custom tool's text and `closing` behind it, for families that spell the end. The text ends at the first one."""
    tool = allowed.tool
    assert isinstance(tool, CustomTool)
    if isinstance(tool.format, GrammarFormat) and tool.format.syntax == "lark":
        return f"{_input(allowed, 'raw')} {literal(closing)}"
    return f"%lark {{\nstart: text\ntext[suffix={literal(closing)}]: {_input(allowed, 'raw')}\n}}"


def quoted_input(allowed: AllowedTool) -> str:
    """A custom tool's text inside a JSON string, without the quotation marks, as `json.dumps` escapes it."""
    return _input(allowed, "json")


def _input(allowed: AllowedTool, writing: Writing) -> str:
    tool = allowed.tool
    assert isinstance(tool, CustomTool)
    if not isinstance(tool.format, GrammarFormat):
        return ANY_TEXT if writing == "raw" else _QUOTED_TEXT
    definition = tool.format.definition
    try:
        if tool.format.syntax == "regex":
            return f"/{write_pattern(parse_pattern(definition), writing) or '(?:)'}/"
        return write_lark(parse_lark(definition), writing)
    except PatternError as error:
        raise _refusal(error, f"{allowed.param}.format.definition") from error


def _refusal(error: PatternError, param: str) -> ApiError:
    message = f"The tool's grammar cannot be used: {error}."
    return SchemaTooComplex(message, param=param) if error.is_too_big else UnsupportedValue(message, param=param)


def _loaded(schema: bytes, param: str) -> Any:
    if len(schema) > MAX_SCHEMA_BYTES:
        raise SchemaTooComplex(f"The JSON schema is longer than {MAX_SCHEMA_BYTES} bytes.", param=param)
    try:
        return json.loads(schema)
    except RecursionError:
        raise SchemaTooComplex("The JSON schema nests too deep.", param=param) from None


# --- the frame ---


def literal(text: str) -> str:
    """Exactly this text."""
    return json.dumps(text, ensure_ascii=False)


def mark(token: int | None, spelling: str) -> str:
    """A marker: its control token where the vocabulary has one, else its spelling."""
    return literal(spelling) if token is None else f"<[{token}]>"


def spelling(token: int, text: str) -> str:
    """A terminal that no rule uses: it tells `structural_tag` how a marker is spelled that ends a text in mid-token."""
    return f"SPELLING_{token}: {literal(text)}"


def think_block(opening: str, closing: int | None, spelling: str, after: str = "") -> str:
    """A think block: the expression `opening` (may be empty), any text, the closing marker, the text `after`."""
    behind = f" {literal(after)}" if after else ""
    front = f"{opening} " if opening else ""
    if closing is not None:
        return f"{front}{ANY_TEXT} <[{closing}]>{behind}"
    return f"{front}%lark {{\nstart: text\ntext[suffix={literal(spelling)}]: {ANY_TEXT}\n}}{behind}"


def ruled(
    answers: Sequence[str], lines: Sequence[str], *, think: str | None = None, must_think: bool = False
) -> Constraint:
    """Ruled from the first token: one of `answers`, whose rules are `lines`, behind the think block `think` if given.

    `must_think`: the block is open already (the generation prompt opened it) or the family always writes one.
    """
    answer = " | ".join(answers)
    if think is None:
        return _constraint([f"start: {answer}", *lines])
    optional = "" if must_think else "?"
    return _constraint([f"start: think{optional} answer", f"answer: {answer}", f"think: {think}", *lines])


def after_trigger(
    trigger: int | None, spelling: str, lines: Sequence[str], *, once: bool, think: str | None = None
) -> Constraint:
    """Free text; from the control token `trigger` on, or the text `spelling` where the vocabulary has none, the rule `call`.

    `think`: a block that may stand in front; only needed for a spelled trigger, behind which text holds no control token.
    """
    if trigger is not None:
        return _constraint(["start: call", *lines], trigger=trigger, once=once)
    start = "rest | opening call" if once else "(opening call)* rest"
    opening = f"opening[lazy]: {_regex('(?s:.*)' + _exactly(spelling))}"
    rules = [opening, f"rest: REST\nREST: {_lacking(spelling)}", *lines]
    if think is None:
        return _constraint([f"start: {start}", *rules])
    return _constraint(["start: think? answer", f"think: {think}", f"answer: {start}", *rules])


def without(token: int | None, spelling: str) -> Constraint:
    """Anything but this marker."""
    if token is not None:
        return _constraint([f"start: <[^{token}]>*"])
    return _constraint(["start: TEXT", f"TEXT: {_lacking(spelling)}"])


def _constraint(lines: Sequence[str], *, trigger: int | None = None, once: bool = False) -> Constraint:
    grammar = "\n".join(lines)
    return Constraint(grammar, trigger, once, LazyForm(grammar, trigger, once))


def _lacking(spelling: str) -> str:
    return f"{ANY_TEXT} & ~{_regex('(?s:.*)' + _exactly(spelling) + '(?s:.*)')}"


def _exactly(text: str) -> str:
    return write_pattern(Concat(tuple(character(char) for char in text)), "raw")


def _regex(source: str) -> str:
    return f"/{source}/"


def choices(name: str, expressions: Sequence[str]) -> str:
    """A rule that is one of `expressions`."""
    return f"{name}: {' | '.join(expressions)}"
